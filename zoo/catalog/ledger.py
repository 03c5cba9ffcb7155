"""Registry files: which weights exist, where they come from, what proves them. Data, never code.

Files lie in layers, later wins: shipped with the zoo < shipped by a plugin < `$ZOO_HOME/registry.toml` <
`./registry.toml` < `--registry FILE`. What a file may hold stands in `zoo.catalog.schema`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from zoo.catalog import schema
from zoo.catalog.edit import add_weights, remove_weights
from zoo.catalog.spec import Weights
from zoo.errors import NotFoundError, RegistryError

if TYPE_CHECKING:
    from zoo.settings import Settings

__all__ = ["LAYERS", "MAX_LINKS", "LedgerFile", "add_weights", "parse", "read", "remove_weights"]

#: The layers by rank; a higher one wins.
LAYERS: Final = ("shipped", "plugin", "user", "project", "given")
#: An alias may lead to an alias, this many times.
MAX_LINKS: Final = 8


@dataclass(frozen=True, slots=True)
class LedgerFile:
    """One registry file, read and checked."""

    path: Path
    layer: str
    weights: Mapping[str, Weights] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    disabled: tuple[str, ...] = ()
    required: tuple[str, ...] = ()

    @property
    def rank(self) -> int:
        """Place of the layer; a higher one wins."""
        return LAYERS.index(self.layer)


def read(path: Path, layer: str = "given", *, plugin: str = "") -> LedgerFile:
    """Read and check one registry file.

    Args:
        path: the file.
        layer: one of `LAYERS`. In "project", `file:` sources must stay inside the file's folder.
        plugin: the plugin that ships it, or "".

    Raises:
        NotFoundError: there is no such file.
        RegistryError: it breaks the schema; names file, line where known, key and the nearest valid key.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        raise NotFoundError(f"no registry file {path}") from None
    except UnicodeDecodeError as error:
        raise RegistryError(f"{path}: not UTF-8", why=str(error)) from None
    except OSError as error:
        raise NotFoundError(f"cannot read the registry file {path}", why=str(error)) from None
    return parse(text, path, layer, plugin=plugin)


def parse(text: str, path: Path, layer: str = "given", *, plugin: str = "") -> LedgerFile:
    """`read` for text that is, or will be, at `path`."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RegistryError(f"{path}: not TOML: {error}") from None
    try:
        return _checked(table, Path(os.path.abspath(path)), layer, plugin)
    except schema.FaultError as fault:
        line = line_of(text, fault.where)
        place = f"{path}, line {line}" if line else str(path)
        key = f" in {_header(fault.where[:-1])}" if len(fault.where) > 1 else ""
        raise RegistryError(f"{place}: {fault.message}{key}", hint=fault.hint) from None


def _checked(table: dict[str, Any], path: Path, layer: str, plugin: str) -> LedgerFile:
    schema.check_top(table)
    disabled, required = schema.read_plugins(table.get("plugins", {}))
    if layer == "plugin" and (disabled or required):
        raise schema.FaultError(("plugins",), "a plugin's own registry file may not say which plugins are loaded")
    inside = layer == "project"
    weights = {
        name: schema.read_weights(name, entry, path.parent, inside=inside, origin=str(path), plugin=plugin)
        for name, entry in table.get("weights", {}).items()
        if not name.startswith("x-")
    }
    defaults: dict[str, str] = {}
    for spec in weights.values():
        if spec.default and (other := defaults.setdefault(spec.backbone, spec.name)) != spec.name:
            where = ("weights", spec.name, "default")
            raise schema.FaultError(where, f"{other} is the default of {spec.backbone} already")
    aliases = {key: name for key, name in table.get("aliases", {}).items() if not key.startswith("x-")}
    return LedgerFile(path, layer, weights, schema.read_aliases(aliases), disabled, required)


# -- where the files are -----------------------------------------------------------------------------------------------


def shipped_path() -> Path | None:
    """The registry file that comes with the zoo: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).parents[1]
    return next((p for p in (package / "registry.toml", package.parent / "registry.toml") if p.is_file()), None)


def standard_paths(settings: Settings) -> list[tuple[str, Path]]:
    """(layer, file) of every standard layer that exists, lowest first; one file counts once.

    Raises:
        NotFoundError: `--registry` or `ZOO_REGISTRY` names no file.
    """
    found: list[tuple[str, Path]] = []
    if settings.registry is not None:
        if not settings.registry.is_file():
            raise NotFoundError(
                f"no registry file {settings.registry}", why="It was given by --registry or ZOO_REGISTRY."
            )
        found.append(("given", settings.registry))
    # Of one file in two layers, what was asked for by name counts, then the more trusted layer.
    for layer, path in (
        ("shipped", shipped_path()), ("user", settings.user_registry), ("project", Path("registry.toml")),
    ):  # fmt: skip
        if path is not None and path.is_file() and not any(path.samefile(other) for _, other in found):
            found.append((layer, Path(os.path.abspath(path))))
    return sorted(found, key=lambda pair: LAYERS.index(pair[0]))


def read_standard(settings: Settings) -> list[LedgerFile]:
    """The standard layers, lowest first."""
    return [read(path, layer) for layer, path in standard_paths(settings)]


def signature(paths: Iterable[Path]) -> tuple[tuple[int, int, int] | None, ...]:
    """What changes when any of the files does."""
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            stat = path.stat()
            found.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
        except OSError:
            found.append(None)
    return tuple(found)


# -- layers together ---------------------------------------------------------------------------------------------------


def merge_aliases(files: Iterable[LedgerFile]) -> dict[str, str]:
    """Alias -> name, later files win.

    Raises:
        RegistryError: aliases lead round in a circle, or through more than `MAX_LINKS` others.
    """
    merged: dict[str, str] = {}
    origin: dict[str, Path] = {}
    for file in files:
        for alias, name in file.aliases.items():
            merged[alias], origin[alias] = name, file.path
    for alias in merged:
        seen = [alias]
        while (step := merged.get(seen[-1])) is not None:
            if step in seen:
                raise RegistryError(f"{origin[alias]}: the aliases lead in a circle: {' -> '.join([*seen, step])}")
            seen.append(step)
            if len(seen) > MAX_LINKS + 1:
                raise RegistryError(f"{origin[alias]}: the alias {alias!r} leads through more than {MAX_LINKS} others")
    return merged


def follow(name: str, aliases: Mapping[str, str]) -> str:
    """The name behind an alias, or `name` itself."""
    while name in aliases:
        name = aliases[name]
    return name


# -- finding a line, only once something is wrong ----------------------------------------------------------------------


def line_of(text: str, where: tuple[str, ...]) -> int | None:
    """The line (from 1) of the key at `where`: the nearest table header or key that can be seen; None if none."""
    lines = text.splitlines()
    start, best = 0, None
    for depth in range(len(where), 0, -1):
        header = re.compile(r"\s*\[\[?\s*" + r"\s*\.\s*".join(_spellings(key) for key in where[:depth]) + r"\s*\]")
        if (at := next((n for n, line in enumerate(lines) if header.match(line)), None)) is not None:
            start, best, where = at + 1, at + 1, where[depth:]
            break
    for key in where:
        pattern = re.compile(r"(?:^|[{,])\s*(?:[\w\"'.-]+\.)?" + _spellings(key) + r"\s*[=.]")
        for n in range(max(start - 1, 0), len(lines)):
            if n >= start and best and lines[n].lstrip().startswith("["):
                break
            if pattern.search(lines[n]):
                start, best = n + 1, n + 1
                break
    return best


def _spellings(key: str) -> str:
    quoted = re.escape(key)
    return rf"""(?:{quoted}|"{quoted}"|'{quoted}')"""


def _header(where: tuple[str, ...]) -> str:
    parts = (key if re.fullmatch(r"[\w-]+", key, re.ASCII) else f'"{key}"' for key in where)
    return f"[{'.'.join(parts)}]"

"""Where plugins are found. Nothing of a plugin is imported here; `Candidate.load` does that later."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from zoo import __version__
from zoo.catalog.hookspecs import hookimpl
from zoo.catalog.installed import Distribution, installed
from zoo.catalog.spec import NAME, Backbone, Strategy
from zoo.errors import UsageError

#: Each module directly inside these packages is a built-in plugin, named as the module.
BUILTIN_PACKAGES: Final = ("zoo_plugins.backbones", "zoo_plugins.strategies", "zoo_plugins.trackers")
#: Modules of plugin files are imported under this prefix, so that none can hide another module.
FILE_MODULE: Final = "zoo_plugin_file_"


@dataclass(slots=True)
class Candidate:
    """A plugin that could be loaded.

    Args:
        name: its entry-point name, module name, file name, or the name it was registered under.
        origin: "built-in", "entry-point", "object" or "file".
        load: gives the plugin object; runs its code.
        where: module, file or class, for people.
        dist: the distribution that brings it, if one does.
        fault: why it cannot be loaded, where its metadata are damaged.
        shadowed_by: why it is not loaded, when an earlier one has its name.
    """

    name: str
    origin: str
    load: Callable[[], Any]
    where: str = ""
    dist: Distribution | None = None
    fault: str | None = None
    shadowed_by: str | None = None
    _version: str | None = field(default=None, repr=False)

    @property
    def distribution(self) -> str | None:
        """Name of the distribution that brings it."""
        return self.dist.name if self.dist is not None else None

    @property
    def version(self) -> str | None:
        """Version of the distribution, of the zoo for what is built in, else None."""
        if self.origin == "built-in":
            return __version__
        return self.dist.version if self.dist is not None else self._version

    @property
    def brought_by(self) -> str:
        """Distribution and version of what is not built in, `zoo-lora 0.3`; "" where nobody knows."""
        if self.origin == "built-in":
            return ""
        return " ".join(filter(None, (self.distribution, self.version)))

    @property
    def known_as(self) -> str:
        """For errors: `plugin 'lora' (zoo-lora 0.3)`."""
        return f"plugin {self.name!r}" + (f" ({self.brought_by})" if self.brought_by else "")

    @property
    def third_party(self) -> bool:
        """Found without being asked for by the caller, and not the zoo's own."""
        return self.origin in ("entry-point", "file")


def find(*, builtins: bool = True, entry_points: bool = True, folder: Path | None = None) -> list[Candidate]:
    """Every plugin that is installed or lies in `folder`, built-ins first; later ones of one name are shadowed."""
    found = [*(_builtins() if builtins else ()), *(_installed() if entry_points else ())]
    found += in_folder(folder) if folder is not None else ()
    first: dict[str, Candidate] = {}
    for one in found:
        if (other := first.setdefault(one.name, one)) is not one:
            one.shadowed_by = _taken(one, other)
    return found


def given(plugin: Any, name: str | None = None) -> Candidate:
    """A candidate for an object: a module, a class (made without arguments) or an instance; or for one spec.

    Raises:
        UsageError: `name` cannot be a plugin's name.
    """
    if isinstance(plugin, Backbone | Strategy):
        plugin, name = _OneSpec(plugin), plugin.name if name is None else name
    own = getattr(plugin, "__name__", None) or type(plugin).__name__
    chosen = name if name is not None else str(own).rpartition(".")[2]
    if not isinstance(chosen, str) or not NAME.fullmatch(chosen):
        raise UsageError(f"a plugin cannot be named {chosen!r}", why=f"A name matches {NAME.pattern}.")
    version = getattr(plugin, "__version__", None)
    kind = plugin if isinstance(plugin, type) or hasattr(plugin, "__file__") else type(plugin)
    where = f"{getattr(kind, '__module__', '')}:{getattr(kind, '__qualname__', own)}"
    if hasattr(plugin, "__file__"):
        where = str(own)
    load = plugin if isinstance(plugin, type) else lambda: plugin
    return Candidate(chosen, "object", load, where, _version=str(version) if version is not None else None)


class _OneSpec:
    """A plugin that gives one spec."""

    def __init__(self, spec: Backbone | Strategy) -> None:
        self.spec = spec

    @hookimpl
    def zoo_backbones(self) -> list[Backbone]:
        return [self.spec] if isinstance(self.spec, Backbone) else []

    @hookimpl
    def zoo_strategies(self) -> list[Strategy]:
        return [self.spec] if isinstance(self.spec, Strategy) else []


def in_folder(folder: Path) -> list[Candidate]:
    """The `*.py` files and packages of a folder, by name; those that begin with `_` or `.` are left alone.

    Raises:
        UsageError: no such folder, or others may write into it, or to one of its files.
    """
    if not folder.is_dir():
        raise UsageError(f"no plugin folder {folder}")
    _refuse_shared(folder)
    found = []
    for path in sorted(folder.iterdir()):
        source = path / "__init__.py" if path.is_dir() else path
        if path.name.startswith(("_", ".")) or source.suffix != ".py" or not source.is_file():
            continue
        for part in {path, source}:
            _refuse_shared(part)
        found.append(Candidate(path.stem, "file", _file_loader(path.stem, source), str(path)))
    return found


def _builtins() -> Iterator[Candidate]:
    import pkgutil

    for package in BUILTIN_PACKAGES:
        for module in sorted(pkgutil.iter_modules(importlib.import_module(package).__path__), key=lambda m: m.name):
            if not module.name.startswith("_"):
                target = f"{package}.{module.name}"
                yield Candidate(module.name, "built-in", _module_loader(target), target)


def _installed() -> Iterator[Candidate]:
    for one in installed():
        load = partial(_load_point, one.point)
        yield Candidate(one.name, "entry-point", load, one.value, one.distribution, one.fault)


def _load_point(point: Any) -> Any:
    found = point.load()
    return found() if isinstance(found, type) else found


def _module_loader(target: str) -> Callable[[], Any]:
    return lambda: importlib.import_module(target)


def _file_loader(name: str, source: Path) -> Callable[[], Any]:
    def load() -> Any:
        from importlib.util import module_from_spec, spec_from_file_location

        module_name = FILE_MODULE + name
        folder = [str(source.parent)] if source.name == "__init__.py" else None
        spec = spec_from_file_location(module_name, source, submodule_search_locations=folder)
        if spec is None or spec.loader is None:
            raise ImportError(f"cannot import {source}")
        module = module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(module_name, None)
            raise
        return module

    return load


def _refuse_shared(path: Path) -> None:
    if os.name == "posix" and path.stat().st_mode & 0o022:
        raise UsageError(
            f"others may write to {path}, so its plugins are not run", hint=f"Take that away: chmod go-w {path}"
        )


def _taken(one: Candidate, other: Candidate) -> str:
    """Why `one` is not loaded, `other` having its name."""
    if other.origin == "built-in":
        return "its name is taken by a built-in plugin"
    if one.dist is None or other.dist is None:
        return f"its name is taken by {other.where if other.dist is None else other.dist}"
    if one.dist.key != other.dist.key:
        return f"its name is taken by {other.dist}"
    if one.dist.place == other.dist.place and one.dist.version == other.dist.version:
        return f"{other.dist} has the entry point twice"
    return (
        f"it is installed twice: {other.dist} in {other.dist.place} is the one used, "
        f"{one.dist} in {one.dist.place} is not"
    )

"""registry.toml, schema 1: from parsed tables to specs, every key and type checked.

    schema = 1
    [plugins]                    disabled = ["a"], required = ["zoo-lora>=0.3"]
    [aliases]                    mine = "resnet18.tv_in1k"
    [weights."resnet18.tv_in1k"] backbone, source, and what else is known about the file

Keys that start with `x-` are yours: kept, and ignored here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from zoo.catalog import names
from zoo.catalog.near import nearest
from zoo.catalog.spec import SHA256, SHA256_PREFIX, Preprocessing, Weights, check_weights
from zoo.errors import RegistryError, UsageError

SCHEMA: Final = 1
TOP_KEYS: Final = ("schema", "plugins", "aliases", "weights")
PLUGIN_KEYS: Final = ("disabled", "required")
FILE_KEYS: Final = ("source", "name", "sha256", "sha256_prefix", "bytes", "role")
#: Those that mean the same for every kind; a reader's own keys go to `extra`.
SHARED_KEYS: Final = ("kind", "input_size", "mean", "std")
IMAGE_KEYS: Final = ("kind", "input_size", "mean", "std", "interpolation", "crop_pct", "crop_mode")
INTERPOLATIONS: Final = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
CROP_MODES: Final = ("center", "squash", "border")

_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]*):")
_HUB: Final = re.compile(r"hf://[\w.-]+/[\w.-]+@[\w.-]+/[\w.-]+(/[\w.-]+)*", re.ASCII)

Where = tuple[str, ...]


class FaultError(Exception):
    """A key that breaks the schema; the ledger adds file and line.

    Args:
        where: the keys that lead there.
        message: what is wrong with it.
    """

    def __init__(self, where: Where, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.where = where
        self.message = message
        self.hint = hint


def check_top(table: Mapping[str, Any]) -> None:
    """The schema's number and the names of the tables."""
    schema = table.get("schema")
    if type(schema) is not int:
        raise FaultError(("schema",), "`schema = 1` is missing" if schema is None else "schema must be an integer")
    if schema != SCHEMA:
        raise FaultError(("schema",), f"schema {schema} is not known here, only {SCHEMA}", "A newer zoo may read it.")
    _known(table, TOP_KEYS, ())
    for key in TOP_KEYS[1:]:
        if not isinstance(table.get(key, {}), dict):
            raise FaultError((key,), f"[{key}] must be a table")


def read_plugins(table: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The plugins that are (disabled, required)."""
    _known(table, PLUGIN_KEYS, ("plugins",))
    disabled, required = (_strings(table.get(key, []), ("plugins", key)) for key in PLUGIN_KEYS)
    for requirement in required:
        from packaging.requirements import InvalidRequirement, Requirement

        try:
            Requirement(requirement)
        except InvalidRequirement as error:
            raise FaultError(
                ("plugins", "required"), f"{requirement!r} is not a requirement: {error}", 'Write it as "name>=1.2".'
            ) from None
    return disabled, required


def read_aliases(table: Mapping[str, Any]) -> dict[str, str]:
    """Alias -> the name it stands for."""
    for alias, target in table.items():
        where = ("aliases", alias)
        if not isinstance(target, str):
            raise FaultError(where, f"an alias stands for a name, not for {_kind(target)}")
        for what, name in (("alias", alias), ("name", target)):
            try:
                parsed = names.parse(name)
            except UsageError as error:
                raise FaultError(where, f"the {what} {error.message}", error.why) from None
            if what == "alias" and (parsed.tag or parsed.plugin):
                raise FaultError(where, f"the alias {alias!r} may hold neither '.' nor '/'")
    return dict(table)


def read_weights(name: str, table: Any, folder: Path, *, inside: bool, origin: str, plugin: str) -> Weights:
    """One `[weights."arch.tag"]` table.

    Args:
        name: `arch.tag`.
        table: its keys.
        folder: where `file:` sources start.
        inside: whether `file:` sources must stay in `folder`.
        origin: the file, for people.
        plugin: the plugin that ships the file, or "".
    """
    where = ("weights", name)
    if not isinstance(table, dict):
        raise FaultError(where, f"[weights.{name!r}] must be a table", f'Quote the name: [weights."{name}.TAG"].')
    _known(table, tuple(_FIELDS), where)
    values: dict[str, Any] = {}
    for key, value in table.items():
        if not key.startswith("x-"):
            values[key] = _FIELDS[key](value, (*where, key))
    files = values["files"] = tuple(_located(one, folder, inside, where) for one in values.get("files", ()))
    if "source" in values:
        values["source"] = locate(values["source"], folder, inside, (*where, "source"))
    elif files:
        values["source"] = next((one["source"] for one in files if one.get("role") == "weights"), files[0]["source"])
    for key in ("backbone", "source"):
        if key not in values:
            raise FaultError(where, f"the key '{key}' is missing")
    spec = Weights(name=name, origin=origin, plugin=plugin, **values)
    try:
        check_weights(spec)
    except RegistryError as error:
        raise FaultError(where, error.message, error.hint) from None
    return spec


def locate(source: str, folder: Path, inside: bool, where: Where) -> str:
    """A source with `file:` made absolute; other schemes unchanged."""
    scheme = _SCHEME.match(source)
    if scheme is None:
        raise FaultError(where, f"the source {source!r} has no scheme", "Begin with hf://, https:// or file:.")
    if scheme[1] == "http":
        raise FaultError(where, "plain http proves nothing about who answers", "Use https://.")
    if scheme[1] == "hf" and (not _HUB.fullmatch(source) or ".." in source.split("/")):
        raise FaultError(where, f"{source!r} is not a Hub source", "Write hf://ORG/REPO@REVISION/FILE.")
    if scheme[1] != "file":
        return source
    written = source.removeprefix("file:")
    if written.startswith("//") and not written.startswith("///"):
        raise FaultError(where, f"{source!r} names another machine", "Write file:relative/path or file:/absolute/path.")
    if not written.strip("/") or "\0" in written:
        raise FaultError(where, f"{source!r} names no file")
    path = (folder / written).resolve()
    if inside and not path.is_relative_to(folder.resolve()):
        hint = "A project's registry may use files of its own folder."
        raise FaultError(where, f"{source!r} lies outside {folder}", hint)
    return f"file:{path.as_posix()}"


def read_preprocessing(table: Any, where: Where) -> Preprocessing:
    """A `preprocessing` table; `kind` decides which keys it may have."""
    table = _table(table, where)
    kind = _string(table.get("kind", "image"), (*where, "kind"))
    if kind != "image":
        shared = {key: _IMAGE[key](table[key], (*where, key)) for key in SHARED_KEYS if key in table}
        return Preprocessing(**shared, extra={key: value for key, value in table.items() if key not in shared})
    _known(table, IMAGE_KEYS, where)
    own = {key: value for key, value in table.items() if key.startswith("x-")}
    values: dict[str, Any] = {key: _IMAGE[key](value, (*where, key)) for key, value in table.items() if key not in own}
    if own:
        values["extra"] = own
    made = Preprocessing(**values)
    if len(made.input_size) != 3:
        raise FaultError((*where, "input_size"), "input_size must be [channels, height, width]")
    for key in ("mean", "std"):
        if len(getattr(made, key)) != made.input_size[0]:
            raise FaultError((*where, key), f"{key} must have one number for each of {made.input_size[0]} channels")
    return made


# -- one value ---------------------------------------------------------------------------------------------------------


def _string(value: Any, where: Where) -> str:
    if not isinstance(value, str) or not value:
        raise FaultError(where, f"{where[-1]} must be a non-empty string, not {_kind(value)}")
    return value


def _strings(value: Any, where: Where) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise FaultError(where, f"{where[-1]} must be a list of strings")
    return tuple(value)


def _boolean(value: Any, where: Where) -> bool:
    if not isinstance(value, bool):
        raise FaultError(where, f"{where[-1]} must be true or false, not {_kind(value)}")
    return value


def _count(value: Any, where: Where) -> int:
    if type(value) is not int or value <= 0:
        raise FaultError(where, f"{where[-1]} must be a positive integer, not {value!r}")
    return value


def _number(value: Any, where: Where) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise FaultError(where, f"{where[-1]} must be a finite number, not {value!r}")
    return value


def _table(value: Any, where: Where) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise FaultError(where, f"{where[-1]} must be a table, not {_kind(value)}")
    return value


def _numbers(value: Any, where: Where) -> tuple[float, ...]:
    if not isinstance(value, list) or not value:
        raise FaultError(where, f"{where[-1]} must be a list of numbers")
    return tuple(float(_number(item, where)) for item in value)


def _spread(value: Any, where: Where) -> tuple[float, ...]:
    numbers = _numbers(value, where)
    if min(numbers) <= 0:
        raise FaultError(where, f"{where[-1]} must be above zero")
    return numbers


def _size(value: Any, where: Where) -> tuple[int, ...]:
    if not isinstance(value, list) or not value:
        raise FaultError(where, f"{where[-1]} must be a list of positive integers")
    return tuple(_count(item, where) for item in value)


def _fraction(value: Any, where: Where) -> float:
    if not 0 < _number(value, where) <= 1:
        raise FaultError(where, f"{where[-1]} must be above 0 and at most 1, not {value!r}")
    return float(value)


def _one_of(choices: tuple[str, ...]) -> Callable[[Any, Where], str]:
    def check(value: Any, where: Where) -> str:
        if value not in choices:
            raise FaultError(where, f"{where[-1]} must be one of {', '.join(choices)}, not {value!r}")
        return str(value)

    return check


def _hash(pattern: re.Pattern[str], what: str) -> Callable[[Any, Where], str]:
    def check(value: Any, where: Where) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise FaultError(where, f"{where[-1]} must be {what}, not {value!r}")
        return value

    return check


def _options(value: Any, where: Where) -> dict[str, Any]:
    def scalar(item: Any) -> bool:
        return isinstance(item, str | bool | int) or (isinstance(item, float) and math.isfinite(item))

    for key, item in _table(value, where).items():
        if not scalar(item) and not (isinstance(item, list) and all(map(scalar, item))):
            message = f"the option {key} must be a string, a number, true, false or a list of these"
            raise FaultError((*where, key), message)
    return value


def _metrics(value: Any, where: Where) -> dict[str, float]:
    for key, item in _table(value, where).items():
        _number(item, (*where, key))
    return value


def _files(value: Any, where: Where) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value:
        raise FaultError(where, "files must be a list of tables")
    for item in value:
        _known(_table(item, where), FILE_KEYS, where)
        if "source" not in item:
            raise FaultError(where, "each of files needs a source")
        for key, one in item.items():
            if not key.startswith("x-"):
                _FILE[key](one, (*where, key))
    return value


def _located(one: Mapping[str, Any], folder: Path, inside: bool, where: Where) -> dict[str, Any]:
    return {**one, "source": locate(one["source"], folder, inside, (*where, "files", "source"))}


_sha256 = _hash(SHA256, "64 hexadecimal digits in lower case")
_prefix = _hash(SHA256_PREFIX, "6 to 64 hexadecimal digits in lower case")

_FIELDS: Final[dict[str, Callable[[Any, Where], Any]]] = {
    "backbone": _string,
    "source": _string,
    "default": _boolean,
    "sha256": _sha256,
    "sha256_prefix": _prefix,
    "bytes": _count,
    "license": _string,
    "trained_on": _string,
    "num_classes": _count,
    "options": _options,
    "metrics": _metrics,
    "preprocessing": read_preprocessing,
    "files": _files,
}
_FILE: Final[dict[str, Callable[[Any, Where], Any]]] = {
    "source": _string, "name": _string, "sha256": _sha256, "sha256_prefix": _prefix, "bytes": _count,
    "role": _string,
}  # fmt: skip
_IMAGE: Final[dict[str, Callable[[Any, Where], Any]]] = {
    "kind": _string,
    "input_size": _size,
    "mean": _numbers,
    "std": _spread,
    "interpolation": _one_of(INTERPOLATIONS),
    "crop_pct": _fraction,
    "crop_mode": _one_of(CROP_MODES),
}


def _known(table: Mapping[str, Any], keys: Iterable[str], where: Where) -> None:
    for key in table:
        if key not in keys and not key.startswith("x-"):
            keys = tuple(keys)
            near = nearest(key, keys, 1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known here: {', '.join(keys)}."
            raise FaultError((*where, key), f"unknown key {key!r}", hint)


def _kind(value: Any) -> str:
    kinds = {bool: "a boolean", int: "an integer", float: "a number", str: "a string", list: "a list", dict: "a table"}
    return "an empty string" if value == "" else kinds.get(type(value), f"a {type(value).__name__}")

"""Hyper-parameters of a strategy: the names, types and ranges of its fields, checked in one place."""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final

from zoo.catalog.near import nearest
from zoo.errors import UsageError

_WORDS: Final[dict[Any, str]] = {
    int: "a whole number",
    float: "a finite number",
    str: "a word",
    bool: "true or false",
    type(None): "null",
}


def check_names(make: Any, name: str, options: Mapping[str, Any]) -> None:
    """Raise `UsageError`, with the near ones, for an option that the dataclass `make` has no field for.

    Args:
        make: the dataclass.
        name: of the strategy, for the message.
        options: field -> value.
    """
    known = [field.name for field in dataclasses.fields(make) if field.init]
    for option in options:
        if option not in known:
            near = nearest(option, known)
            raise UsageError(
                f"strategy {name!r} has no option {option!r}",
                hint=f"Did you mean {' or '.join(near)}?" if near else f"Options: {', '.join(known) or 'none'}.",
            )


def check_types(strategy: Any) -> None:
    """Raise `UsageError` for a field of a dataclass whose value is not of its annotated type.

    Unions and literals are looked into, containers are not; a float must be finite, and a bool is no number.
    """
    hints = _hints(type(strategy))
    for field in dataclasses.fields(strategy):
        value, hint = getattr(strategy, field.name), hints.get(field.name, Any)
        if field.init and not _fits(value, hint):
            raise UsageError(f"{field.name} must be {_say(hint)}, not {value!r}")


def positive(strategy: Any, *names: str) -> None:
    """Raise `UsageError` unless these options are above 0, or None."""
    for name in names:
        value = getattr(strategy, name)
        if value is not None and not value > 0:
            raise UsageError(f"{name} must be above 0, not {value!r}")


def at_least_zero(strategy: Any, *names: str) -> None:
    """Raise `UsageError` unless these options are 0 or more."""
    for name in names:
        if not getattr(strategy, name) >= 0:
            raise UsageError(f"{name} must be 0 or more, not {getattr(strategy, name)!r}")


def below_one(strategy: Any, *names: str) -> None:
    """Raise `UsageError` unless these options are in [0, 1)."""
    for name in names:
        if not 0 <= getattr(strategy, name) < 1:
            raise UsageError(f"{name} must be in [0, 1), not {getattr(strategy, name)!r}")


def one_of(strategy: Any, name: str, *choices: Any) -> None:
    """Raise `UsageError` unless the option is one of `choices`."""
    value = getattr(strategy, name)
    if value not in choices:
        raise UsageError(f"{name} must be one of {', '.join(map(str, choices))}, not {value!r}")


def _hints(make: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(make)
    except NameError:  # a plugin's annotation that exists for type checkers only
        return {}


def _fits(value: Any, hint: Any) -> bool:
    if hint is Any:
        return True
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in typing.get_args(hint))
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    kind = origin or hint
    if isinstance(value, bool):
        return kind in (bool, object)
    if kind is float:
        return isinstance(value, (int, float)) and abs(value) <= sys.float_info.max
    return isinstance(value, kind) if isinstance(kind, type) else True


def _say(hint: Any) -> str:
    """The type in words: "a whole number or null"."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_say(part) for part in typing.get_args(hint))
    if origin is typing.Literal:
        return " or ".join(map(repr, typing.get_args(hint)))
    if origin is Callable:
        return "a callable"
    return _WORDS[hint] if hint in _WORDS else getattr(hint, "__name__", str(hint))

"""What a fit was called with, in words that a later process can call it with again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from zoo.adapt.rows import SPLITS
from zoo.catalog.names import is_path
from zoo.data import builtin
from zoo.errors import UsageError
from zoo.settings import expanded

#: The key of what cannot be said in words: an array, a module.
OBJECT: Final = "object"
#: Words that stand for data where a place could.
_WORDS: Final = (*SPLITS, "rest")


def word(value: Any) -> Any:
    """A JSON value (of mappings those of names to numbers; lists of such), or {"object": its type}."""
    if isinstance(value, Path):
        return os.path.abspath(expanded(value))
    if isinstance(value, (str, int, float, type(None))):
        return value
    if isinstance(value, Mapping) and all(
        isinstance(name, str) and type(one) in (int, float) for name, one in value.items()
    ):
        return dict(value)
    if isinstance(value, (list, tuple)) and not any(isinstance(word(one), Mapping) for one in value):
        return [word(one) for one in value]
    return {OBJECT: type(value).__name__}


def place(value: Any) -> Any:
    """As `word`, for data: a path is made absolute, so that the working directory does not matter.

    Of lists and pairs only those of paths are words: samples themselves (texts, labels) are no part of a record.
    """
    if isinstance(value, (list, tuple)):
        return [place(one) for one in value] if value and all(map(_is_there, value)) else {OBJECT: type(value).__name__}
    if isinstance(value, str) and value not in _WORDS and not builtin.is_builtin(value):
        path = expanded(value)
        return os.path.abspath(path) if path.exists() or is_path(value) else value
    return word(value)


def _is_there(value: Any) -> bool:
    """Whether it is the path of something."""
    try:
        return isinstance(value, (str, os.PathLike)) and expanded(value).exists()
    except (OSError, ValueError, UsageError):  # a long text, a zero byte, nobody's home
        return False


def weights(value: Any) -> Any:
    """As `word`, for weights: only what is written as a path is one."""
    return os.path.abspath(expanded(value)) if isinstance(value, str) and is_path(value) else word(value)


def objects(call: Mapping[str, Any]) -> list[str]:
    """What a call was given that only its caller can give again."""
    return [name for name, value in call.items() if isinstance(value, Mapping) and isinstance(value.get(OBJECT), str)]

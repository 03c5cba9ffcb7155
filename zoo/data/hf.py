"""Hugging Face `Dataset` and `DatasetDict` as records. `datasets` is never imported here."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from zoo.data.assemble import SPLIT_NAMES
from zoo.data.frames import MEDIA, LazyCells
from zoo.data.records import Records
from zoo.errors import DataError, UsageError

#: Names that a column of targets has there.
LABELS: Final = ("label", "labels", "target", "fine_label", "class")


def read_hf(source: Any) -> tuple[Records, list[str] | None]:
    """Records of a `Dataset` or a `DatasetDict`, and the split of each row where the source is divided.

    Raises:
        UsageError: an iterable (streamed) data set.
        DataError: no rows, columns that differ between splits, or a split of another name than train, val, test.
    """
    kind = type(source).__name__
    if kind.startswith("Iterable"):
        raise UsageError(
            f"a streamed {kind} has no length and no order", hint="Load it without streaming=True, or take part of it."
        )
    divided = isinstance(source, dict)
    parts: dict[str, Any] = dict(source) if divided else {"data": source}
    if not parts or not any(len(part) for part in parts.values()):
        raise DataError(f"the {kind} is empty: it has no samples")
    splits = [_split_name(name) for name, part in parts.items() for _ in range(len(part))] if divided else None
    features = next(iter(parts.values())).features
    for name, part in parts.items():
        if list(part.features) != list(features):
            raise DataError(
                f"the splits of the {kind} have different columns",
                why=f"{next(iter(parts))} has {', '.join(features)}; {name} has {', '.join(part.features)}.",
                hint="Give both the same: remove_columns, rename_column.",
            )
    media = {name: MEDIA[type(one).__name__] for name, one in features.items() if type(one).__name__ in MEDIA}
    reader: dict[str, Callable[[], Sequence[Any]]] = {
        name: functools.partial(_Media if name in media else _plain, list(parts.values()), name) for name in features
    }
    ends, names = _ends(parts.values()), list(parts)

    def place(row: int) -> str:
        part, inner = _find(ends, row)
        return f"row {inner} of {names[part]}"

    classes = {name: tuple(found) for name, one in features.items() if (found := getattr(one, "names", None))}
    return Records(
        kind, "", tuple(features), LazyCells(reader), int(ends[-1]), place, names=classes, media=media
    ), splits


def columns(source: Any) -> list[str]:
    """Names of the columns of a `Dataset`, or of the first part of a `DatasetDict`."""
    parts = list(source.values()) if isinstance(source, dict) else [source]
    return list(parts[0].features or ()) if parts else []


class _Media(Sequence[Any]):
    """A column of pictures or recordings of several data sets, one after the other, as {"bytes", "path"}."""

    def __init__(self, parts: list[Any], column: str) -> None:
        self._parts = [_encoded(part, column) for part in parts]
        self._column = column
        self._ends = _ends(parts)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, row: Any) -> Any:
        part, inner = _find(self._ends, row)
        return self._parts[part][inner][self._column]


def _encoded(part: Any, column: str) -> Any:
    feature = type(part.features[column])(decode=False)
    return part.with_format(None).select_columns([column]).cast_column(column, feature)


def _plain(parts: list[Any], column: str) -> list[Any]:
    return [cell for part in parts for cell in part.with_format(None).select_columns([column])[:][column]]


def _ends(parts: Any) -> np.ndarray:
    return np.cumsum([len(part) for part in parts])


def _find(ends: np.ndarray, row: int) -> tuple[int, int]:
    part = int(np.searchsorted(ends, row, side="right"))
    return part, row - (int(ends[part - 1]) if part else 0)


def _split_name(name: str) -> str:
    if name.lower() not in SPLIT_NAMES:
        raise DataError(f"{name!r} is no split", hint="Name the splits train, validation and test.")
    return SPLIT_NAMES[name.lower()]

"""Hugging Face `Dataset` and `DatasetDict`: an image column and a label column. `datasets` is never imported here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from zoo.data.assemble import SPLIT_NAMES, Rows
from zoo.data.files import EncodedSamples
from zoo.errors import DataError, UsageError

_LABELS: Final = ("label", "labels", "target", "fine_label", "class")


class HfSamples(EncodedSamples):
    """The encoded images of one or several data sets, one after the other.

    Args:
        parts: data sets whose image column is cast to `Image(decode=False)`: {"bytes": ..., "path": ...} a row.
        column: its name.
        names: of the splits, for messages.
    """

    def __init__(self, parts: list[Any], column: str, names: list[str]) -> None:
        super().__init__()
        self._parts = parts
        self._column = column
        self._names = names
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def content(self, row: int) -> bytes:
        """The file's bytes."""
        part, inner = self._find(row)
        cell = self._parts[part][inner][self._column]
        if cell is None:
            raise DataError("there is no image", hint="Filter such rows out.")
        return cell["bytes"] if cell["bytes"] is not None else Path(cell["path"]).read_bytes()

    def location(self, row: int) -> str:
        part, inner = self._find(row)
        return f"row {inner} of {self._names[part]}"

    def _find(self, row: int) -> tuple[int, int]:
        part = int(np.searchsorted(self._ends, row, side="right"))
        return part, row - (int(self._ends[part - 1]) if part else 0)


def read_hf(source: Any, *, labelled: bool = True, group_by: str | None = None) -> Rows:
    """Read a `Dataset` or a `DatasetDict` with an image column and a label column.

    Raises:
        UsageError: an iterable (streamed) data set.
        DataError: no image column, no label column, or a split of another name than train, val, test.
    """
    kind = type(source).__name__
    if kind.startswith("Iterable"):
        raise UsageError(
            f"a streamed {kind} has no length and no order", hint="Load it without streaming=True, or take part of it."
        )
    divided = isinstance(source, dict)
    parts = dict(source) if divided else {"data": source}
    if not parts or not any(len(part) for part in parts.values()):
        raise DataError(f"the {kind} is empty: it has no samples")
    features = next(iter(parts.values())).features
    image = _image_column(features)
    label = _label_column(features, labelled)
    splits = [_split_name(name) for name, part in parts.items() for _ in range(len(part))] if divided else None
    labels = None if label is None else [value for part in parts.values() for value in part[label]]
    return Rows(
        kind,
        HfSamples([_encoded(part, image) for part in parts.values()], image, list(parts)),
        _plain(labels, label),
        splits,
        groups=_groups(parts, features, group_by),
        classes=tuple(names) if label and (names := getattr(features[label], "names", None)) else None,
    )


def columns(source: Any) -> list[str]:
    """Names of the columns of a `Dataset`, or of the first part of a `DatasetDict`."""
    parts = list(source.values()) if isinstance(source, dict) else [source]
    return list(parts[0].features or ()) if parts else []


def _groups(parts: dict[str, Any], features: Any, column: str | None) -> list[Any] | None:
    if column is None:
        return None
    if column not in features:
        raise DataError(f"no column {column!r} to group by", why=f"The columns are: {', '.join(features)}.")
    return [value for part in parts.values() for value in part[column]]


def _encoded(part: Any, column: str) -> Any:
    feature = type(part.features[column])(decode=False)
    return part.with_format(None).select_columns([column]).cast_column(column, feature)


def _image_column(features: Any) -> str:
    found = [name for name, feature in features.items() if type(feature).__name__ == "Image"]
    if len(found) != 1:
        raise DataError(
            f"{len(found)} image columns: {', '.join(found)}" if found else "no image column",
            why=f"The columns are: {', '.join(features)}.",
            hint="Keep one column of type Image: cast_column('picture', datasets.Image()).",
        )
    return found[0]


def _label_column(features: Any, labelled: bool) -> str | None:
    found = [name for name, feature in features.items() if type(feature).__name__ == "ClassLabel"]
    if len(found) != 1:
        found = [name for name in _LABELS if name in features][:1]
    if found or not labelled:
        return found[0] if found else None
    raise DataError(
        "no label column",
        why=f"The columns are: {', '.join(features)}.",
        hint="Name it 'label': rename_column('kind', 'label').",
    )


def _plain(labels: list[Any] | None, column: str | None) -> Any:
    if labels is None:
        return None
    absent = [row for row, label in enumerate(labels) if label is None]
    if absent:
        raise DataError(f"{len(absent)} rows have no {column}, the first is row {absent[0]}", hint="Filter them out.")
    if isinstance(labels[0], str):
        return labels
    return np.asarray(labels)


def _split_name(name: str) -> str:
    if name.lower() not in SPLIT_NAMES:
        raise DataError(f"{name!r} is no split", hint="Name the splits train, validation and test.")
    return SPLIT_NAMES[name.lower()]

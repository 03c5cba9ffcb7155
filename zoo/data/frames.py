"""Tables in memory as `Records`: pandas, pyarrow, and whatever speaks Arrow (polars). pandas is never imported here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from zoo.data.records import Records
from zoo.errors import UsageError

#: Hugging Face's features of files -> what they hold.
MEDIA: Final = {"Image": "image", "Audio": "audio"}


class LazyCells(Mapping[str, Sequence[Any]]):
    """Columns that are read when they are asked for, and kept."""

    def __init__(self, readers: Mapping[str, Callable[[], Sequence[Any]]]) -> None:
        self._readers = readers
        self._read: dict[str, Sequence[Any]] = {}

    def __getitem__(self, name: str) -> Sequence[Any]:
        if name not in self._read:
            self._read[name] = self._readers[name]()
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


def is_frame(source: Any) -> bool:
    """Whether it is a table: a pandas DataFrame, a pyarrow Table, or another that gives itself as Arrow."""
    return _is_pandas(source) or (
        hasattr(source, "__arrow_c_stream__") and (hasattr(source, "column_names") or hasattr(source, "columns"))
    )


def frame_columns(source: Any) -> list[str]:
    """Names of the columns of what `is_frame` knows."""
    return [str(name) for name in getattr(source, "column_names", None) or source.columns]


def from_frame(source: Any) -> Records:
    """Records of what `is_frame` knows.

    Raises:
        UsageError: a table that is neither pandas' nor pyarrow's, without pyarrow to read it.
    """
    where = f"the {type(source).__name__}"
    if _is_pandas(source):
        return _from_pandas(source, where)
    if type(source).__module__.partition(".")[0] != "pyarrow" or not hasattr(source, "schema"):
        try:
            import pyarrow
        except ImportError as error:
            raise UsageError(
                f"{where} is read by the package pyarrow", hint="Install it: pip install 'transfer-zoo[parquet]'."
            ) from error
        source = pyarrow.table(source)
    return from_arrow(source, type(source).__name__, where)


def from_arrow(table: Any, name: str, where: str, *, path: Path | None = None) -> Records:
    """Records of a pyarrow Table; rows count from 0. What Hugging Face's data sets note of their columns is heeded.

    Args:
        table: a `pyarrow.Table`, or a record batch.
        name, where, path: as in `Records`.
    """
    features = _features(table.schema.metadata)
    media = {one: MEDIA[kind] for one in features if (kind := features[one].get("_type")) in MEDIA}
    return Records(
        name,
        where,
        tuple(table.column_names),
        LazyCells({one: _reader(table, number, one in media) for number, one in enumerate(table.column_names)}),
        table.num_rows,
        "row {}".format,
        names={one: tuple(facts["names"]) for one, facts in features.items() if facts.get("_type") == "ClassLabel"},
        media=media,
        path=path,
    )


def _reader(table: Any, number: int, media: bool) -> Callable[[], Sequence[Any]]:
    return (lambda: _Scalars(table.column(number))) if media else table.column(number).to_pylist


class _Scalars(Sequence[Any]):
    """An Arrow column whose cells are large: one is made Python's own when it is asked for."""

    def __init__(self, column: Any) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, row: Any) -> Any:
        return self._column[row].as_py()


def _features(metadata: Mapping[bytes, bytes] | None) -> dict[str, dict[str, Any]]:
    """Column -> what Hugging Face's `datasets` wrote of it into the schema."""
    try:
        found = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return {name: facts for name, facts in found.items() if isinstance(facts, dict)} if isinstance(found, dict) else {}


def _from_pandas(frame: Any, where: str) -> Records:
    header = frame_columns(frame)
    labels = frame.index.tolist()
    readers = {name: frame.iloc[:, number].tolist for number, name in enumerate(header)}
    place = lambda row: f"row {labels[row]}"  # noqa: E731
    return Records("DataFrame", where, tuple(header), LazyCells(readers), len(frame), place)


def _is_pandas(source: Any) -> bool:
    return type(source).__module__.partition(".")[0] == "pandas" and hasattr(source, "columns")

"""Samples that are cells or rows of records: texts, rows of a table, files kept in a column."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from zoo.data.dataset import Samples, Unreadable
from zoo.data.files import FORMATS, EncodedSamples
from zoo.data.fingerprint import of_bytes
from zoo.data.records import HALF, Column, Records, is_unicode
from zoo.errors import DataError

_json: Final = json.JSONEncoder(separators=(",", ":")).encode
#: Whole numbers up to here are the same as a number with a point.
_EXACT: Final = 2**53


class TextSamples(Samples):
    """Texts; a raw sample is a `str`.

    Args:
        texts: one a row; None = an empty cell.
        records: where they come from, if from a column.
        column: its name.
    """

    kind = "text"
    noun = "text"
    nouns = "texts"

    def __init__(self, texts: Sequence[str | None], records: Records | None = None, column: str | None = None) -> None:
        self._texts = texts
        self.records = records
        self._column = column

    def __len__(self) -> int:
        return len(self._texts)

    def raw(self, row: int, shorter: int | None = None) -> str:
        return self._texts[row] or ""

    def digest(self, row: int) -> str:
        """sha256 of the text in UTF-8, in hex."""
        return of_bytes(self.raw(row).encode("utf-8", "surrogatepass"))

    def verify(self) -> list[tuple[int, Unreadable]]:
        """The empty ones, and those that are no Unicode."""
        problems = ((row, self._problem(row)) for row in range(len(self)))
        return [(row, Unreadable(self.location(row), reason)) for row, reason in problems if reason]

    def _problem(self, row: int) -> str:
        text = self.raw(row)
        if not text.strip():
            return "the text is empty"
        return "" if is_unicode(text) else HALF

    def location(self, row: int) -> str:
        return f"text {row}" if self.records is None else self.records.location(row, self._column)

    def named(self, row: int) -> str | None:
        return None if self.records is None else self.records.location(row)


class TableSamples(Samples):
    """Rows of a table; a raw sample is a mapping of column -> cell: str, int, float, bool, or None where it is empty.

    Args:
        records: where they come from.
        columns: those to learn from, in order.

    Attributes:
        columns: name -> column, with its type and all of its cells.
    """

    kind = "table"
    noun = "row"
    nouns = "rows"

    def __init__(self, records: Records, columns: Sequence[Column]) -> None:
        self.records = records
        self.columns: Mapping[str, Column] = {one.name: one for one in columns}
        self._digests: dict[int, str] = {}
        ordered = sorted(columns, key=lambda one: one.name)
        self._begun = hashlib.sha256(_json([one.name for one in ordered]).encode())
        self._ordered = [one.cells for one in ordered]

    def __len__(self) -> int:
        return len(self.records)

    def raw(self, row: int, shorter: int | None = None) -> dict[str, Any]:
        return {name: column.cells[row] for name, column in self.columns.items()}

    def digest(self, row: int) -> str:
        """sha256, in hex, of two lists in JSON: the names, sorted, and their cells; 3 and 3.0 are the same cell."""
        if row not in self._digests:
            digest = self._begun.copy()
            digest.update(_json([_plain(cells[row]) for cells in self._ordered]).encode())
            self._digests[row] = digest.hexdigest()
        return self._digests[row]

    def location(self, row: int) -> str:
        return self.records.location(row)

    def named(self, row: int) -> str:
        return self.location(row)


def _plain(cell: Any) -> Any:
    return float(cell) if type(cell) is int and abs(cell) <= _EXACT else cell


class MediaSamples(EncodedSamples):
    """Pictures or recordings that lie in a column, each as {"bytes": ..., "path": ...}.

    Args:
        records: where they come from.
        column: the name of the column; `records.media` says what it holds.
    """

    def __init__(self, records: Records, column: str) -> None:
        super().__init__(next(one for one in FORMATS if one.kind == records.media[column]))
        self.records = records
        self._cells = records.cells[column]

    def __len__(self) -> int:
        return len(self.records)

    def content(self, row: int) -> bytes:
        """The file's bytes."""
        cell = self._cells[row]
        content, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, Mapping) else (None, cell)
        if content is not None:
            return bytes(content)
        if not path:
            raise DataError(f"there is no {self.format.noun}", hint="Filter such rows out.")
        base = self.records.path.parent if self.records.path is not None else Path()
        return (base / path).read_bytes()

    def location(self, row: int) -> str:
        return self.records.location(row)

    def named(self, row: int) -> str:
        return self.location(row)

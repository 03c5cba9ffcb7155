"""Named columns of cells: what a CSV, TSV, JSON lines or Parquet file holds, or a table in memory."""

from __future__ import annotations

import csv
import decimal
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from zoo.data.utf8 import decode
from zoo.errors import DataError, UsageError

#: Types of a column. `LABELS`: lists of names.
INTEGER: Final = "integer"
NUMBER: Final = "number"
BOOLEAN: Final = "boolean"
TEXT: Final = "text"
EMPTY: Final = "empty"
LABELS: Final = "labels"

#: Names of columns that mean something.
MEANING: Final = ("path", "text", "label", "split")

#: A number as people write it; with a zero ahead ("007") it is a code, and no number.
_NUMBER: Final = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_INTEGER: Final = re.compile(r"[+-]?(?:0|[1-9][0-9]*)", re.ASCII)
_BOOLEANS: Final = {"true": True, "false": False}
#: What stands for an empty cell in a written column whose other cells are numbers.
_MISSING: Final = frozenset({"na", "n/a", "#n/a", "nan", "null", "none", "?"})
#: What is wrong with text that is no Unicode.
HALF: Final = "half a character (a lone surrogate)"
#: Whole numbers beyond are read as numbers with a point.
_LARGEST: Final = 2**63


@dataclass(frozen=True, eq=False)
class Column:
    """One column.

    Attributes:
        name: of the column.
        type: `INTEGER`, `NUMBER`, `BOOLEAN`, `TEXT`, `LABELS`, or `EMPTY` where no cell holds anything.
        cells: one a row: int, float, bool, str or list of str, as the type says; None = empty.
        note: what a person should know of how it was read; empty = nothing.
    """

    name: str
    type: str
    cells: Sequence[Any]
    note: str = ""


@dataclass(frozen=True, eq=False)
class Records:
    """Rows of named cells.

    Attributes:
        name: of the data set, short.
        where: what holds them, for messages: a file's path, "the DataFrame"; empty where `place` says it all.
        header: names of the columns, in order; one may be there twice.
        cells: name -> cells as they were read, one a row.
        rows: how many there are.
        place: row, from 0 -> what people call it: "row 7", "line 7", "row 6 of validation".
        written: whether cells are text, whose meaning is told from all cells of a column (CSV, TSV).
        names: columns of integers that stand for names, and these.
        media: columns whose cells are files, and what the files are: "image" or "audio".
        path: of the file.
    """

    name: str
    where: str
    header: tuple[str, ...]
    cells: Mapping[str, Sequence[Any]]
    rows: int
    place: Callable[[int], str]
    written: bool = False
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    media: Mapping[str, str] = field(default_factory=dict)
    path: Path | None = None
    _columns: dict[str, Column] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return self.rows

    def location(self, row: int, column: str | None = None) -> str:
        """Where a cell, or a row, is: "FILE, row 7, column age"."""
        at = f"{self.where}, {self.place(row)}" if self.where else self.place(row)
        return at if column is None else f"{at}, column {column}"

    @property
    def head(self) -> str:
        """Where the names of the columns are."""
        return f"{self.where}, row 1" if self.written else self.where or self.name

    def find(self, name: str, *, own: bool = False) -> str | None:
        """The column of this name, capitals or not; None where there is none.

        Args:
            name: with capitals or without.
            own: a person named it: one that is written exactly so comes first.

        Raises:
            DataError: the column is there twice.
        """
        for alike in ([lambda one: one == name] if own else []) + [lambda one: one.lower() == name.strip().lower()]:
            found = [one for one in self.header if alike(one)]
            if len(found) > 1:
                raise DataError(f"{self.head}: the column {found[0]} is there twice", hint="Take one of them out.")
            if found:
                return found[0]
        return None

    @property
    def headless(self) -> bool:
        """Whether the first row seems to be data rather than names."""
        return self.written and any(_NUMBER.fullmatch(name) for name in self.header)

    def listed(self) -> str:
        """The header, for messages."""
        return f"The header is: {', '.join(self.header) or 'empty'}."

    def column(self, name: str) -> Column:
        """One column, its type told from all of its cells.

        Raises:
            DataError: cells of several types, or of one that no cell of a table has; named by row and column.
        """
        if name not in self._columns:
            self._columns[name] = self._named(name) if name in self.names else self._typed(name)
        return self._columns[name]

    def _named(self, name: str) -> Column:
        names = self.names[name]
        cells = [None if code is None or code < 0 else names[code] for code in self.cells[name]]
        return Column(name, TEXT, cells)

    def _typed(self, name: str) -> Column:
        return _read_written(self, name) if self.written else _read_typed(self, name)


# -- types ----------------------------------------------------------------------------------------------------------


def _read_written(records: Records, name: str) -> Column:
    """A column of text: numbers or truth values where all of its cells are."""
    cells = [cell.strip() for cell in records.cells[name]]
    kinds = {cell: _written_as(cell) for cell in set(cells)}
    found = set(kinds.values()) - {EMPTY}
    if not found:
        return Column(name, EMPTY, [None] * len(cells))
    words = [cell for cell, kind in kinds.items() if kind == TEXT]
    numbers = found <= {INTEGER, NUMBER, TEXT} and found != {TEXT}
    marks = [word for word in words if word.lower() in _MISSING]
    if numbers and len(marks) == len(words):
        read: Callable[[str], Any] = int if NUMBER not in found else float
        values = {cell: None if kind in (EMPTY, TEXT) else read(cell) for cell, kind in kinds.items()}
        lost = sum(cell in marks for cell in cells)
        note = f"column {name}: {', '.join(map(repr, sorted(marks)))} in {lost} cells is read as empty" if lost else ""
        return Column(name, INTEGER if read is int else NUMBER, [values[cell] for cell in cells], note)
    if found == {BOOLEAN}:
        truth = {cell: _BOOLEANS.get(cell.lower()) for cell in kinds}
        return Column(name, BOOLEAN, [truth[cell] for cell in cells])
    texts = {cell: cell or None for cell in kinds}  # equal words share one string
    note = ""
    if numbers:
        odd = next(row for row, cell in enumerate(cells) if kinds[cell] == TEXT and cell.lower() not in _MISSING)
        count = sum(kinds[cell] == TEXT for cell in cells)
        note = (
            f"column {name} is read as words: {count} of {len(cells)} cells are no numbers, the first is "
            f"{cells[odd]!r} in {records.place(odd)}"
        )
    return Column(name, TEXT, [texts[cell] for cell in cells], note)


def _written_as(cell: str) -> str:
    if not cell:
        return EMPTY
    if cell.lower() in _BOOLEANS:
        return BOOLEAN
    if not _NUMBER.fullmatch(cell) or not math.isfinite(float(cell)):
        return TEXT
    return INTEGER if _INTEGER.fullmatch(cell) and abs(int(cell)) < _LARGEST else NUMBER


def _read_typed(records: Records, name: str) -> Column:
    """A column of values: all numbers, all texts, all truth values, or all lists of names."""
    cells = [_value(cell) for cell in records.cells[name]]
    found: dict[str, int] = {}
    for row, cell in enumerate(cells):
        found.setdefault(_type_of(records, row, name, cell), row)
    found.pop(EMPTY, None)
    if not found:
        return Column(name, EMPTY, cells)
    if set(found) == {INTEGER, NUMBER}:
        return Column(name, NUMBER, [None if cell is None else float(cell) for cell in cells])
    if len(found) > 1:
        (first, above), (second, row) = sorted(found.items(), key=lambda one: one[1])[:2]
        raise DataError(
            f"{records.location(row, name)}: {_short(cells[row])} is {_a(second)}, but {_short(cells[above])} in "
            f"{records.place(above)} is {_a(first)}",
            hint="Write all cells of a column as one kind.",
        )
    return Column(name, next(iter(found)), cells)


def _value(cell: Any) -> Any:
    """A cell as Python's own value; NaN and other marks of what is missing as None."""
    if hasattr(cell, "item") and getattr(cell, "ndim", 1) == 0:
        cell = cell.item()
    if isinstance(cell, decimal.Decimal):
        cell = float(cell)
    if type(cell) in (str, int, bool, list, tuple, dict):
        return cell
    try:
        return None if cell is None or cell != cell else cell
    except TypeError:  # pandas' NA refuses to say
        return None


def _type_of(records: Records, row: int, name: str, cell: Any) -> str:
    if cell is None:
        return EMPTY
    if isinstance(cell, bool):
        return BOOLEAN
    if isinstance(cell, int):
        return INTEGER if abs(cell) < _LARGEST else _refuse(records, row, name, "a number beyond 64 bits")
    if isinstance(cell, float):
        return NUMBER if math.isfinite(cell) else _refuse(records, row, name, f"{cell} is no finite number")
    if isinstance(cell, str):
        return TEXT if is_unicode(cell) else _refuse(records, row, name, HALF)
    if isinstance(cell, (list, tuple)) and all(isinstance(one, str) for one in cell):
        return LABELS
    return _refuse(records, row, name, f"a {type(cell).__name__} is no cell of a table")


def _refuse(records: Records, row: int, name: str, what: str) -> str:
    raise DataError(
        f"{records.location(row, name)}: {what}",
        hint="Cells are numbers, texts, true, false or empty: write it as one of them, or take the column out.",
    )


def is_unicode(text: str) -> bool:
    """Whether all of it can be written in UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _a(kind: str) -> str:
    said = {INTEGER: "a number", NUMBER: "a number", BOOLEAN: "a truth value", TEXT: "a text", LABELS: "a list"}
    return said[kind]


def _short(cell: Any) -> str:
    said = repr(cell)
    return said if len(said) <= 40 else f"{said[:37]}..."


# -- files ----------------------------------------------------------------------------------------------------------


def read_records(file: Path) -> Records:
    """Read a file of records: .csv, .tsv, .jsonl (.ndjson) or .parquet.

    CSV and TSV: UTF-8, a header, cells as spreadsheets quote them; rows are counted as a spreadsheet shows them, so
    that the header is row 1. JSON lines: UTF-8, one object a line, all with the same keys; lines count from 1. Parquet:
    rows count from 0.

    Raises:
        DataError: damaged, or of ragged rows; the message names file and row.
        UsageError: Parquet without the package pyarrow.
    """
    return _READERS[file.suffix.lower()](file)


def is_records(path: Path) -> bool:
    """Whether the name is that of a file of records."""
    return path.suffix.lower() in _READERS


def column_names(file: Path) -> list[str]:
    """The header of a file of records, nothing else of which is read; none of one that is damaged."""
    end = file.suffix.lower()
    try:
        if end == ".parquet":
            return list(_parquet().read_schema(file).names)
        with file.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            if end in _DELIMITERS:
                return [cell.strip() for cell in next(csv.reader(stream, delimiter=_DELIMITERS[end]), [])]
            first = json.loads(next((line for line in stream if line.strip()), "{}"))
    except (OSError, ValueError, RecursionError, csv.Error):
        return []
    return list(first) if isinstance(first, dict) else []


#: Separator of cells by the end of the file's name.
_DELIMITERS: Final = {".csv": ",", ".tsv": "\t"}


def _read_separated(file: Path) -> Records:
    delimiter = _DELIMITERS[file.suffix.lower()]
    header: list[str] = []
    numbers: list[int] = []
    rows: list[list[str]] = []
    text = _text(file)
    number = 0
    limit = csv.field_size_limit(max(len(text), 1))  # a text may be longer than the 131,072 letters that csv allows
    try:
        for number, cells in enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), 1):
            if number == 1:
                header = [cell.strip() for cell in cells]
                _refuse_twins(file, header)
            elif any(cell.strip() for cell in cells):
                if len(cells) != len(header):
                    raise DataError(
                        f"{file}, row {number}: {len(cells)} cells, but the header has {len(header)}",
                        hint='Quote cells that contain a comma: "a,b.jpg".'
                        if delimiter == ","
                        else 'Quote cells that contain a tab: "a\tb".',
                    )
                numbers.append(number)
                rows.append(cells)
    except csv.Error as error:
        raise DataError(
            f"{file}, row {number + 1}: not {file.suffix[1:].upper()}",
            why=str(error),
            hint='A quote inside a quoted cell is written twice: "she said ""no""".',
        ) from error
    finally:
        csv.field_size_limit(limit)
    columns = list(zip(*rows, strict=True)) or [()] * len(header)
    return Records(
        file.stem,
        str(file),
        tuple(header),
        dict(zip(header, columns, strict=True)),
        len(rows),
        lambda row: f"row {numbers[row]}",
        written=True,
        path=file,
    )


def _refuse_twins(file: Path, header: list[str]) -> None:
    """Raise `DataError` where a column that has a meaning is there twice; of others their reader decides."""
    lower = [name.lower() for name in header]
    if twice := next((name for name in MEANING if lower.count(name) > 1), None):
        raise DataError(f"{file}, row 1: the column {twice} is there twice", hint="Take one of them out.")


def _read_lines(file: Path) -> Records:
    numbers: list[int] = []
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(_text(file).split("\n"), 1):
        if not line.strip():
            continue
        rows.append(_object(f"{file}, line {number}", line))
        numbers.append(number)
        _expect_keys(f"{file}, line {number}", rows[-1], rows[0], f"line {numbers[0]}")
    return from_rows(rows, file.stem, str(file), lambda row: f"line {numbers[row]}", path=file)


def _object(where: str, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line, object_pairs_hook=_pairs)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}: not JSON: {error.msg} (column {error.colno})", hint="Write one JSON object a line."
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON that can be read", why=str(error)) from error
    if not isinstance(found, dict):
        raise DataError(
            f"{where}: a {type(found).__name__}, where an object is expected",
            hint='Write one object a line: {"text": "good", "label": 1}.',
        )
    if "" in found:
        raise DataError(f"{where}: a key without a name")
    return found


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(n for i, n in enumerate(names) if n in names[:i])!r} is there twice")
    return found


def _expect_keys(where: str, row: Mapping[str, Any], first: Mapping[str, Any], first_place: str) -> None:
    """Raise `DataError` for a row of other names than the first one's."""
    for names, others, what in ((first, row, "no"), (row, first, "a")):
        if odd := [name for name in names if name not in others]:
            verb = "has" if what == "no" else "has not"
            raise DataError(
                f"{where}: {what} {odd[0]!r}, which {first_place} {verb}",
                hint="Give all rows the same names; null (None in Python) is an empty cell.",
            )


def _read_parquet(file: Path) -> Records:
    library = _parquet()
    try:
        table = library.read_table(file)
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        raise DataError(f"{file} cannot be read as Parquet", why=" ".join(str(error).split())) from error
    from zoo.data.frames import from_arrow

    return from_arrow(table, file.stem, str(file), path=file)


def _parquet() -> Any:
    try:
        import pyarrow.parquet as library
    except ImportError as error:
        raise UsageError(
            "Parquet files need the package pyarrow", hint="Install it: pip install 'transfer-zoo[parquet]'."
        ) from error
    return library


_READERS: Final[Mapping[str, Callable[[Path], Records]]] = {
    ".csv": _read_separated,
    ".tsv": _read_separated,
    ".jsonl": _read_lines,
    ".ndjson": _read_lines,
    ".parquet": _read_parquet,
}


def _text(file: Path) -> str:
    try:
        return decode(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file} cannot be read", why=error.strerror) from error
    except DataError as error:
        raise DataError(f"{file} is {error.message}", hint=error.hint) from error


# -- memory ---------------------------------------------------------------------------------------------------------


def from_rows(
    rows: Sequence[Mapping[str, Any]],
    name: str = "rows",
    where: str = "the rows",
    place: Callable[[int], str] = "row {}".format,
    *,
    path: Path | None = None,
) -> Records:
    """Records of mappings that name the same cells.

    Raises:
        DataError: a mapping that lacks a name of the first one, or has another; or a name that is no text.
    """
    for number, row in enumerate(rows):
        _expect_keys(f"{where}, {place(number)}", row, rows[0], place(0))
    header = tuple(rows[0]) if rows else ()
    for one in header:
        if not isinstance(one, str) or not one:
            raise DataError(f"{where}: the column name {one!r} is no text", hint="Name each column.")
    cells = {one: [row[one] for row in rows] for one in header}
    return Records(name, where, header, cells, len(rows), place, path=path)

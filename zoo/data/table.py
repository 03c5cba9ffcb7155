"""Rows of a table as numbers: typed columns, fitted on the rows that are learned from.

A row is a mapping of column names to cells: text, a number, a truth value, or None (NaN counts as None). What a column
holds is read off the rows that are learned from, and so is all that turns it into numbers:

- numbers become (x - mean) / deviation; an empty cell the mean, which is 0, and where there were empty cells a second
  number says which (1 = empty);
- truth values become 1 and 0; an empty cell the part that is true, with a second number as above;
- text becomes one number for each category, 1 for the one that it is; an empty cell is a category of its own where
  there were some. Into a linear layer, that is an embedding. A category that is not known, or an empty cell where there
  was none, is 0 in all of them: it says nothing.

Left out, with the reason, are columns that are empty or the same in every row, and text that is another one in nearly
every row (a name, a number of a contract, prose). The state is plain JSON in `Preprocessing.extra`, so that it goes
wherever the weights go.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from zoo.catalog.spec import Preprocessing
from zoo.catalog.tables import counted
from zoo.data.dataset import Split
from zoo.data.preprocess import describe, ready
from zoo.errors import DataError, UsageError

KIND: Final = "table"
NUMBER: Final = "number"
BOOLEAN: Final = "boolean"
CATEGORY: Final = "category"

#: Categories of a column; of more the most frequent are known.
MOST: Final = 200
#: Text is left out where more than this part of its cells differ from all others, and more than so many cells.
_DISTINCT: Final = 0.9
_FEW: Final = 20
#: Numbers that a row may become: what is beyond asks for any amount of memory.
_WIDEST: Final = 65_536
#: Standard deviations from the mean: what is beyond is no number in single precision.
_LARGEST: Final = 1e38
#: Names and values listed in a message.
_NAMED: Final = 5
_TRUE: Final = {"true": 1.0, "false": 0.0}
_HOLDS: Final = {NUMBER: "numbers", BOOLEAN: "truth values", CATEGORY: "categories"}


@dataclass(frozen=True)
class Column:
    """How one column becomes numbers.

    Attributes:
        name: as the data have it.
        kind: "number", "boolean" or "category".
        mean: of a number what is subtracted; of a truth value what stands for an empty cell.
        scale: what a number is divided by.
        values: the categories, sorted.
        empty: whether there were empty cells, which then have a number of their own.
    """

    name: str
    kind: str
    mean: float = 0.0
    scale: float = 1.0
    values: tuple[str, ...] = ()
    empty: bool = False

    @property
    def width(self) -> int:
        """Numbers that a cell becomes."""
        return (len(self.values) or 1) + self.empty

    @functools.cached_property
    def places(self) -> dict[str, int]:
        """Category -> which of the numbers is 1."""
        return {value: place for place, value in enumerate(self.values)}

    def names(self) -> list[str]:
        """What each number says."""
        said = [f"{self.name} = {value}" for value in self.values] if self.kind == CATEGORY else [self.name]
        return said + [f"{self.name} is empty"] * self.empty

    def read(self, cell: Any, into: np.ndarray) -> None:
        """Write what a cell becomes into `width` zeros.

        Raises:
            DataError: it is of another type.
        """
        if is_empty(cell):
            if self.kind == BOOLEAN:
                into[0] = self.mean
            if self.empty:
                into[-1] = 1
        elif self.kind == CATEGORY:
            place = self.places.get(text_of(cell))
            if place is not None:
                into[place] = 1
        else:
            into[0] = self.scaled(cell)

    def value(self, cell: Any) -> float:
        """The number that a cell of numbers or truth values says; NaN for an empty one.

        Raises:
            DataError: it says none.
        """
        if is_empty(cell):
            return math.nan
        found = _number(cell) if self.kind == NUMBER else _truth(cell)
        if found is None:
            raise DataError(
                f"column {self.name!r} holds {_short(cell)}, where {_HOLDS[self.kind]} were learned",
                hint="Give the column as it was when it was learned from.",
            )
        if not math.isfinite(found):
            raise DataError(f"column {self.name!r} holds {_short(cell)}", hint="Leave the cell empty, or mend it.")
        return found

    def scaled(self, cell: Any) -> float:
        """What a cell of numbers or truth values that is not empty becomes.

        Raises:
            DataError: it is of another type, or too far from what was learned to be a number in single precision.
        """
        found = self.value(cell)
        if self.kind == NUMBER:
            found = (found - self.mean) / self.scale
        if not abs(found) < _LARGEST:
            raise DataError(
                f"column {self.name!r} holds {_short(cell)}, where numbers around {self.mean:.6g} were learned",
                hint="Mend the cell, or leave it empty.",
            )
        return found

    def as_json(self) -> dict[str, Any]:
        """As `Preprocessing.extra` has it."""
        known: dict[str, Any] = {"name": self.name, "kind": self.kind}
        if self.kind == CATEGORY:
            known["values"] = list(self.values)
        else:
            known["mean"] = self.mean
        if self.kind == NUMBER:
            known["scale"] = self.scale
        return {**known, "empty": self.empty}


@dataclass(frozen=True)
class TableReader:
    """Rows of a table into (width,) float32. Floating arrays and tensors pass unchanged.

    Args:
        preprocessing: of kind "table", fitted.
        in_chans: numbers that the network takes.

    Raises:
        UsageError: it was not fitted, or its state is damaged.
    """

    preprocessing: Preprocessing
    in_chans: int
    shorter: int | None = None

    def __post_init__(self) -> None:
        if not is_fitted(self.preprocessing):
            raise UsageError(
                "this network of tables has not seen a table yet, so that nothing says what its columns are",
                hint="Fit it (zoo.compose(...).fit(data)), or take weights, which bring their columns with them.",
            )
        width = sum(one.width for one in self.columns) if self.columns else self.preprocessing.input_size[0]
        if width != self.in_chans:
            raise UsageError(
                f"rows become {width} numbers, but the network takes {self.in_chans}",
                why="The columns are not those that the network was made for.",
            )

    @functools.cached_property
    def columns(self) -> tuple[Column, ...]:
        """What is read, in the order of the numbers."""
        return columns_of(self.preprocessing)

    @functools.cached_property
    def _places(self) -> list[tuple[Column, int, int]]:
        ends = np.cumsum([one.width for one in self.columns]).tolist()
        return [(one, end - one.width, end) for one, end in zip(self.columns, ends, strict=True)]

    @property
    def cells(self) -> tuple[int, ...]:
        """(width,): the column that each number comes from."""
        if not self.columns:
            return tuple(range(self.in_chans))
        return tuple(place for place, one in enumerate(self.columns) for _ in range(one.width))

    @property
    def names(self) -> tuple[str, ...]:
        """(width,): what each number says, each name once."""
        if not self.columns:
            return tuple(map(str, range(self.in_chans)))
        said = [name for one in self.columns for name in one.names()]
        often = Counter(said)
        return tuple(name if often[name] == 1 else f"{name} ({place})" for place, name in enumerate(said))

    def __call__(self, raw: Any) -> Tensor | tuple[Tensor, ...]:
        if isinstance(raw, tuple):
            return tuple(ready(part) for part in raw)
        if not isinstance(raw, Mapping):
            if str(getattr(raw, "dtype", "")).rpartition(".")[2].startswith("float"):
                return ready(raw)
            raise DataError(
                f"a row of a table is expected, not {type(raw).__name__}",
                hint="Give a .csv, .jsonl or .parquet file, or mappings of column names to cells.",
            )
        if not self.columns:
            raise DataError(
                f"a row of {self.in_chans} numbers is expected, not one of a table",
                why="The network learned from floating arrays, whose columns have no names.",
                hint="Give arrays of the same width.",
            )
        found = np.zeros(self.in_chans, dtype=np.float64)
        for column, start, end in self._places:
            if column.name not in raw:
                raise self._missing([column.name], list(raw))
            column.read(raw[column.name], found[start:end])
        return torch.from_numpy(found.astype(np.float32))

    def describe(self) -> dict[str, Any]:
        """See `zoo.data.preprocess.Reader`."""
        return {**describe(self.preprocessing), "in_chans": self.in_chans}

    def check(self, split: Split) -> list[str]:
        """What a person should know of rows before they are read.

        New categories, and empty cells where there were none, are counted; columns that are not read are named.

        Raises:
            DataError: a column is missing, or of another type; row and column are named.
        """
        if not self.columns or not len(split) or not isinstance(split.raw(0), Mapping):
            return []
        looks = [_Look(one) for one in self.columns]
        there: dict[str, None] = {}
        for index, row in enumerate(_rows(split)):
            there.update(dict.fromkeys(row))
            try:
                if missing := [one.name for one in self.columns if one.name not in row]:
                    raise self._missing(missing, list(row))
                for look in looks:
                    look.at(row[look.column.name])
            except DataError as error:
                raise DataError(f"{split.location(index)}: {error.message}", why=error.why, hint=error.hint) from error
        notes = [note for look in looks for note in look.notes(len(split))]
        left_out = {one["name"] for one in self.preprocessing.extra.get("left_out", ())}
        known = {one.name for one in self.columns} | left_out
        if further := [name for name in there if name not in known]:
            many = "columns" if len(further) > 1 else "column"
            notes.append(f"{many} {_listed(further)}: not read, because the network has not learned from them")
        return notes

    def _missing(self, names: Sequence[str], there: Sequence[str]) -> DataError:
        one = len(names) == 1
        return DataError(
            f"the {'column' if one else 'columns'} {_listed(names)} {'is' if one else 'are'} missing",
            why=f"There are: {_listed(there, 2 * _NAMED) or 'none'}.",
            hint="Give every column that was learned from; a cell may be empty.",
        )

    def numbers(self, split: Split) -> tuple[np.ndarray, np.ndarray]:
        """(N, columns) float64 for a model that knows categories, NaN where a cell is empty or not known; and which
        columns are categories (their places as numbers)."""
        found = np.full((len(split), len(self.columns)), np.nan)
        for index, row in enumerate(_rows(split)):
            for place, column in enumerate(self.columns):
                cell = row.get(column.name)
                if column.kind == CATEGORY:
                    found[index, place] = np.nan if is_empty(cell) else column.places.get(text_of(cell), np.nan)
                else:
                    found[index, place] = column.value(cell)
        return found, np.array([column.kind == CATEGORY for column in self.columns])


def is_fitted(preprocessing: Preprocessing) -> bool:
    """Whether it says what the columns are."""
    return "columns" in preprocessing.extra


def fit(preprocessing: Preprocessing, split: Split) -> tuple[Preprocessing, list[str]]:
    """Read columns and their numbers off the rows that are learned from; targets are not looked at.

    Rows that are numbers already, floating arrays (N, D), pass unchanged: nothing is fitted but their width.

    Args:
        preprocessing: of kind "table", not fitted.
        split: what is learned from, with and without labels, and nothing else.

    Returns:
        The preprocessing, its `input_size` the numbers that a row becomes; and what a person should know.

    Raises:
        DataError: the samples are no rows of a table, or no column can be learned from.
    """
    first = split.raw(0) if len(split) else None
    if not isinstance(first, Mapping):
        return _of_numbers(preprocessing, split, first)
    rows = list(_rows(split))
    columns, left_out, notes = [], [], []
    for name in dict.fromkeys(name for row in rows for name in row):
        held = [row.get(name) for row in rows]
        if why := _useless(held):
            left_out.append({"name": name, "why": why})
            notes.append(f"column {name!r} is left out: {why}")
            continue
        column, said = _fitted(name, held, split)
        columns.append(column)
        notes += said
    if not columns:
        raise DataError(
            "the table has no column that could be learned from",
            why="; ".join(f"{one['name']}: {one['why']}" for one in left_out[:_NAMED]) or "It has no columns.",
            hint="Give columns that differ from row to row.",
        )
    width = sum(one.width for one in columns)
    if width > _WIDEST:
        raise DataError(f"a row becomes {width:,} numbers; at most {_WIDEST:,} are read", hint="Leave columns out.")
    extra = {"rows": len(split), "columns": [one.as_json() for one in columns], "left_out": left_out}
    return replace(preprocessing, input_size=(width,), extra=extra), notes


def columns_of(preprocessing: Preprocessing) -> tuple[Column, ...]:
    """The columns of a fitted preprocessing; none where it takes numbers as they are.

    Raises:
        UsageError: its state is not what `fit` writes.
    """
    try:
        columns = tuple(_column(one) for one in preprocessing.extra["columns"])
        names = {one.name for one in columns}
        sound = len(names) == len(columns) and sum(one.width for one in columns) <= _WIDEST
        sound = sound and all(isinstance(one["name"], str) for one in preprocessing.extra.get("left_out", ()))
    except (KeyError, TypeError, ValueError, AttributeError):
        sound = False
    if not sound:
        raise UsageError(
            "the columns of this preprocessing are damaged",
            why="Each has a name, a kind, what it is scaled by or its values, and whether cells were empty.",
        )
    return columns


def is_empty(cell: Any) -> bool:
    """None, NaN, or text of nothing but blanks."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return True
    return isinstance(cell, (float, np.floating)) and math.isnan(cell)


def text_of(cell: Any) -> str:
    """A category's name: a whole number is the same with and without a point, as files differ in that."""
    if isinstance(cell, (bool, np.bool_)):
        return "true" if cell else "false"
    if isinstance(cell, (float, np.floating)) and float(cell).is_integer():
        return str(int(cell))
    return str(cell).strip()


def _column(given: Mapping[str, Any]) -> Column:
    values = given.get("values", [])
    column = Column(
        given["name"],
        given["kind"],
        float(given.get("mean", 0.0)),
        float(given.get("scale", 1.0)),
        tuple(values),
        given["empty"],
    )
    sound = (
        isinstance(column.name, str)
        and column.kind in _HOLDS
        and isinstance(column.empty, bool)
        and isinstance(values, (list, tuple))
        and all(isinstance(value, str) for value in column.values)
        and len(set(column.values)) == len(column.values)
        and (column.kind == CATEGORY) == bool(column.values)
        and math.isfinite(column.mean)
        and 0 < column.scale < math.inf
    )
    if not sound:
        raise ValueError(column.name)
    return column


def _of_numbers(preprocessing: Preprocessing, split: Split, first: Any) -> tuple[Preprocessing, list[str]]:
    kind = str(getattr(first, "dtype", "")).rpartition(".")[2]
    if first is None or not kind.startswith("float") or first.ndim != 1:
        raise DataError(
            f"the samples are no rows of a table: {'there are none' if first is None else type(first).__name__}",
            hint="Give a .csv, .jsonl or .parquet file, a data frame, or floating arrays (N, D).",
        )
    extra = {"rows": len(split), "columns": [], "left_out": []}
    made = replace(preprocessing, input_size=(int(first.shape[0]),), extra=extra)
    return made, ["the rows are numbers already and are taken as they are: standardise them, or give a table"]


def _rows(split: Split) -> Iterator[Mapping[str, Any]]:
    for index in range(len(split)):
        row = split.raw(index)
        if not isinstance(row, Mapping):
            raise DataError(f"{split.location(index)} is no row of a table, but {type(row).__name__}")
        yield row


def _useless(cells: list[Any]) -> str | None:
    """Why nothing can be learned from a column."""
    there = [cell for cell in cells if not is_empty(cell)]
    if not there:
        return "it is empty in every row"
    first = text_of(there[0])
    if len(there) == len(cells) and all(text_of(cell) == first for cell in there):
        return f"it is {_short(first)} in every row"
    if _kind(there) == CATEGORY and len(there) > _FEW:
        alone = sum(count == 1 for count in Counter(map(text_of, there)).values())
        if alone > max(_FEW, _DISTINCT * len(there)):
            return "nearly every row has a text of its own, so that it is no category"
    return None


def _kind(there: list[Any]) -> str:
    if all(isinstance(cell, (bool, np.bool_)) for cell in there):
        return BOOLEAN
    return NUMBER if all(_is_number(cell) for cell in there) else CATEGORY


def _fitted(name: str, cells: list[Any], split: Split) -> tuple[Column, list[str]]:
    there = [cell for cell in cells if not is_empty(cell)]
    kind, empty = _kind(there), len(there) < len(cells)
    if kind == CATEGORY:
        # The most frequent, and of equals the first by name: the order of the rows decides nothing.
        ranked = sorted(Counter(map(text_of, there)).items(), key=lambda pair: (-pair[1], pair[0]))
        column = Column(name, kind, values=tuple(sorted(value for value, _ in ranked[:MOST])), empty=empty)
        lost = sum(count for _, count in ranked[MOST:])
        rare = f"column {name!r} has {len(ranked)} categories: the {MOST} most frequent are known, "
        return column, [f"{rare}{counted(lost, 'row')} of others say nothing there"] if lost else []
    column = Column(name, kind)
    numbers = np.full(len(cells), np.nan)
    for index, cell in enumerate(cells):
        try:
            numbers[index] = column.value(cell)
        except DataError as error:
            raise DataError(f"{split.location(index)}: {error.message}", why=error.why, hint=error.hint) from error
    numbers = numbers[~np.isnan(numbers)]
    with np.errstate(over="ignore", invalid="ignore"):
        mean, scale = float(numbers.mean()), float(numbers.std()) if kind == NUMBER else 1.0
    if not (math.isfinite(mean) and math.isfinite(scale)):
        raise DataError(f"the numbers of column {name!r} are too large to be standardised", hint="Scale them.")
    # Numbers that differ by rounding alone are one: dividing by that would blow it up.
    steady = scale <= 1e-12 * max(1e-300, float(np.abs(numbers).max()))
    counts = kind == NUMBER and len(numbers) > _FEW and _count_rows(numbers)
    said = [f"column {name!r} is another whole number in every row: does it count them? Then take it out"] * counts
    return replace(column, mean=mean, scale=1.0 if steady else scale, empty=empty), said


def _count_rows(numbers: np.ndarray) -> bool:
    """Whether they are whole and all different, within a range of at most twice as many: some may lie elsewhere."""
    whole = bool((numbers == np.floor(numbers)).all()) and len(np.unique(numbers)) == len(numbers)
    return whole and float(np.ptp(numbers)) < 2 * len(numbers)


class _Look:
    """What the cells of one column are, in rows that are about to be read."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self.new: Counter[str] = Counter()
        self.empty = 0
        self.known = self.words = False

    def at(self, cell: Any) -> None:
        if is_empty(cell):
            self.empty += 1
        elif self.column.kind == CATEGORY:
            text = text_of(cell)
            self.words = self.words or isinstance(cell, str)
            if text in self.column.places:
                self.known = True
            else:
                self.new[text] += 1
        else:
            self.column.scaled(cell)

    def notes(self, rows: int) -> list[str]:
        """In words.

        Raises:
            DataError: all cells are numbers or truth values, and none is one of the categories.
        """
        name, new = self.column.name, [value for value, _ in self.new.most_common()]
        if new and not self.known and not self.words:
            raise DataError(
                f"column {name!r} holds {_listed(new)}, where categories were learned: {_listed(self.column.values)}",
                hint="Give the column as it was when it was learned from.",
            )
        notes = []
        if new:
            many = "categories" if len(new) > 1 else "category"
            notes.append(
                f"column {name!r}: {sum(self.new.values())} of {counted(rows, 'row')} have the new {many} "
                f"{_listed(new)}, which the network does not know: it says nothing"
            )
        if self.empty and not self.column.empty:
            instead = "read as no category" if self.column.kind == CATEGORY else "filled with the mean"
            notes.append(
                f"column {name!r}: {self.empty} of {counted(rows, 'row')} are empty, and none was in the rows learned "
                f"from: {instead}"
            )
        return notes


def _is_number(cell: Any) -> bool:
    return isinstance(cell, (int, float, np.integer, np.floating)) and not isinstance(cell, bool)


def _number(cell: Any) -> float | None:
    try:
        if isinstance(cell, str):
            return float(cell) if "_" not in cell else None
        return float(cell) if _is_number(cell) else None
    except ValueError:
        return None
    except OverflowError:
        return math.inf


def _truth(cell: Any) -> float | None:
    if isinstance(cell, (bool, np.bool_)):
        return float(cell)
    if isinstance(cell, str):
        return _TRUE.get(cell.strip().lower())
    return float(cell) if _is_number(cell) and cell in (0, 1) else None


def _listed(names: Sequence[Any], most: int = _NAMED) -> str:
    said = ", ".join(_short(name) for name in names[:most])
    return f"{said} and {len(names) - most} more" if len(names) > most else said


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

"""What the columns of records say: which samples, labels, splits and groups.

A `path` column: files, relative to the folder of the file. A column of pictures or recordings (Hugging Face): these. A
`text` column: texts. Else every row of the table is a sample. `label`, or the column that a person names, is the
target; `split` says train, val or test.

Labels: integers or words = classes; a column of numbers with a decimal point = regression; several labels a sample are
words separated by `|` in a cell of a CSV or TSV, a list elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from zoo.data.assemble import SPLIT_NAMES, Rows
from zoo.data.cells import MediaSamples, TableSamples, TextSamples
from zoo.data.dataset import Samples, expect_kind
from zoo.data.files import FileSamples, is_sample
from zoo.data.records import EMPTY, INTEGER, LABELS, NUMBER, TEXT, Column, Records
from zoo.data.task import REGRESSION, Task
from zoo.errors import DataError

_SEPARATOR: Final = "|"
#: Numbers of two columns are the same in so many rows for one reason only; of fewer it may be chance.
_SURE: Final = 20
#: Rows, or columns, named in one message.
_LISTED: Final = 10


def rows_of(
    records: Records,
    *,
    kind: str | None = None,
    label: str | None = None,
    labelled: bool = True,
    task: Task | None = None,
    group_by: str | None = None,
    targets: Any = None,
    splits: Sequence[str] | None = None,
    labels: Iterable[str] = ("label",),
) -> Rows:
    """Samples and all that goes with them, of records.

    Args:
        records: the table.
        kind: what the samples are to be: "image", "audio", "text", "table"; None, or another = as the columns say.
        label: the column of the target, as a person named it; None = found by its name.
        labelled: False = targets are not needed; labels that are not all there are passed over.
        task: known already; for regression, labels without a decimal point are numbers too.
        group_by: a further column, of what each row belongs to.
        targets: labels that are given beside the table; then `label` is only kept out of what is learned from.
        splits: the split of each row, where it is known from elsewhere.
        labels: names that a column of targets may have.

    Raises:
        DataError: a missing column, an empty cell, an unknown split, a number that is none, a file that does not exist,
            a copy of the target among the columns; the message names file, row and column.
    """
    if not records.header and not records.written:
        raise DataError(f"{records.where or records.name} is empty: it has no rows")
    target = _target(records, label, () if targets is not None else labels)
    what, column = _what(records, kind, target)
    expect_kind({"media": records.media.get(column or "")}.get(what, what), kind, records.where or records.name)
    missing = [name for name, found in _needed(records, what, column, target, label, labelled, targets) if not found]
    if missing:
        raise _no_column(records, missing, label)
    group = _group(records, group_by)
    split = records.find("split") if splits is None else None
    taken = [name for name in (target, group, split) if name is not None]
    samples, notes = _samples(records, what, column, taken)
    if targets is None and target is not None:
        targets = _labels(records, target, task, labelled)
    if labelled and task is None and isinstance(samples, TableSamples):
        notes += _refuse_copies(records, samples, _known(records, target, targets))
    return Rows(
        records.name,
        samples,
        targets,
        splits or (None if split is None else [_split(records, row, split) for row in range(len(records))]),
        classes=records.names.get(target) if target is not None else None,
        path=records.path,
        source=None if records.path is None else str(records.path),
        groups=None if group is None else _filled(records, group),
        notes=tuple(notes),
    )


# -- which columns ---------------------------------------------------------------------------------------------------


def _target(records: Records, label: str | None, labels: Iterable[str]) -> str | None:
    if label is not None:
        return records.find(label, own=True)
    if not labels:
        return None
    if len(records.names) == 1:
        return next(iter(records.names))
    return next((found for name in labels if (found := records.find(name)) is not None), None)


def _what(records: Records, kind: str | None, target: str | None) -> tuple[str, str | None]:
    """ "media", "path", "text" or "table", and the column of it."""
    if len(records.media) > 1 and kind != "table":
        raise DataError(
            f"{len(records.media)} columns of pictures or recordings: {', '.join(records.media)}",
            why=records.listed(),
            hint="Keep one: remove_columns('mask').",
        )
    if records.media and kind != "table":
        return "media", next(iter(records.media))
    path, text = records.find("path"), records.find("text")
    if kind == "text":
        text = text or (None if path else _only_text(records, target))
        return ("text", text) if text or not path else ("path", path)
    if path is not None and (kind != "table" or _are_files(records, path)):
        return "path", path
    if text is not None and (kind != "table" or set(records.header) <= {text, target, records.find("split")}):
        return "text", text
    if kind != "table" and any(_are_files(records, name) for name in records.header if name != target):
        return "path", None  # which it lacks: a table of nothing but names of files is none
    return "table", None


def _only_text(records: Records, target: str | None) -> str | None:
    """The one column of words beside the target."""
    split = records.find("split")
    found = [name for name in records.header if name and name not in (target, split)]
    words = [name for name in found if records.column(name).type == TEXT]
    return words[0] if len(words) == 1 else None


def _are_files(records: Records, name: str) -> bool:
    """Whether the cells of a column are names of pictures, recordings or texts."""
    if name in records.media or name in records.names:
        return False
    some = False
    for cell in records.cells[name]:
        if isinstance(cell, str):
            if cell.strip() and not is_sample(cell.strip()):
                return False
            some = some or bool(cell.strip())
        elif cell is not None:
            return False
    return some


def _needed(
    records: Records, what: str, column: str | None, target: str | None, label: str | None, labelled: bool, targets: Any
) -> list[tuple[str, bool]]:
    needed = [("path" if what == "path" else "text", column is not None)] if what in ("path", "text") else []
    if not records.header:
        needed = [("path", False)]
    if labelled and targets is None:
        needed.append((label or "label", target is not None))
    return needed


def _no_column(records: Records, missing: list[str], label: str | None) -> DataError:
    if label in missing or missing == ["label"]:
        hint = "Name the column of the target: --label COLUMN (label='COLUMN' in Python)."
    elif "text" in missing:
        hint = "Name the column of the texts `text`."
    else:
        hint = "The first row must be path,label or path,label,split."
    if records.headless:
        hint = "The first row must name the columns, and this one seems to be data: write names above it."
    if records.written and len(records.header) == 1 and ";" in records.header[0]:
        hint = "Cells are separated by commas in a .csv, by tabs in a .tsv; these seem to be by semicolons."
    return DataError(f"{records.head}: no column {' and no column '.join(missing)}", why=records.listed(), hint=hint)


def _group(records: Records, group_by: str | None) -> str | None:
    if group_by is None:
        return None
    found = records.find(group_by, own=True)
    if found is None:
        raise DataError(
            f"{records.head}: no column {group_by} to group by",
            why=records.listed(),
            hint="Name a column of the manifest.",
        )
    return found


# -- cells -----------------------------------------------------------------------------------------------------------


def _samples(records: Records, what: str, column: str | None, taken: list[str]) -> tuple[Samples, list[str]]:
    if what == "table":
        return _table(records, taken)
    assert column is not None
    if what == "media":
        return MediaSamples(records, column), []
    if what == "path":
        return _files(records, column), []
    found = records.cells[column] if records.written else records.column(column).cells
    odd = next((row for row, cell in enumerate(found) if cell is not None and not isinstance(cell, str)), None)
    if odd is not None:
        raise DataError(f"{records.location(odd, column)}: {found[odd]!r} is no text")
    return TextSamples(found, records, column), []


def _files(records: Records, column: str) -> FileSamples:
    base = records.path.parent if records.path is not None else Path.cwd()
    paths = [(base / str(cell)).absolute() for cell in _filled(records, column)]
    absent = [row for row, path in enumerate(paths) if not path.is_file()]
    if absent:
        listed = "\n".join(f"  {records.place(row)}: {paths[row]}" for row in absent[:_LISTED])
        more = f"\n  ... and {len(absent) - _LISTED} more" if len(absent) > _LISTED else ""
        raise DataError(
            f"{records.location(absent[0], column)}: no such file ({len(absent)} in all)",
            why=listed + more,
            hint=f"Paths are relative to {base}.",
        )
    return FileSamples(paths, records.where)


def _table(records: Records, taken: list[str]) -> tuple[TableSamples, list[str]]:
    header = list(records.header)
    if twice := next((name for name in header if header.count(name) > 1), None):
        raise DataError(f"{records.head}: the column {twice} is there twice", hint="Take one of them out.")
    if "" in header:
        raise DataError(
            f"{records.head}: column {header.index('') + 1} has no name",
            hint="Name it, or take it out: pandas writes its index unless told to_csv(..., index=False).",
        )
    columns = [records.column(name) for name in header if name not in taken]
    if not columns:
        raise DataError(f"{records.head}: no column is left to learn from", why=records.listed())
    for one in columns:
        if one.type == LABELS:
            row = next(row for row, cell in enumerate(one.cells) if cell is not None)
            raise DataError(
                f"{records.location(row, one.name)}: a list is no cell of a table",
                hint="Write a column for each of its parts, or take the column out.",
            )
    notes = [f"{records.where or records.name}: {one.note}" for one in columns if one.note]
    return TableSamples(records, columns), notes


def _filled(records: Records, column: str) -> list[Any]:
    """The cells of a column that has no empty ones, without blanks around them."""
    cells = [cell.strip() if isinstance(cell, str) else cell for cell in _raw(records, column)]
    for row, cell in enumerate(cells):
        if cell is None or cell == "":
            raise DataError(f"{records.location(row, column)}: the cell is empty")
    return cells


def _raw(records: Records, column: str) -> Sequence[Any]:
    return records.cells[column] if records.written else records.column(column).cells


def _labels(records: Records, column: str, task: Task | None, labelled: bool) -> Any:
    try:
        return _written_labels(records, column, task) if records.written else _typed_labels(records, column, task)
    except DataError:
        if labelled or task is not None:
            raise
        return None


def _written_labels(records: Records, column: str, task: Task | None) -> Any:
    cells = _filled(records, column)
    if any(_SEPARATOR in cell for cell in cells):
        return [[part for part in (p.strip() for p in cell.split(_SEPARATOR)) if part] for cell in cells]
    numbers = [_number(cell) for cell in cells]
    floating = any(n is not None and ("." in c or "e" in c.lower()) for n, c in zip(numbers, cells, strict=True))
    if (floating and all(n is not None for n in numbers)) or (task is not None and task.kind == REGRESSION):
        for row, (cell, number) in enumerate(zip(cells, numbers, strict=True)):
            if number is None or not np.isfinite(number):
                raise DataError(f"{records.location(row, column)}: {cell!r} is not a finite number")
        return np.asarray(numbers, dtype=np.float64)
    return cells


def _typed_labels(records: Records, column: str, task: Task | None) -> Any:
    if column in records.names:
        cells = records.cells[column]
        for row, cell in enumerate(cells):
            if cell is None or cell < 0:
                raise DataError(f"{records.location(row, column)}: there is no label", hint="Filter such rows out.")
        return np.asarray(cells)
    cells, kind = _filled(records, column), records.column(column).type
    if kind == NUMBER or (task is not None and task.kind == REGRESSION and kind == INTEGER):
        return np.asarray(cells, dtype=np.float64)
    return cells if kind in (TEXT, LABELS) else np.asarray(cells)


def _split(records: Records, row: int, column: str) -> str:
    name = records.cells[column][row]
    name = name.strip() if isinstance(name, str) else name
    if str(name).lower() not in SPLIT_NAMES:
        raise DataError(
            f"{records.location(row, column)}: {name!r} is no split",
            hint="Write train, val or test, or drop the column.",
        )
    return SPLIT_NAMES[str(name).lower()]


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


# -- the target among the columns --------------------------------------------------------------------------------------


def _known(records: Records, target: str | None, targets: Any) -> Column:
    """The target as a column, also where it was given beside the table."""
    if target is not None and target in records.header:
        return records.column(target)
    given = targets.tolist() if hasattr(targets, "tolist") else list(targets)
    beside = Records("y", "y", ("y",), {"y": given}, len(given), "row {}".format)
    try:
        return beside.column("y")
    except DataError:  # several numbers a row; what is wrong with targets is said elsewhere
        return Column("y", EMPTY, given)


def _refuse_copies(records: Records, samples: TableSamples, known: Column) -> list[str]:
    """A note on columns that give every target away under other names.

    Raises:
        DataError: a column that is the target itself.
    """
    if known.type in (LABELS, EMPTY) or len(known.cells) != len(records):
        return []
    distinct = len(set(known.cells))
    notes = []
    for one in samples.columns.values():
        if distinct > 1 and (one.type == TEXT or len(records) >= _SURE) and _same(one, known):
            raise DataError(
                f"{records.head}: column {one.name} is a copy of the target {known.name}",
                why="It would be learned from, and nothing else.",
                hint=f"Take the column {one.name} out.",
            )
        pairs = set(zip(one.cells, known.cells, strict=True))
        if 1 < distinct < len(known.cells) and len(pairs) == distinct == len(set(one.cells)):
            said = ", ".join(f"{a!r} is {b!r}" for a, b in sorted(pairs, key=str)[:3])
            notes.append(
                f"{records.where or records.name}: column {one.name} gives the target {known.name} away ({said}): "
                "take it out unless it is known before the target is"
            )
    return notes


def _same(one: Column, other: Column) -> bool:
    if {one.type, other.type} <= {INTEGER, NUMBER} or one.type == other.type:
        return list(one.cells) == list(other.cells)
    return False

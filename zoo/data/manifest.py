"""A CSV manifest: `path,label[,split]`, one picture a row, paths relative to the manifest's own folder.

Labels: integers or words = classes; a column of numbers with a decimal point = regression; words separated by `|` in
any row = several labels a picture.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Final

import numpy as np

from zoo.data.assemble import SPLIT_NAMES, Rows
from zoo.data.files import FileSamples
from zoo.data.task import REGRESSION, Task
from zoo.errors import DataError

_COLUMNS: Final = ("path", "label", "split")
_SEPARATOR: Final = "|"
#: Rows named in one error.
_LISTED: Final = 10


def read_manifest(file: Path, *, labelled: bool = True, task: Task | None = None, group_by: str | None = None) -> Rows:
    """Read a manifest.

    Args:
        file: the CSV; UTF-8, with a header.
        labelled: False = a `label` column is not needed.
        task: known already; for regression, labels without a decimal point are numbers too.
        group_by: a further column, of what each row belongs to.

    Raises:
        DataError: not UTF-8, a missing column, an empty cell, an unknown split, a number that is none, or a picture
            that does not exist; the message names file, row and column. Rows are counted as a spreadsheet shows them.
    """
    required = ("path", "label") if labelled else ("path",)
    table = _table(file, required if group_by is None else (*required, group_by.strip().lower()))
    paths = [(file.parent / cells["path"]).absolute() for _, cells in table]
    _refuse_absent(file, [(number, path) for (number, _), path in zip(table, paths, strict=True) if not path.is_file()])
    labels = None
    if table and "label" in table[0][1]:
        labels = _labels(file, [(number, cells["label"]) for number, cells in table], task)
    splits = (
        [_split(file, number, cells["split"]) for number, cells in table] if table and "split" in table[0][1] else None
    )
    groups = None if group_by is None else [cells[group_by.strip().lower()] for _, cells in table]
    return Rows(file.stem, FileSamples(paths, str(file)), labels, splits, path=file, source=str(file), groups=groups)


def columns(file: Path) -> list[str]:
    """What the header of a manifest names, in lower case."""
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        return [cell.strip().lower() for cell in next(csv.reader(stream), [])]


def _table(file: Path, required: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """(row number, the cells of the known columns) of every row that is not blank."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8", why=str(error), hint="Save it as CSV in UTF-8.") from error
    lines = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        header = [cell.strip().lower() for cell in next(lines, [])]
        _check_header(file, header, required)
        rows = []
        for cells in lines:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise DataError(
                    f"{file}, row {lines.line_num}: {len(cells)} cells, but the header has {len(header)}",
                    hint='Quote cells that contain a comma: "a,b.jpg".',
                )
            named = {n: c.strip() for n, c in zip(header, cells, strict=True) if n in (*_COLUMNS, *required)}
            for column in required:
                if not named[column]:
                    raise DataError(f"{file}, row {lines.line_num}, column {column}: the cell is empty")
            rows.append((lines.line_num, named))
    except csv.Error as error:
        raise DataError(f"{file}, row {lines.line_num}: not CSV", why=str(error)) from error
    return rows


def _check_header(file: Path, header: list[str], required: tuple[str, ...]) -> None:
    missing = [column for column in required if column not in header]
    if missing:
        raise DataError(
            f"{file}, row 1: no column {' and no column '.join(missing)}",
            why=f"The header is: {', '.join(header) or 'empty'}.",
            hint="The first row must be path,label or path,label,split."
            if set(missing) <= set(_COLUMNS)
            else "Name a column of the manifest.",
        )
    twice = [column for column in dict.fromkeys((*_COLUMNS, *required)) if header.count(column) > 1]
    if twice:
        raise DataError(f"{file}, row 1: the column {twice[0]} is there twice")


def _labels(file: Path, cells: list[tuple[int, str]], task: Task | None) -> Any:
    if any(_SEPARATOR in cell for _, cell in cells):
        return [[part for part in (p.strip() for p in cell.split(_SEPARATOR)) if part] for _, cell in cells]
    numbers = [_number(cell) for _, cell in cells]
    floating = any(n is not None and ("." in c or "e" in c.lower()) for n, (_, c) in zip(numbers, cells, strict=True))
    if (floating and all(n is not None for n in numbers)) or (task is not None and task.kind == REGRESSION):
        for (row, cell), number in zip(cells, numbers, strict=True):
            if number is None or not np.isfinite(number):
                raise DataError(f"{file}, row {row}, column label: {cell!r} is not a finite number")
        return np.asarray(numbers, dtype=np.float64)
    return [cell for _, cell in cells]


def _split(file: Path, row: int, name: str) -> str:
    if name.lower() not in SPLIT_NAMES:
        raise DataError(
            f"{file}, row {row}, column split: {name!r} is no split",
            hint="Write train, val or test, or drop the column.",
        )
    return SPLIT_NAMES[name.lower()]


def _refuse_absent(file: Path, absent: list[tuple[int, Path]]) -> None:
    if absent:
        listed = "\n".join(f"  row {row}: {path}" for row, path in absent[:_LISTED])
        more = f"\n  ... and {len(absent) - _LISTED} more" if len(absent) > _LISTED else ""
        raise DataError(
            f"{file}, row {absent[0][0]}, column path: no such file ({len(absent)} in all)",
            why=listed + more,
            hint=f"Paths are relative to {file.parent}.",
        )


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None

"""Small tables for people: as text, and as HTML for notebooks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final, TypeVar

T = TypeVar("T")

#: Rows of a list that are shown.
SHOWN: Final = 20
#: Characters of a cell that are shown.
WIDE: Final = 80


class Listing(list[T]):
    """A list that shows itself as a table. Everything else is a list's.

    Args:
        items: what it holds.
        row: an item -> column -> text.
    """

    def __init__(self, items: Iterable[T] = (), row: Callable[[T], Mapping[str, str]] | None = None) -> None:
        super().__init__(items)
        self._row = row

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return Listing(found, self._row) if isinstance(place, slice) else found

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)

    def __repr__(self) -> str:
        if not self or self._row is None:
            return super().__repr__()
        header, rows = self._table()
        return "\n".join([text_table(header, rows), *self._left()])

    def _repr_html_(self) -> str:
        if not self or self._row is None:
            return f"<p>{escape(super().__repr__())}</p>"
        header, rows = self._table()
        return html_table(header, rows) + "".join(f"<p>{escape(text)}</p>" for text in self._left())

    def _table(self) -> tuple[list[str], list[list[str]]]:
        assert self._row is not None
        rows = [self._row(item) for item in self[:SHOWN]]
        return list(rows[0]), [list(row.values()) for row in rows]

    def _left(self) -> list[str]:
        return [f"... and {len(self) - SHOWN:,} more"] if len(self) > SHOWN else []


def text_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = (), wide: int | None = WIDE
) -> str:
    """Columns of equal width, two spaces apart.

    Args:
        header: titles of the columns.
        rows: cells.
        right: titles of the columns that are flushed right.
        wide: characters of a cell that are shown; None = all.
    """
    right = set(right)
    lines = [[short(cell, wide) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    pads = [(str.rjust if title in right else str.ljust, width) for title, width in zip(header, widths, strict=True)]
    return "\n".join(
        "  ".join(pad(cell, width) for cell, (pad, width) in zip(line, pads, strict=True)).rstrip() for line in lines
    )


def html_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, wide: int = WIDE) -> str:
    """A plain table, every cell escaped; no header where it is empty.

    Args:
        header: titles of the columns.
        rows: cells.
        wide: characters of a cell that are shown.
    """

    def line(tag: str, cells: Sequence[str]) -> str:
        return f"<tr>{''.join(f'<{tag}>{escape(short(cell, wide))}</{tag}>' for cell in cells)}</tr>"

    head = line("th", header) if header else ""
    return f"<table>{head}{''.join(line('td', row) for row in rows)}</table>"


def facts_table(title: str, facts: Mapping[str, Any]) -> str:
    """A title over two columns, name and value; what is None or empty is left out."""
    told = [(name, _plain(value)) for name, value in facts.items() if value not in (None, "", (), [], {})]
    return f"<p><b>{escape(title)}</b></p>" + html_table((), told, wide=5 * WIDE)


def changed(spec: Any) -> dict[str, Any]:
    """The fields of a dataclass that are not at their default."""
    return {
        field.name: value
        for field in dataclasses.fields(spec)
        if not (
            (value := getattr(spec, field.name)) == field.default
            or (field.default_factory is not dataclasses.MISSING and value == field.default_factory())
        )
    }


def count(value: int | None) -> str:
    """11689512 -> "11.7 M"."""
    if value is None:
        return "-"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return str(value)


def counted(number: int, noun: str, nouns: str | None = None) -> str:
    """1 -> "1 file", 2 -> "2 files".

    Args:
        number: how many.
        noun: of one.
        nouns: of several, where it is not the noun with an s.
    """
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def short(text: str, wide: int | None = WIDE) -> str:
    """In one line of at most `wide` characters."""
    text = " ".join(text.split())
    return text if wide is None or len(text) <= wide else f"{text[: wide - 3]}..."


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_plain(item)}" for name, item in value.items())
    if isinstance(value, (tuple, list)):
        return ", ".join(map(_plain, value))
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}:{value.__qualname__}"
    return str(value)

"""The one place that prints. Data goes to stdout; notes, progress and errors go to stderr."""

from __future__ import annotations

import json as _json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any, Final

import click

from zoo.catalog.tables import count as count
from zoo.catalog.tables import text_table

if TYPE_CHECKING:
    from rich.console import Console


_BLANKS: Final = re.compile(r" +(?=\n)")
#: What a terminal obeys instead of showing it (all but newline and tab), and halves of characters, which no stream
#: takes: names of classes and files are other people's text.
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_HALVES: Final = re.compile("[\ud800-\udfff]")


def visible(text: str) -> str:
    r"""The text with its control characters shown instead of sent.

    >>> print(visible("a\x1b[31mb"))
    a\x1b[31mb
    """
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


class Output:
    """How a verb speaks.

    Args:
        json: data as one JSON document; errors too.
        quiet: no notes and no progress; what was made is named, not told of.
    """

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self.json = json
        self.quiet = quiet
        #: For data: what stdout is before a verb runs, which turns everybody else's to stderr.
        self.stream = sys.stdout

    def echo(self, text: str) -> None:
        """One line of data for a person."""
        click.echo(text if self.json else visible(text), file=self.stream)

    def data(self, value: Any, show: Callable[[Console], None], *, names: Iterable[str] | None = None) -> None:
        """Print `value` as JSON, or let `show` draw it for a person.

        Args:
            value: for JSON.
            show: draws on a console.
            names: of what was made, for a verb that tells of it in sentences; with `-q` they are printed instead, one
                a line, so that a script can go on with them.
        """
        if self.json:
            self.echo(_as_json(value))
        elif self.quiet and names is not None:
            for name in names:
                self.echo(name)
        else:
            show(self.console())

    def table(
        self,
        value: Any,
        header: Sequence[str],
        rows: Iterable[Sequence[str]],
        *,
        right: Sequence[str] = (),
        cut: bool = True,
    ) -> None:
        """Print `value` as JSON, or a table for a person: of many rows, 20 times as fast as rich draws one.

        Args:
            value: for JSON.
            header: titles of the columns.
            rows: cells.
            right: titles of the columns that are flushed right.
            cut: cut what is too wide for the terminal; else it flows into the next line.
        """
        if self.json:
            self.echo(_as_json(value))
            return
        lines = visible(text_table(header, rows, right=right, wide=None)).split("\n")
        if self.stream.isatty():
            import shutil

            edge = shutil.get_terminal_size().columns
            lines = [line if not cut or len(line) <= edge else f"{line[: edge - 1]}…" for line in lines]
            lines[0] = lines[0] if "NO_COLOR" in os.environ else click.style(lines[0], bold=True)
        click.echo("\n".join(lines), file=self.stream)

    def console(self, *, stderr: bool = False) -> Console:
        """A rich console on stdout (or stderr); it honours NO_COLOR and pipes."""
        from zoo.cli.screen import Screen

        stream = sys.stderr if stderr else self.stream
        if stream.isatty():
            return Screen(file=stream, highlight=False, markup=False)
        # A file or a pipe has no edge to wrap at, and no use for the blanks that fill a table's last column.
        trimmed: Any = _Trimmed(stream)
        return Screen(file=trimmed, width=1000, highlight=False, markup=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """One sentence for the person, on stderr."""
        if not self.quiet:
            click.echo(visible(text), err=True)

    def notes(self, texts: Iterable[str]) -> None:
        """Several notes, each said once."""
        for text in dict.fromkeys(texts):
            self.note(f"note: {text}")

    def error(
        self,
        code: str,
        message: str,
        why: str | None,
        hint: str | None,
        notes: Sequence[str],
        facts: Mapping[str, Any] | None = None,
        exit_code: int = 1,
    ) -> None:
        """One error on stderr, and as JSON on stdout, with the `facts` beside it, where JSON was asked for.

        What the process ends with, `exit_code`, is not said.
        """
        if self.json:
            said = {"error": {"code": code, "message": message, "hint": hint}, **(facts or {})}
            self.echo(_whole(_json.dumps(said, ensure_ascii=False)))
        click.echo(visible(f"error[{code}]: {message}"), err=True)
        for text in (why, *notes, hint):
            for line in (text or "").splitlines():
                click.echo(visible(f"  {line}"), err=True)

    @contextmanager
    def progress(self, *, bytes: bool = False) -> Iterator[Callable[[str, int, int], None] | None]:
        """Bars with rate and time left on stderr: `with out.progress() as told: ...told("features", 3, 10)`.

        Without a terminal, and without `--json`, a line now and then instead.

        Args:
            bytes: whether what is counted are bytes.
        """
        terminal = sys.stderr.isatty()
        if self.quiet or (self.json and not terminal):
            yield None
            return
        if not terminal:
            from zoo.cli.lines import Lines

            yield Lines(self.note, bytes=bytes)
            return
        from zoo.cli.bars import bars

        with bars(self.console(stderr=True), bytes=bytes) as told:
            yield told


class _Trimmed:
    """A stream without blanks before the ends of lines."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(_BLANKS.sub("", text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def stdout_for_data() -> Iterator[None]:
    """While plugins are loaded, what any library or child process writes below Python to stdout goes to stderr."""
    sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # closed: nothing can reach it
        yield
        return
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def modes(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb `--json` and `-q`, and pass it an `Output` as `out`.

    What plugins and libraries print while it runs goes to stderr: stdout is for data.
    """
    import functools

    @functools.wraps(function)
    def wrapped(*args: Any, json: bool, quiet: bool, **kwargs: Any) -> Any:
        out = Output(json=json, quiet=quiet)
        with redirect_stdout(sys.stderr):
            return function(*args, out=out, **kwargs)

    wrapped = click.option(
        "-q", "--quiet", is_flag=True, help="No notes, no progress; only the name of what was made."
    )(wrapped)
    return click.option("--json", is_flag=True, help="One JSON document on stdout.")(wrapped)


def percent(value: float | None) -> str:
    """0.9543 -> "95.4 %"."""
    return "-" if value is None else f"{100 * value:.1f} %"


def size(value: int | None) -> str:
    """46807446 -> "46.8 MB"; None -> "?"."""
    if value is None:
        return "?"
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= one:
            return f"{value / one:.1f} {unit}"
    return f"{value} B"


#: Columns from which on a table may show the paths of blobs, which are longer than all else.
WIDE: Final = 160


def table_of(*titles: str, right: Sequence[str] = ()) -> Any:
    """An empty rich table in the zoo's style; the columns of `right` are flushed right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, justify="right" if title in right else "left", overflow="fold")
    return table


def _as_json(value: Any) -> str:
    # Python's fast encoder knows no indentation: a list gets one row a line, 1,400 of them in 5 ms instead of 25.
    if isinstance(value, list):
        rows = (_json.dumps(item, ensure_ascii=False, allow_nan=False) for item in value)
        return _whole("[" + ",".join(f"\n{row}" for row in rows) + ("\n]" if value else "]"))
    return _whole(_json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def _whole(text: str) -> str:
    """JSON in which halves of characters (a file's name may be no text) are escaped."""
    return _HALVES.sub(lambda found: ascii(found[0])[1:-1], text)

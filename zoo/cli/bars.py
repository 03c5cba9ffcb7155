"""Progress bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text


class RateColumn(ProgressColumn):
    """Pieces a second."""

    def render(self, task: Task) -> Text:
        """Nothing before two of them were seen."""
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


@contextmanager
def bars(console: Console, *, bytes: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """One bar per kind of work; gives a function to be called with (what, done, total), in pieces or in bytes."""
    counts = (DownloadColumn(), TransferSpeedColumn()) if bytes else (MofNCompleteColumn(), RateColumn())
    columns = (TextColumn("{task.description:<12}"), BarColumn(40), *counts, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def told(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total or None)
            progress.update(tasks[what], completed=done, total=total or None)
            if 0 < total <= done:
                progress.remove_task(tasks.pop(what))

        yield told

"""plugins: what is installed, what it gives, and what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from zoo.catalog.rows import plugin_cells
from zoo.cli.catalog import plain
from zoo.cli.options import open_registry
from zoo.cli.output import Output, modes
from zoo.errors import PluginError, UsageError
from zoo.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from zoo.catalog.loaded import PluginReport
    from zoo.catalog.registry import Registry

#: Keys of one row of `zoo plugins --json`; with -v also `traceback`.
KEYS = ("name", "version", "origin", "state", "gives", "problem", "distribution", "where", "stage", "seconds")
#: Columns of the table.
COLUMNS = ("name", "version", "origin", "state", "gives", "import", "problem")
#: More backbones than this are checked by their declared facts alone.
RUN_AT_MOST = 20


@click.command("plugins", short_help="List plugins and their problems.")
@click.option("-v", "--verbose", is_flag=True, help="Also distributions, modules and tracebacks.")
@click.option("--check", metavar="NAME", help="Hold one plugin to the contract; exit code 1 if it breaks it.")
@click.option("--requirements", is_flag=True, help="Print what pip must install to have these plugins elsewhere.")
@modes
@click.pass_obj
def plugins_verb(settings: Settings, verbose: bool, check: str | None, requirements: bool, out: Output) -> None:
    """List plugins, what they give, and what is wrong with them."""
    if requirements and (verbose or check is not None):
        raise UsageError("--requirements stands alone", hint="Leave -v and --check out.")
    registry = open_registry(settings, out)
    if check is not None:
        _check(registry, check, verbose, out)
    elif requirements:
        _requirements(registry, out)
    else:
        _list(registry.reports(), verbose, out)


def _list(reports: list[PluginReport], verbose: bool, out: Output) -> None:
    keys = (*KEYS, "traceback") if verbose else KEYS
    rows = [{key: plain(getattr(report, key)) for key in keys} for report in reports]
    out.data(rows, lambda console: _draw(console, reports, verbose))


def _draw(console: Console, reports: list[PluginReport], verbose: bool) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in (*COLUMNS, *(("distribution", "where") if verbose else ())):
        table.add_column(title, justify="right" if title == "import" else "left")
    for report in reports:
        table.add_row(*plugin_cells(report).values(), *((report.distribution or "-", report.where) if verbose else ()))
    console.print(table)
    for report in reports:
        if verbose and report.traceback:
            console.print(f"\n{report.name}, at {report.stage}:\n{report.traceback.rstrip()}")


def _check(registry: Registry, name: str, verbose: bool, out: Output) -> None:
    """Look at what can be known without torch first; only a plugin that is sound so far is built."""
    from zoo.catalog.check import check

    loaded = registry.loaded(name)
    found = list(check(loaded, registry))
    if verbose and loaded.traceback:
        out.note(loaded.traceback.rstrip())
    wrong = [f"{what}: {problem}" for what, problem in found if problem]
    if wrong:
        raise PluginError(
            f"the {loaded.candidate.known_as} has {len(wrong)} problem{'s' * (len(wrong) > 1)}",
            why="\n".join(wrong),
            hint=None if verbose else f"For the traceback, if there is one: zoo plugins --check {loaded.name} -v",
        )
    facts = {
        "name": loaded.name,
        "version": loaded.candidate.version,
        "ok": True,
        "checks": [what for what, _ in found],
    }
    out.data(facts, lambda console: console.print(f"{loaded.name}: {len(found)} checks, nothing is wrong"))


def _requirements(registry: Registry, out: Output) -> None:
    found = [
        {"plugin": report.name if report else None, "requirement": line, "problem": why}
        for report, line, why in registry.requirements()
    ]

    def draw(console: Console) -> None:
        seen = set()
        for row in found:
            line = f"# {row['requirement']}  ({row['problem']})" if row["problem"] else str(row["requirement"])
            if line not in seen:
                seen.add(line)
                console.print(line)

    out.data(found, draw)

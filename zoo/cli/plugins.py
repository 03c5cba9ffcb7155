"""plugins: what is installed, what it gives, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
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

    from zoo.catalog.loaded import Loaded, PluginReport
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
    more = ("distribution", "where") if verbose else ()

    def cells(report: PluginReport) -> list[str]:
        told = plugin_cells(report)
        problem = told.pop("problem")
        return [*told.values(), *((report.distribution or "-", report.where) if verbose else ()), problem]

    columns = (*COLUMNS[:-1], *more, COLUMNS[-1])
    out.table(rows, columns, map(cells, reports), right=("import",), cut=False)
    for report in reports:
        if verbose and report.traceback and not out.json:
            out.echo(f"\n{report.name}, at {report.stage}:\n{report.traceback.rstrip()}")


def _check(registry: Registry, name: str, verbose: bool, out: Output) -> None:
    """What can be known without torch first; only a plugin that is sound so far is built and held to the contract."""
    from zoo.catalog.check import check

    loaded = registry.loaded(name)
    rows = [
        {"check": what, "state": "failed" if why else "ok", "what": why or ""} for what, why in check(loaded, registry)
    ]
    if verbose and loaded.traceback:
        out.note(loaded.traceback.rstrip())
    if not any(row["what"] for row in rows):
        rows += _contract(loaded, out)
    wrong = [row for row in rows if row["state"] == "failed"]
    if wrong:
        error = PluginError(
            f"the {loaded.candidate.known_as} fails {len(wrong)} of {len(rows)} checks",
            why="\n".join(f"{row['check']}: {row['what']}" for row in wrong),
            hint=None
            if verbose or not loaded.traceback
            else f"For the traceback: zoo plugins --check {loaded.name} -v",
        )
        error.facts = {"name": loaded.name, "version": loaded.candidate.version, "ok": False, "checks": rows}
        raise error
    facts = {"name": loaded.name, "version": loaded.candidate.version, "ok": True, "checks": rows}
    skipped = sum(row["state"] == "skipped" for row in rows)

    def draw(console: Console) -> None:
        console.print(f"{loaded.name}: {len(rows) - skipped} checks, nothing is wrong; {skipped} do not apply")
        for row in rows if verbose else ():
            console.print(f"  {row['state']:<8}{row['check']}" + (f": {row['what']}" if row["what"] else ""))

    out.data(facts, draw)


def _contract(loaded: Loaded, out: Output) -> Iterator[dict[str, str]]:
    """Hold it to `zoo.testing.PluginContract`."""
    if loaded.candidate.origin == "file" and Settings().plugins_dir is None:
        out.note("note: for the whole contract set ZOO_PLUGINS_DIR instead of --plugins-dir")
        return
    from zoo.testing import check

    few = len(loaded.backbones) <= RUN_AT_MOST
    if not few:
        out.note(f"note: of more than {RUN_AT_MOST} backbones only the declared facts are compared")
    for finding in check(loaded.name, runs=("*",) if few else ()):
        what = " ".join(filter(None, (finding.what, finding.change)))
        yield {"check": f"{finding.kind} {finding.name} {finding.check}", "state": finding.state, "what": what}


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

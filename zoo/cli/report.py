"""report, catalog: pages of one file, for people."""

from __future__ import annotations

from pathlib import Path

import click

from zoo.cli.options import open_registry
from zoo.cli.output import Output, modes, size
from zoo.settings import Settings


@click.command("catalog", short_help="Write all backbones as one page to search.")
@click.argument("path", type=click.Path(path_type=Path), metavar="OUT.html")
@modes
@click.pass_obj
def catalog_verb(settings: Settings, path: Path, out: Output) -> None:
    """Write OUT.html: every backbone, to search, sort and filter, and parameters against accuracy.

    One file that needs no network. A page that an earlier call wrote is replaced, any other file is not.
    """
    registry = open_registry(settings, out)
    from zoo.report.catalogue import write_catalogue

    facts = write_catalogue(path, registry)
    out.data(
        facts,
        lambda console: console.print(f"{facts['path']}: {facts['backbones']:,} backbones, {size(facts['bytes'])}"),
    )

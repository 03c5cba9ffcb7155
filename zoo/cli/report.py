"""report, catalog: pages of one file, for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zoo.cli.options import RunPlace, open_registry
from zoo.cli.output import Output, modes, size
from zoo.errors import UsageError
from zoo.settings import Settings


@click.command("report", short_help="Write a saved run as one page to read.")
@click.argument("run", type=RunPlace())
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(path_type=Path),
    metavar="OUT.html",
    help="Default: RUN/report.html; needed for a run on the Hub.",
)
@click.option("--data", metavar="DATA", help="The data of the fit, if it moved; or other labelled data to report on.")
@click.option(
    "--guard", is_flag=True, help="Compare with baselines that borrow nothing, unless the run has its verdict."
)
@click.option("--audit/--no-audit", default=True, show_default=True, help="Look at the data too.")
@click.option(
    "--map", "layout", type=click.Choice(["tsne", "pca", "none"]), default="tsne", show_default=True,
    help="How features are laid out on a plane.",
)  # fmt: skip
@click.option(
    "--explain", type=click.IntRange(0, 100), default=4, show_default=True, metavar="N",
    help="Predictions that are explained by covering parts of their pictures: 37 forward passes each.",
)  # fmt: skip
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps ...")
@click.option("--skip-bad", is_flag=True, help="Go on without the samples of --data that cannot be read.")
@modes
@click.pass_obj
def report_verb(
    settings: Settings, run: str | Path, path: Path | None, layout: str, device: str, out: Output, **given: Any
) -> None:
    """Write what RUN is and can do as one HTML page that needs no network.

    The rows that the fit reported are found again where its record says. Where they are gone or have changed, what
    needs them is left out, and the page says so. A page that an earlier call wrote is replaced, any other file is not.
    """
    if path is None and not isinstance(run, Path):
        raise UsageError(f"{run} is on the Hub, and the page needs a place here", hint="Say -o OUT.html.")
    registry = open_registry(settings, out)
    from zoo.adapt.saved import load
    from zoo.report.report import write_report

    learner = load(run, accelerator=device, registry=registry)
    with out.progress() as told:
        facts = write_report(
            learner, path or Path(run) / "report.html", map=None if layout == "none" else layout, progress=told, **given
        )
    out.notes(learner.store.said())
    out.notes(f"left out: {name}: {why}" for name, why in facts["left_out"].items())
    out.data(
        {"run": str(run), **facts},
        lambda console: console.print(f"{facts['path']}: {size(facts['bytes'])}"),
        names=[facts["path"]],
    )


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
        names=[facts["path"]],
    )

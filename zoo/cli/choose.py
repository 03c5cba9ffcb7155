"""rank: which backbone suits the data."""

from __future__ import annotations

from typing import Any

import click

from zoo.cli.options import open_registry
from zoo.cli.output import Output, modes
from zoo.settings import Settings


@click.command("rank", short_help="Compare backbones on data.")
@click.argument("data")
@click.option(
    "-b",
    "--backbone",
    "backbones",
    multiple=True,
    metavar="GLOB",
    help="A name or glob of arch or arch.tag; may be repeated. Default: all weights on this disk.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, metavar="N", help="Of the folds; default 0.")
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True, help="Of the cross-validation.")
@click.option(
    "--halving/--no-halving",
    default=None,
    help="Try all on part of the rows, let the better half go on. Default: from 1,000 rows on.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps ...")
@click.option("--precision", default="auto", show_default=True, help="auto, fp32, bf16 or fp16.")
@click.option("--skip-bad", is_flag=True, help="Go on without the samples that cannot be read.")
@click.option("-y", "--yes", "many", is_flag=True, help="Let globs pull more than 20 sets of weights.")
@modes
@click.pass_obj
def rank_verb(
    settings: Settings, data: str, backbones: tuple[str, ...], device: str, out: Output, **given: Any
) -> None:
    """Rank pretrained backbones for DATA by cross-validated probe accuracy; `=` marks those not told from the best."""
    registry = open_registry(settings, out)
    from zoo.choose.rank import rank

    with out.progress() as told:
        ranking = rank(
            backbones, data, accelerator=device, registry=registry, progress=told,
            note=lambda text: out.note(f"note: {text}"), **given
        )  # fmt: skip
    out.data(ranking.as_json(), lambda console: console.print(str(ranking)))

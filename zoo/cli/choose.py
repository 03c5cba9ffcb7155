"""rank, audit: which backbone suits the data, and whether the data is sound."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.options import open_registry
from zoo.cli.output import Output, count, modes, size
from zoo.errors import ZooError
from zoo.settings import Settings

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry


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
    help="Try all on part of the rows, let the better half and all ties go on. Default: from 1,000 rows on.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps ...")
@click.option("--precision", default="auto", show_default=True, help="auto, fp32, bf16 or fp16.")
@click.option("--skip-bad", is_flag=True, help="Go on without the samples that cannot be read.")
@click.option(
    "--queue",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Share the work with other processes that are given the same: all get the same ranking.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be compared and pulled; do nothing.")
@click.option("--label", metavar="COLUMN", help="The column of DATA that is the target. Default: label.")
@click.option("--group-by", metavar="COLUMN", help="A column of DATA (speaker, patient): its groups are never divided.")
@click.option("-y", "--yes", "many", is_flag=True, help="Let globs pull more than 20 sets of weights.")
@modes
@click.pass_obj
def rank_verb(
    settings: Settings,
    data: str,
    backbones: tuple[str, ...],
    device: str,
    dry_run: bool,
    out: Output,
    **given: Any,
) -> None:
    """Rank pretrained backbones for DATA by cross-validated probe accuracy; `=` marks those not told from the best."""
    registry = open_registry(settings, out)
    if dry_run:
        _would_compare(backbones, registry, out, many=given["many"])
        return
    from zoo.choose.rank import rank

    with out.progress() as told:
        ranking = rank(
            backbones, data, accelerator=device, registry=registry, progress=told,
            note=lambda text: out.note(f"note: {text}"), **given
        )  # fmt: skip
    out.data(ranking.as_json(), lambda console: console.print(str(ranking)))


def _would_compare(backbones: tuple[str, ...], registry: Registry, out: Output, *, many: bool) -> None:
    """The candidates, and what each would cost."""
    from zoo.choose.candidates import candidates

    chosen, notes = candidates(backbones, registry, many=many)
    out.notes(notes)
    rows = [
        {
            "backbone": one.spec.name,
            "weights": one.weights.name,
            "params": one.spec.params,
            "license": one.weights.license,
            "pulled": one.pulled,
            "bytes_to_pull": one.bytes_to_pull,
        }
        for one in chosen
    ]
    cells = [
        (
            one.weights.name,
            count(one.spec.params),
            one.weights.license or "-",
            "-" if one.pulled else size(one.bytes_to_pull),
        )
        for one in chosen
    ]
    out.table(rows, ("weights", "params", "licence", "to pull"), cells, right=("params", "to pull"))


@click.command("audit", short_help="Look for what is wrong with data.")
@click.argument("data")
@click.option("-b", "--backbone", metavar="NAME", help="Whose features are used. Default: the best on this disk.")
@click.option("--label", metavar="COLUMN", help="The column of DATA that is the target. Default: label.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, metavar="N", help="Of the folds; default 0.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps ...")
@click.option("--precision", default="auto", show_default=True, help="auto, fp32, bf16 or fp16.")
@click.option(
    "--fix-list", type=click.Path(path_type=Path), metavar="FILE.csv", help="Write the findings as a CSV to edit."
)
@modes
@click.pass_obj
def audit_verb(settings: Settings, data: str, device: str, fix_list: Path | None, out: Output, **given: Any) -> None:
    """Look for unreadable, odd and double samples, leaks, doubtful labels, shifts and shortcuts in DATA.

    Nothing is changed.
    """
    registry = open_registry(settings, out)
    from zoo.choose.audit import audit, check_fix_list

    if fix_list is not None:
        check_fix_list(fix_list)
    with out.progress() as told:
        found = audit(data, accelerator=device, registry=registry, progress=told, **given)
    if not out.json:
        out.data(None, lambda console: console.print(str(found)))
    if fix_list is not None:
        try:
            out.note(f"written: {found.fix_list(fix_list)}")
        except ZooError as error:  # what was found is not lost
            error.facts.update(found.as_json())
            raise
    if out.json:
        out.data(found.as_json(), lambda console: None)

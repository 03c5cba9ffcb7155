"""evaluate, predict: use a saved run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zoo.cli.options import RunPlace, open_registry
from zoo.cli.output import Output, modes, percent
from zoo.errors import UsageError
from zoo.settings import Settings


@click.command("evaluate", short_help="Evaluate a saved run on data.")
@click.argument("run", type=RunPlace())
@click.argument("data")
@click.option("--guard", is_flag=True, help="Compare with baselines that borrow nothing: does the transfer help?")
@click.option("--train", metavar="DATA", help="For --guard: the data of the fit, if it moved.")
@click.option("--scratch", is_flag=True, help="For --guard: train the architecture from scratch too.")
@click.option("--label", metavar="COLUMN", help="The column of the target in DATA. Default: that of the fit.")
@click.option(
    "--group-by", metavar="COLUMN", help="A column of DATA whose groups are counted. Default: that of the fit."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps ...")
@click.option("--skip-bad", is_flag=True, help="Go on without the samples that cannot be read.")
@modes
@click.pass_obj
def evaluate_verb(
    settings: Settings,
    run: str | Path,
    data: str,
    guard: bool,
    train: str | None,
    scratch: bool,
    label: str | None,
    group_by: str | None,
    device: str,
    skip_bad: bool,
    out: Output,
) -> None:
    """Evaluate RUN on DATA: its test split, else val, else all of it."""
    if (train or scratch) and not guard:
        raise UsageError("--train and --scratch go with --guard")
    registry = open_registry(settings, out)
    from zoo.adapt.again import learned_from
    from zoo.adapt.saved import load

    learner = load(run, accelerator=device, registry=registry)
    opened = learner.open(data, label=label, skip_bad=skip_bad, group_by=group_by)
    out.notes(opened.notes)
    with out.progress() as told:
        evaluation = learner.evaluate(opened, guard, train=train, scratch=scratch, progress=told)
    held = opened.held_out
    if learned := learned_from(learner, data, held):
        out.note(f"note: {learned} of {len(held)} rows were learned from: this figure is too good")
    out.notes([*learner.seen, *learner.store.said()])
    out.data({"run": str(run), **evaluation.as_json()}, lambda console: console.print(str(evaluation)))


@click.command("predict", short_help="Predict with a saved run.")
@click.argument("run", type=RunPlace())
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps ...")
@click.option("--skip-bad", is_flag=True, help="Go on without the samples that cannot be read.")
@modes
@click.pass_obj
def predict_verb(
    settings: Settings, run: str | Path, paths: tuple[str, ...], device: str, skip_bad: bool, out: Output
) -> None:
    """Predict files, folders of files, or the rows of one table, with RUN.

    PATH is what the backbone of RUN eats: pictures, recordings, texts (.txt); or one .csv, .tsv, .jsonl or .parquet of
    paths, texts or rows.
    """
    registry = open_registry(settings, out)
    from zoo.adapt.saved import load
    from zoo.data.task import CLASSES

    learner = load(run, accelerator=device, registry=registry)
    data = learner.unlabelled([Path(path) for path in paths], skip_bad=skip_bad)
    out.notes(data.notes)
    split = data.held_out
    found = learner.predict_proba(split)
    out.notes(learner.seen)
    rows: list[dict[str, Any]] = []
    for i, values in enumerate(found):
        row: dict[str, Any] = {"path": split.named(i) or split.location(i)}
        if learner.task.kind == CLASSES:
            best = int(values.argmax())
            row |= {"label": learner.classes[best], "probability": float(values[best])}
        else:
            row |= {
                "label": None,
                "probability": None,
                "values": dict(zip(learner.classes, values.tolist(), strict=True)),
            }
        rows.append(row)

    def draw(console: Any) -> None:
        for row in rows:
            if row["label"] is None:
                said = ", ".join(f"{name} {value:.4g}" for name, value in row["values"].items())
            else:
                said = f"{row['label']} ({percent(row['probability'])})"
            console.print(f"{row['path']}: {said}", markup=False)

    out.data(rows, draw)

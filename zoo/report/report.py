"""`zoo report`: what a run is, what it can do and what it cannot, on one page that needs no network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from zoo.adapt.clusters import FEW
from zoo.adapt.describe import describe
from zoo.adapt.evaluation import Evaluation, few_groups
from zoo.choose.guard import HELPS, NEGATIVE, rows_of
from zoo.data.task import CLASSES, MULTI_LABEL, REGRESSION, Task
from zoo.errors import UsageError
from zoo.report import charts, figures, tables
from zoo.report.composition import composition, licence_warning, reproduction
from zoo.report.evidence import Evidence, collect
from zoo.report.feature_map import METHODS
from zoo.report.findings import found_in
from zoo.report.occlusion import CELLS
from zoo.report.page import check_place, render, write_page
from zoo.report.reproduce import command
from zoo.report.samples import sample_of

if TYPE_CHECKING:
    from zoo.adapt.learner import Learner

Progress = Callable[[str, int, int], None]
_SECTIONS: Final = {
    "summary": "Summary",
    "training": "Training",
    "classes": "Classes",
    "scatter": "Predictions",
    "probabilities": "Probabilities",
    "mistakes": "Worst mistakes",
    "occlusion": "Explanations",
    "map": "Map of features",
    "guard": "Does it help?",
    "audit": "The data",
    "absent": "Left out",
    "composition": "Composition, licences",
    "reproduce": "Reproduce",
}
#: What is left out, by what would be there.
_ABSENT: Final = {
    "data": "Mistakes, map, audit and all that needs the data",
    "audit": "The data",
    "map": "Map of features",
    "occlusion": "What predictions rest on",
}


def write_report(
    learner: Learner,
    path: str | Path,
    data: Any = None,
    *,
    guard: bool = False,
    audit: bool = True,
    map: str | None = "tsne",
    explain: int = 4,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a report of a fitted learner.

    Args:
        learner: fitted or loaded.
        path: the page; one that an earlier call wrote is replaced.
        data: the data of the fit, if it moved, or other labelled data to report on; None = where the record says. Of
            the fit's own data the rows that it reported on are used, of other data what `evaluate` uses. Data that is
            gone or has changed is no error: what needs it is left out, and the page says so.
        guard: compare with baselines that borrow nothing, unless the run carries its verdict.
        audit: look at the data too.
        map: how features are laid out: "tsne", "pca", or None for no map.
        explain: how many predictions are explained by covering parts of their pictures.
        skip_bad: go on without the samples of `data` that cannot be read.
        progress: called with (what, done, total).

    Returns:
        path, bytes, parity (how far the primary score, measured again, is from the recorded one; None where it was
        not), sections (their ids) and left_out (section -> why).

    Raises:
        UsageError: something that is no page of ours is at `path`, or an unknown kind of map.
        NotFoundError: `data` is nowhere.
        DataError: `data` does not fit the learner; or a guard is asked for, and the data of the fit is not there.
    """
    path = Path(path)
    if map not in (*METHODS, None):
        raise UsageError(f"no map of the kind {map!r}", hint=f"One of: {', '.join(METHODS)}; None for none.")
    if explain < 0:
        raise UsageError(f"{explain} predictions cannot be explained", hint="Give 0 or more.")
    check_place(path)
    record = learner.saved or describe(learner)
    found = collect(
        learner,
        data,
        guarded=guard,
        audited=audit,
        method=map,
        explain=explain,
        skip_bad=skip_bad,
        progress=progress,
    )
    values = _values(record, learner.history, learner.task, found)
    text = render("report.html", script="report.js", **values)
    write_page(path, text)
    return {
        "path": str(path),
        "bytes": path.stat().st_size,
        "parity": found.parity,
        "sections": [name for name, _ in values["contents"]],
        "left_out": dict(found.absent or {}),
    }


def _values(record: Mapping[str, Any], history: list[dict[str, Any]], task: Task, found: Evidence) -> dict[str, Any]:
    """What the template shows."""
    parts, evaluation = record["composition"], found.evaluation
    backbone, strategy = parts["backbone"], parts["strategy"]
    map_chart, legend = figures.feature_map(found, task)
    training = figures.training(history)
    weights = parts["weights"]
    source = weights["name"] if weights else f"{backbone['name']}, random weights"
    values: dict[str, Any] = {
        "title": f"{backbone['name']} + {strategy['name']} on {record['data']['name']}",
        "subtitle": f"{source}, adapted to {_kind(task)}",
        "banners": _banners(found, record),
        "figures": tables.headline(evaluation),
        "where": found.where,
        "honesty": _honesty(found),
        "evaluation": evaluation,
        "regression": task.kind == REGRESSION,
        "training": training,
        "closed": "" if history else _closed(strategy),
        "history": tables.history(history),
        "per_class": tables.per_class(evaluation, task),
        "confusion": tables.confusion(evaluation, task),
        "scatter": figures.predicted_against_true(found, task),
        "reliability": figures.reliability(evaluation),
        "temperature": _temperature(evaluation),
        "curves": figures.curves(evaluation),
        "mistakes": _mistakes(found),
        "mistakes_words": _worst_words(task, found),
        "occlusions": _occlusions(found, task),
        "cells": CELLS,
        "map": map_chart,
        "legend": legend,
        "guard": _guard(evaluation),
        "audit": found_in(found),
        "absent": {_ABSENT[name]: why for name, why in (found.absent or {}).items()},
        "composition": composition(record),
        "licence_warning": licence_warning(weights),
        "command": command(record),
        "reproduction": reproduction(record),
        "notes": [found.shorter(note) for note in record["notes"]],
        "colour": charts.colour,
        "shape": charts.shape,
    }
    values["contents"] = [(name, title) for name, title in _SECTIONS.items() if _there(name, values)]
    return values


def _there(name: str, values: Mapping[str, Any]) -> bool:
    key = {"classes": "per_class", "occlusion": "occlusions", "probabilities": "reliability"}.get(name, name)
    if name == "training":
        return bool(values["history"]["rows"] or values["closed"])
    if name in ("summary", "reproduce"):
        return True
    return values[key] is not None if name == "mistakes" else bool(values[key])


def _kind(task: Task) -> str:
    names = ", ".join(task.classes[:8]) + (" ..." if len(task.classes) > 8 else "")
    many = "s" if task.outputs > 1 else ""
    what = {CLASSES: "tell apart {} class{}", MULTI_LABEL: "mark {} label{}", REGRESSION: "predict {} number{}"}[
        task.kind
    ]
    return f"{what.format(task.outputs, 'es' if many and task.kind == CLASSES else many)}: {names}"


def _banners(found: Evidence, record: Mapping[str, Any]) -> list[str]:
    said = []
    if why := (found.absent or {}).get("data"):
        said.append(f"Without the data: {why}. Figures are those that the fit recorded.")
    said += [f"{text}." for text in found.evaluation.warnings()]
    if found.parity is not None and found.parity > 0.005:
        said.append(
            f"Measured again, {record['metrics']['primary']} differs by {found.parity:.4f} from what the fit recorded: "
            "another device or precision, or another version of a library."
        )
    return said


def _honesty(found: Evidence) -> str:
    groups = found.evaluation.groups
    more = f" And {few_groups(groups)}." if groups and groups < FEW else ""
    if found.data is not None and found.parity is None:
        return f"Whether the fit saw these rows is not known here: the audit of data that hold both would say.{more}"
    return f"These rows chose nothing: no epoch, no regulariser, no checkpoint.{more}"


def _closed(strategy: Mapping[str, Any]) -> str:
    settled = ", ".join(f"{name} {tables.short(value)}" for name, value in (strategy.get("resolved") or {}).items())
    said = "The head was solved in closed form: there are no epochs."
    return f"{said} Settled on the way: {settled}." if settled else said


def _temperature(evaluation: Evaluation) -> str:
    scaled = (evaluation.calibration or {}).get("temperature")
    if not scaled:
        return ""
    return (
        f"A temperature of {scaled['value']:.2f} would leave a calibration error of {scaled['ece']:.3f} and a log loss "
        f"of {scaled['log_loss']:.3f}: each row scaled by one that was fitted on other rows of this set. It is a "
        "diagnosis; the probabilities here are as the model gives them."
    )


def _mistakes(found: Evidence) -> list[dict[str, Any]] | None:
    if found.split is None:
        return None
    return [
        {
            "sample": sample_of(found.split, one.index),
            "where": found.place(found.split, one.index),
            "said": one.said,
            "true": one.true,
        }
        for one in found.mistakes
    ]


def _worst_words(task: Task, found: Evidence) -> str:
    if task.kind == REGRESSION:
        return "The largest errors, measured in standard deviations of the true numbers."
    if task.kind == MULTI_LABEL:
        return "The rows with a wrong label that are furthest from the truth, by log-loss."
    wrong = found.evaluation.n - round((found.evaluation.accuracy or 0) * found.evaluation.n)
    shown = len(found.mistakes)
    return "All mistakes, the surest first." if shown == wrong else f"Of {wrong} mistakes the {shown} surest."


def _occlusions(found: Evidence, task: Task) -> list[dict[str, Any]]:
    mistakes = {one.index: one for one in found.mistakes} if task.kind != REGRESSION else {}
    shown = []
    for row, one in found.occlusions:
        assert found.split is not None
        assert found.outputs is not None
        wrong = mistakes.get(row)
        shown.append(
            {
                "picture": one.picture,
                "heat": one.heat,
                "drop": f"falls by up to {one.drop:.2g}" if one.drop > 0 else "no window lowers it",
                "output": one.output,
                "wrong": wrong is not None,
                "said": wrong.said if wrong else _said(found.outputs[row], task),
                "true": wrong.true if wrong else "",
                "where": found.place(found.split, row),
            }
        )
    return shown


def _said(outputs: Any, task: Task) -> str:
    best = int(outputs.argmax())
    return f"{outputs[0]:.4g}" if task.kind == REGRESSION else f"{task.classes[best]} ({outputs[best]:.0%})"


def _guard(evaluation: Evaluation) -> dict[str, Any] | None:
    found = evaluation.guard
    if not found:
        return None
    tone = {HELPS: "good", NEGATIVE: "bad"}.get(found["verdict"], "warn")
    low, high = found["interval"]
    return {
        "verdict": found["verdict"],
        "tone": tone,
        "words": f"{found['gain']:+.3f} [{low:+.3f}, {high:+.3f}] against {found['against']} "
        f"on {rows_of(found['n'], found.get('groups'))}. {found['advice']}",
        "chart": figures.verdict(found),
        "baselines": found["baselines"],
        "accuracies": any(one["accuracy"] is not None for one in found["baselines"]),
        "notes": found["notes"],
    }

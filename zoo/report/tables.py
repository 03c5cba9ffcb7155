"""An evaluation and a history as tables."""

from __future__ import annotations

from typing import Any, Final

from zoo.adapt.evaluation import Evaluation
from zoo.catalog.tables import counted
from zoo.data.task import CLASSES, MULTI_LABEL, REGRESSION, Task
from zoo.report.page import number

#: Rows of the table of classes.
CLASSES_SHOWN: Final = 100
#: Classes of a matrix at most; above `NARROW`, confusions are listed too.
MATRIX: Final = 25
NARROW: Final = 6
#: Confusions that are listed.
PAIRS: Final = 10
#: Scores that are not called by their names.
_TITLES: Final = {"roc_auc": "ROC AUC", "macro_f1": "macro F1", "r2": "R2", "rmse": "RMSE", "mae": "MAE", "f1": "F1"}


def headline(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """(name, value, more) of each score."""
    shown = []
    for name, value in evaluation.scores.items():
        more = ""
        if name == "accuracy" and evaluation.interval:
            more = f"95 %: {evaluation.interval[0]:.3f} to {evaluation.interval[1]:.3f}"
            more += f", {counted(evaluation.groups, 'group')}" if evaluation.groups else ""
        shown.append((_TITLES.get(name, name.replace("_", " ")), number(value), more))
    if evaluation.calibration:
        shown.append(("calibration error", number(evaluation.calibration["ece"]), ""))
    for name, one in (evaluation.beside or {}).items():
        shown.append((name, number(one[evaluation.primary]), f"{evaluation.primary}, on the same rows"))
    if evaluation.guard:
        shown.append(("guard", evaluation.guard["verdict"], f"{evaluation.guard['gain']:+.3f} on the best baseline"))
    return shown


def history(history: list[dict[str, Any]]) -> dict[str, Any]:
    """Names of the columns, and a row for each epoch."""
    names = list(dict.fromkeys(name for one in history for name in one))
    return {"names": names, "rows": [[short(one.get(name)) for name in names] for one in history]}


def short(value: Any) -> str:
    """A number for people."""
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def per_class(evaluation: Evaluation, task: Task) -> dict[str, Any] | None:
    """A row for each class, label or number."""
    if not evaluation.per_class:
        return None
    names = list(next(iter(evaluation.per_class.values())))
    bars = task.kind != REGRESSION

    def cell(key: str, value: float | int | None) -> dict[str, Any]:
        return {"text": number(value), "share": _share(value) if bars and key != "n" else None}

    rows = [
        (name, [cell(key, one[key]) for key in names])
        for name, one in list(evaluation.per_class.items())[:CLASSES_SHOWN]
    ]
    left = len(evaluation.per_class) - len(rows)
    of = {CLASSES: "class", MULTI_LABEL: "label", REGRESSION: "number"}[task.kind]
    return {"title": {"class": "Classes", "label": "Labels", "number": "Numbers"}[of], "of": of, "names": names,
            "rows": rows, "left": f"... and {left} more; zoo evaluate --json has all." if left else ""}  # fmt: skip


def _share(value: float | int | None) -> float | None:
    return None if value is None else round(100 * min(1.0, max(0.0, value)), 1)


def confusion(evaluation: Evaluation, task: Task) -> dict[str, Any] | None:
    """The matrix with the share of each cell in its row, for few classes; the most frequent confusions, for many."""
    if evaluation.confusion is None:
        return None
    matrix = evaluation.confusion
    cells = []
    if task.outputs <= MATRIX:
        for name, row in zip(task.classes, matrix, strict=True):
            n = sum(row)
            cells.append((name, [(count, round(60 * count / n) if n else 0) for count in row]))
    pairs = [
        (task.classes[i], task.classes[j], count)
        for i, row in enumerate(matrix)
        for j, count in enumerate(row)
        if i != j and count
    ]
    pairs.sort(key=lambda pair: -pair[2])
    return {"names": task.classes, "cells": cells, "pairs": pairs[:PAIRS] if task.outputs > NARROW else []}

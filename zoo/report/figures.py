"""An evaluation, a history and a guard as charts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np

from zoo.adapt.evaluation import Evaluation
from zoo.data.dataset import Data
from zoo.data.task import CLASSES, REGRESSION, Task
from zoo.report.charts import Axis, Bar, Chart, Dot, Line, linear
from zoo.report.evidence import Evidence, numbered

#: Of an epoch's record, what is no loss.
_APART: Final = ("epoch", "epochs", "lr", "seconds", "rows_per_second")
#: Classes that have a colour on the map; the others share grey.
COLOURED: Final = 12
#: Points of a scatter.
_POINTS: Final = 1500
#: Target columns that have a chart.
_COLUMNS: Final = 3
_SHARE: Final = Axis(0, 1, tuple((i / 5, f"{i / 5:.1f}") for i in range(6)))


def training(history: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Losses and learning rate by epoch; none for closed forms, nor for a single epoch, which is no curve."""
    if len(history) < 2:
        return []
    epochs = [float(i) if epoch is None else epoch for i, epoch in enumerate(_column(history, "epoch"))]
    x = linear(epochs, "epoch")
    ticks = tuple((tick, text) for tick, text in x.ticks if float(tick).is_integer())
    x = Axis(min(epochs) - 0.5, max(epochs) + 0.5, tuple((t, f"{t:.0f}") for t, _ in ticks), "epoch")
    names = dict.fromkeys(name for one in history for name in one)
    losses = [name for name in names if name not in _APART and _numbers(history, name)]
    charts = []
    for title, chosen in (("Loss by epoch", losses), ("Learning rate by epoch", ["lr"])):
        lines = [
            Line([(e, v) for e, v in zip(epochs, _column(history, name), strict=True) if v is not None],
                 name.replace("_", " "), i)
            for i, name in enumerate(chosen)
            if _numbers(history, name)
        ]  # fmt: skip
        if not lines:
            continue
        values = [value for line in lines for _, value in line.points]
        said = "; ".join(f"{line.name} from {line.points[0][1]:.4g} to {line.points[-1][1]:.4g}" for line in lines)
        dots = [Dot(e, v, line.colour, f"{line.name}, epoch {e:g}: {v:.4g}") for line in lines for e, v in line.points]
        charts.append(
            Chart(
                title,
                f"{said}, over {len(history)} epochs.",
                x,
                linear(values, zero=True),
                lines,
                dots=dots,
                height=260,
                margins=(64, 44, 12, 14),
            )
        )
    return charts


def _column(history: Sequence[Mapping[str, Any]], name: str) -> list[float | None]:
    return [float(v) if isinstance(v := one.get(name), (int, float)) and math.isfinite(v) else None for one in history]


def _numbers(history: Sequence[Mapping[str, Any]], name: str) -> bool:
    return any(value is not None for value in _column(history, name))


def reliability(evaluation: Evaluation) -> Chart | None:
    """Frequency over confidence."""
    found = evaluation.calibration
    if not found or not found["bins"]:
        return None
    bars = [
        Bar(one["low"] + 0.004, one["high"] - 0.004, 0.0, one["accuracy"],
            f"{one['n']} at a confidence of {one['confidence']:.3f}: {one['accuracy']:.3f} right")
        for one in found["bins"]
    ]  # fmt: skip
    points = [(one["confidence"], one["accuracy"]) for one in found["bins"]]
    return Chart(
        "Reliability diagram",
        f"Bars on the diagonal would be perfect. On average they are {found['ece']:.3f} away from it, the worst one "
        f"{found['mce']:.3f}.",
        Axis(0, 1, _SHARE.ticks, "confidence"),
        Axis(0, 1, _SHARE.ticks, "share that is right" if evaluation.confusion else "share that is true"),
        lines=[Line([(0, 0), (1, 1)], colour=None, dashed=True)],
        bars=bars,
        dots=[Dot(x, y, 1) for x, y in points],
        width=340,
        height=290,
        margins=(54, 44, 12, 14),
    )


def curves(evaluation: Evaluation) -> list[Chart]:
    """ROC and precision-recall of two classes."""
    found = evaluation.curves
    if not found:
        return []
    roc, pr, name = found["roc"], found["pr"], found["positive"]
    area, precision = evaluation.scores.get("roc_auc"), evaluation.scores.get("average_precision")
    share = evaluation.per_class.get(name, {}).get("n")
    base = share / evaluation.n if share else 0.0
    size: dict[str, Any] = {"width": 340, "height": 290, "margins": (54, 44, 12, 14)}
    return [
        Chart(
            "ROC curve",
            f"Area {_three(area)}: so likely does a row of {name} get a higher score than another row. "
            "Chance is the diagonal.",
            Axis(0, 1, _SHARE.ticks, "others taken for it"),
            Axis(0, 1, _SHARE.ticks, "found"),
            [Line([(0, 0), (1, 1)], colour=None, dashed=True),
             Line(list(zip(roc["false_positive_rate"], roc["true_positive_rate"], strict=True)))],
            **size,
        ),
        Chart(
            "Precision and recall",
            f"Average precision {_three(precision)}; the dashed line, {base:.2f}, is a guess.",
            Axis(0, 1, _SHARE.ticks, "recall"),
            Axis(0, 1, _SHARE.ticks, "precision"),
            [Line([(0, base), (1, base)], colour=None, dashed=True),
             Line(list(zip(pr["recall"], pr["precision"], strict=True)))],
            **size,
        ),
    ]  # fmt: skip


def verdict(guard: Mapping[str, Any] | None) -> Chart | None:
    """The gain over each baseline, with its interval."""
    if not guard or not guard["baselines"]:
        return None
    baselines = guard["baselines"]
    ends = [end for one in baselines for end in one["gain_interval"]]
    height = 70 + 34 * len(baselines)
    return Chart(
        "Gain over each baseline",
        "; ".join(
            f"{one['name']} {one['gain']:+.3f} [{one['gain_interval'][0]:+.3f}, {one['gain_interval'][1]:+.3f}]"
            for one in baselines
        )
        + ". Right of 0 the transfer is better.",
        linear([0.0, *ends], "gain, 95 % interval"),
        Axis(len(baselines) - 0.5, -0.5, tuple((i, one["name"]) for i, one in enumerate(baselines))),
        lines=[
            Line([(0, -0.5), (0, len(baselines) - 0.5)], colour=None, dashed=True),
            *(Line([(one["gain_interval"][0], i), (one["gain_interval"][1], i)]) for i, one in enumerate(baselines)),
        ],
        dots=[Dot(one["gain"], i, 0, f"{one['name']}: {one['gain']:+.3f}") for i, one in enumerate(baselines)],
        height=height,
        margins=(130, 44, 8, 20),
    )


def predicted_against_true(found: Evidence, task: Task) -> list[Chart]:
    """Of regression: one chart for each of the first target columns."""
    if task.kind != REGRESSION or found.outputs is None or found.split is None:
        return []
    truth = np.asarray(found.split.targets, dtype=np.float64).reshape(len(found.outputs), -1)
    rows = np.unique(np.linspace(0, len(truth) - 1, min(len(truth), _POINTS)).round().astype(int))
    charts = []
    for i, name in enumerate(task.classes[:_COLUMNS]):
        x, y = linear(truth[:, i], "true"), linear(found.outputs[:, i].tolist(), "predicted")
        ends = [max(x.low, y.low), min(x.high, y.high)]
        figures = found.evaluation.per_class[name]
        charts.append(
            Chart(
                f"Predicted against true: {name}",
                f"R2 {_three(figures['r2'])}, RMSE {figures['rmse']:.4g}. On the dashed line a prediction is right.",
                x,
                y,
                [Line([(end, end) for end in ends], colour=None, dashed=True)] if ends[0] < ends[1] else [],
                dots=[
                    Dot(truth[r, i], float(found.outputs[r, i]), 0, found.place(found.split, int(r)))
                    for r in rows.tolist()
                ],
                width=400,
                height=330,
                margins=(64, 44, 12, 14),
            )
        )
    return charts


def feature_map(found: Evidence, task: Task) -> tuple[Chart | None, list[tuple[str, int | None, int]]]:
    """The map and its legend: (name, series, rows)."""
    if found.map is None or found.data is None:
        return None, []
    places = numbered(found.data)
    suspects = {(one["split"], one["index"]) for one in found.audit.label_suspects} if found.audit else set()
    groups, names = _groups(found.data, task)
    held = [groups[row] for row in found.map.rows.tolist()]
    counts = {name: held.count(i) for i, name in enumerate(names)}
    dots = []
    for (x, y), row, group in zip(found.map.places.tolist(), found.map.rows.tolist(), held, strict=True):
        split, index = places[row]
        series = group if names[group] != _OTHERS else None
        title = f"{found.place(split, index)} ({split.name}): {names[group]}"
        dots.append(Dot(x, y, series, title, (split.name, index) in suspects, str(group)))
    dots.sort(key=lambda dot: (dot.suspect, dot.series is not None))  # what matters is drawn last
    chart = Chart(
        "Map of features",
        found.map.words + (" Ringed: labels that the audit suspects." if suspects else ""),
        _around(found.map.places[:, 0]),
        _around(found.map.places[:, 1]),
        dots=dots,
        width=760,
        height=520,
        margins=(6, 6, 6, 6),
    )
    legend = [(name, i if name != _OTHERS else None, counts[name]) for i, name in enumerate(names) if counts[name]]
    return chart, legend


_OTHERS: Final = "other classes"


def _groups(data: Data, task: Task) -> tuple[list[int], list[str]]:
    """The group of each row, and the groups' names."""
    targets = [np.asarray(split.targets) for split in data.splits.values()]
    if task.kind == CLASSES:
        codes = np.concatenate(targets)
        counts = np.bincount(codes, minlength=task.outputs)
        if task.outputs <= COLOURED:
            return codes.tolist(), list(task.classes)
        most = np.argsort(-counts, kind="stable")[:COLOURED].tolist()
        place = {code: i for i, code in enumerate(most)}
        return [place.get(code, COLOURED) for code in codes.tolist()], [*(task.classes[c] for c in most), _OTHERS]
    values = np.concatenate([one.reshape(len(one), -1) for one in targets]).astype(np.float64)
    if task.kind == REGRESSION:
        edges = np.unique(np.quantile(values[:, 0], [0.2, 0.4, 0.6, 0.8]))
        ends = [values[:, 0].min(), *edges, values[:, 0].max()]
        names = [f"{task.classes[0]} {a:.4g} to {b:.4g}" for a, b in pairwise(ends)]
        return np.searchsorted(edges, values[:, 0]).tolist(), names
    sums = values.sum(axis=1)
    alone = np.where(sums == 1, values.argmax(axis=1), np.where(sums == 0, task.outputs, task.outputs + 1))
    if task.outputs <= COLOURED - 2:
        return alone.astype(int).tolist(), [*(f"{name} alone" for name in task.classes), "no label", "several labels"]
    return np.minimum(sums, 3).astype(int).tolist(), ["no label", "one label", "two labels", "three labels or more"]


def _around(values: np.ndarray) -> Axis:
    low, high = float(values.min()), float(values.max())
    space = 0.04 * (high - low) or 1.0
    return Axis(low - space, high + space, ())


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"

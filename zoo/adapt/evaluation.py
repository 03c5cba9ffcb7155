"""What a fitted learner is worth on rows it did not learn from.

Every figure is a finite number or an explicit None. Where a ratio is 0 / 0 (the precision of a class never predicted,
the recall of a class without rows) it is 0.0, as scikit-learn's `zero_division=0`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from zoo.adapt import clusters
from zoo.catalog.tables import counted, html_table
from zoo.data.task import CLASSES, MULTI_LABEL, Task
from zoo.errors import DataError, TrainingError

#: Two-sided 95 % of the normal distribution.
Z95: Final = 1.959963984540054
#: Classes shown when an evaluation is printed; JSON has them all.
SHOWN: Final = 20
_HEAD: Final = ("primary", "accuracy", "interval", "n", "split", "groups", "interval_by")
#: Fields that are objects or None.
_MORE: Final = ("calibration", "curves", "guard", "beside")
#: Scores of the first line that is printed; those measured in detail have a line of their own.
_FIRST: Final = ("accuracy", "f1", "r2", "rmse", "mae", "mean_average_precision", "log_loss")
#: How scores are called in print, where not by their name.
_CALLED: Final = {"roc_auc": "ROC AUC", "macro_f1": "macro F1"}


@dataclass(frozen=True)
class Evaluation:
    """Figures of one split. Prints as a table; renders as one in a notebook.

    Attributes:
        primary: which score counts: "accuracy" (classes), "f1" (multi-label, micro-averaged) or "r2" (regression).
        scores: name -> number. Classes: accuracy, log_loss. Multi-label: f1, accuracy (all labels of a row right),
            mean_average_precision (None where no label has a row), log_loss (mean over rows and labels).
            Regression: r2, rmse, mae, averaged over the target columns. Measured in detail, also balanced_accuracy
            (classes), macro_f1, and for two classes or several labels roc_auc (and average_precision of the second
            class); see `zoo.adapt.details`.
        interval: 95 % interval of the accuracy: Wilson's, and where rows have groups, theirs (see `accuracy_interval`);
            None for regression.
        n: rows.
        split: their name.
        per_class: class -> precision, recall, f1, n (rows that truly have it); multi-label also average_precision
            (None without such rows). For regression: column -> r2, rmse, mae, n.
        confusion: rows by true class (down) and predicted class (across); None unless the task is classes.
        calibration: whether probabilities keep their word (`zoo.adapt.calibration`); None unless measured in detail.
        curves: for two classes, measured in detail: `positive` (the second class), `roc` and `pr`, as lists of points.
        guard: the verdict of a comparison with baselines (see `zoo.choose.guard.Guard.as_json`), where one was made.
        beside: name -> the headline of something else on the same rows, where the strategy has it judged too.
        groups: of how many groups the rows are; None where no two rows are of one, or none are known.
    """

    primary: str
    scores: Mapping[str, float | None]
    interval: tuple[float, float] | None
    n: int
    split: str
    per_class: Mapping[str, Mapping[str, float | int | None]] = field(default_factory=dict)
    confusion: tuple[tuple[int, ...], ...] | None = None
    calibration: Mapping[str, Any] | None = None
    curves: Mapping[str, Any] | None = None
    guard: Mapping[str, Any] | None = None
    beside: Mapping[str, Mapping[str, Any]] | None = None
    groups: int | None = None

    @property
    def accuracy(self) -> float | None:
        """Part of the rows that are right; None for regression."""
        return self.scores.get("accuracy")

    @property
    def value(self) -> float:
        """The primary score."""
        return float(self.scores[self.primary] or 0.0)

    def headline(self) -> dict[str, Any]:
        """The primary score and what it stands on: primary, accuracy, interval, n, split (and r2, rmse ..., beside).

        Of rows that have groups also `groups`, their number, and `interval_by`: "groups".
        """
        head = {
            "primary": self.primary,
            "accuracy": self.accuracy,
            "interval": None if self.interval is None else list(self.interval),
            "n": self.n,
            "split": self.split,
        }
        scores = {name: score for name, score in self.scores.items() if name not in head}
        grouped = {"groups": self.groups, "interval_by": "groups"} if self.groups else {}
        return {**head, **grouped, **scores, **({"beside": dict(self.beside)} if self.beside else {})}

    def as_json(self) -> dict[str, Any]:
        """All of it, in types that JSON has."""
        return {
            **self.headline(),
            "per_class": {name: dict(figures) for name, figures in self.per_class.items()},
            "confusion": None if self.confusion is None else [list(row) for row in self.confusion],
            **{name: None if found is None else dict(found) for name, found in self._more().items()},
        }

    def _more(self) -> dict[str, Mapping[str, Any] | None]:
        return {name: getattr(self, name) for name in _MORE}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Evaluation:
        """What `as_json` gave, read back."""
        apart = {*_HEAD, *_MORE, "per_class", "confusion"}
        scores = {key: value for key, value in record.items() if key not in apart}
        if record["accuracy"] is not None:
            scores = {"accuracy": record["accuracy"], **scores}
        confusion = record.get("confusion")
        return cls(
            primary=record["primary"],
            scores=scores,
            interval=None if record["interval"] is None else tuple(record["interval"]),
            n=record["n"],
            split=record["split"],
            per_class=record.get("per_class", {}),
            confusion=None if confusion is None else tuple(tuple(row) for row in confusion),
            groups=record.get("groups"),
            **{name: record.get(name) for name in _MORE},
        )

    def __str__(self) -> str:
        header, rows, left = self._table()
        lines = [self.sentence()]
        if rows:
            widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
            for row in [header, *rows]:
                cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
                lines.append("  " + "  ".join(cells).rstrip())
        lines += [text for text in (left, *self.closer()) if text]
        return "\n".join([*lines, self.guard["words"]] if self.guard else lines)

    def _repr_html_(self) -> str:
        header, rows, left = self._table()
        table = html_table(header, rows) if rows else ""
        below = [f"<p>{escape(text)}</p>" for text in (left, *self.closer()) if text]
        below += [f"<pre>{escape(self.guard['words'])}</pre>"] if self.guard else []
        return f"<p>{escape(self.sentence())}</p>{table}" + "".join(below)

    def sentence(self) -> str:
        """The scores in one line."""
        sure = f" (95 % interval {self.interval[0]:.3f} to {self.interval[1]:.3f})" if self.interval else ""
        names = [self.primary, *(name for name in _FIRST if name in self.scores and name != self.primary)]
        said = {name: f"{name.replace('_', ' ')} {_shown(self.scores[name])}" for name in names}
        if "accuracy" in said:
            said["accuracy"] += sure
        grouped = f", {counted(self.groups, 'group')}" if self.groups else ""
        return f"{', '.join(said.values())} on {self.n} rows of {self.split}{grouped}"

    def closer(self) -> list[str]:
        """What was measured in detail, in sentences; none where nothing was."""
        more = [f"{_CALLED.get(name, name.replace('_', ' '))} {_shown(score)}" for name, score in self.scores.items()
                if name not in _FIRST]  # fmt: skip
        said = [", ".join(more)] if more else []
        if self.curves:
            said[0] += f" (of {self.curves['positive']})"
        if self.calibration:
            text = f"calibration error {self.calibration['ece']:.3f}"
            if scaled := self.calibration["temperature"]:
                text += f" ({scaled['ece']:.3f} at a temperature of {scaled['value']:.2f}, fitted on other rows)"
            said.append(text)
        said += [self._next_to(name) for name in self.beside or {}]
        return [*said, few_groups(self.groups)] if self.groups and self.groups < clusters.FEW else said

    def warnings(self) -> list[str]:
        """A sentence on each figure beside this one that is better."""
        worse = {name: one for name, one in (self.beside or {}).items() if (one[self.primary] or 0.0) > self.value}
        ours = f"this fit reports {self.primary} {self.value:.3f}"
        return [f"{ours}, and {self._next_to(name)}: it did not help" for name in worse]

    def _next_to(self, name: str) -> str:
        figures = (self.beside or {})[name]
        return f"{name} has {self.primary} {_shown(figures[self.primary])} on the same rows"

    def mistaken(self) -> dict[str, str]:
        """Class -> the class that its rows are most often taken for, and how often: "bee (3)"; "" where never."""
        found = {}
        for i, name in enumerate(self.per_class if self.confusion else ()):
            wrong = [0 if j == i else count for j, count in enumerate(self.confusion[i])]  # type: ignore[index]
            worst = max(range(len(wrong)), key=wrong.__getitem__)
            found[name] = f"{list(self.per_class)[worst]} ({wrong[worst]})" if wrong[worst] else ""
        return found

    def _table(self) -> tuple[list[str], list[list[str]], str]:
        """Header, rows, and a word on the rows left out."""
        figures = list(next(iter(self.per_class.values()), {}))
        rows = [[name, *(_shown(one[key]) for key in figures)] for name, one in list(self.per_class.items())[:SHOWN]]
        left = len(self.per_class) - len(rows)
        header = ["class", *(key.replace("_", " ") for key in figures)]
        if self.calibration and self.confusion:
            header.append("taken for")
            mistaken = self.mistaken()
            rows = [[*row, mistaken[row[0]]] for row in rows]
        return header, rows, f"... and {left} more, in as_json()" if left else ""


def few_groups(groups: int) -> str:
    """What is said where rows are of fewer than `clusters.FEW` groups."""
    if groups == 1:
        return "all rows are of one group: what they say of it, they do not say of others"
    return f"{groups} groups are few: intervals that draw whole groups are too narrow with fewer than {clusters.FEW}"


def evaluate(
    outputs: Tensor,
    targets: np.ndarray,
    task: Task,
    *,
    split: str,
    groups: np.ndarray | None = None,
    detailed: bool = False,
) -> Evaluation:
    """Compare a model's outputs with the truth.

    Args:
        outputs: (N, C): logits for classes and multi-label, numbers for regression.
        targets: as `zoo.data.task.infer_task` encodes them.
        task: kind and classes.
        split: name of the rows, for the record.
        groups: (N,) rows of one number belong together, and are not counted as independent.
        detailed: measure calibration, curves and more scores too, with scikit-learn.

    Raises:
        DataError: no rows, rows without a label, or shapes that do not fit the task.
        TrainingError: outputs that are not finite.
    """
    targets = np.asarray(targets)
    outputs = outputs.detach().cpu().double()
    _check(outputs, targets, task, split)
    if task.kind == CLASSES:
        found = _classes(outputs, targets, task, split, groups)
    elif task.kind == MULTI_LABEL:
        found = _multi_label(outputs, targets.astype(np.int64), task, split, groups)
    else:
        found = _regression(outputs.numpy(), targets.astype(np.float64).reshape(len(targets), -1), task, split)
    found = replace(found, groups=clusters.count(groups))
    if not detailed:
        return found
    from zoo.adapt.details import details

    scores, more = details(outputs, targets, task)
    return replace(found, scores={**found.scores, **scores}, **more)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a proportion of `hits` in `n` > 0 trials (Wilson 1927). It never leaves [0, 1]."""
    share, z2 = hits / n, Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return (0.0 if hits == 0 else max(0.0, centre - half)), (1.0 if hits == n else min(1.0, centre + half))


def accuracy_interval(right: np.ndarray, groups: np.ndarray | None = None) -> tuple[float, float]:
    """95 % interval of the share of rows (N,) that are right.

    Wilson's, which counts each row. Where rows have groups, each end is the wider one of it and of the bootstrap that
    draws whole groups (`clusters.bootstrap`): what is alike makes no figure surer, and a few groups that happen to be
    equal do not either.
    """
    low, high = wilson(int(right.sum()), len(right))
    if clusters.clustered(groups) is None:
        return low, high
    drawn = clusters.bootstrap(right, groups)
    return min(low, drawn[0]), max(high, drawn[1])


def _classes(outputs: Tensor, targets: np.ndarray, task: Task, split: str, groups: np.ndarray | None) -> Evaluation:
    count = task.outputs
    predicted = outputs.argmax(dim=1).numpy()
    confusion = np.bincount(targets * count + predicted, minlength=count * count).reshape(count, count)
    hits, n = int(confusion.trace()), len(targets)
    truth = torch.from_numpy(targets.astype(np.int64))
    return Evaluation(
        primary="accuracy",
        scores={"accuracy": hits / n, "log_loss": float(cross_entropy(outputs, truth))},
        interval=accuracy_interval(predicted == targets, groups),
        n=n,
        split=split,
        per_class=_per_class(confusion.diagonal(), confusion.sum(axis=0), confusion.sum(axis=1), task),
        confusion=tuple(tuple(int(cell) for cell in row) for row in confusion),
    )


def _multi_label(outputs: Tensor, targets: np.ndarray, task: Task, split: str, groups: np.ndarray | None) -> Evaluation:
    predicted = (outputs > 0).numpy()
    truth = targets.astype(bool)
    hits, called, real = (predicted & truth).sum(axis=0), predicted.sum(axis=0), truth.sum(axis=0)
    right, n = (predicted == truth).all(axis=1), len(targets)
    precisions = _average_precisions(outputs.numpy(), truth)
    known = [value for value in precisions if value is not None]
    per_class = _per_class(hits, called, real, task)
    return Evaluation(
        primary="f1",
        scores={
            "f1": _ratio(2 * hits.sum(), called.sum() + real.sum()),
            "accuracy": int(right.sum()) / n,
            "mean_average_precision": sum(known) / len(known) if known else None,
            "log_loss": float((softplus(outputs) - outputs * torch.from_numpy(targets)).mean()),
        },
        interval=accuracy_interval(right, groups),
        n=n,
        split=split,
        per_class={
            name: {**figures, "average_precision": value}
            for (name, figures), value in zip(per_class.items(), precisions, strict=True)
        },
    )


def _regression(outputs: np.ndarray, targets: np.ndarray, task: Task, split: str) -> Evaluation:
    errors = outputs - targets
    squared = (errors**2).sum(axis=0)
    spread = ((targets - targets.mean(axis=0)) ** 2).sum(axis=0)
    n = len(targets)
    columns = {
        "r2": [_r2(float(s), float(total)) for s, total in zip(squared, spread, strict=True)],
        "rmse": np.sqrt(squared / n).tolist(),
        "mae": np.abs(errors).mean(axis=0).tolist(),
    }
    return Evaluation(
        primary="r2",
        scores={name: float(np.mean(values)) for name, values in columns.items()},
        interval=None,
        n=n,
        split=split,
        per_class={
            name: {**{key: values[i] for key, values in columns.items()}, "n": n} for i, name in enumerate(task.classes)
        },
    )


def _per_class(hits: np.ndarray, called: np.ndarray, real: np.ndarray, task: Task) -> dict[str, dict[str, float | int]]:
    return {
        name: {
            "precision": _ratio(hits[i], called[i]),
            "recall": _ratio(hits[i], real[i]),
            "f1": _ratio(2 * hits[i], called[i] + real[i]),
            "n": int(real[i]),
        }
        for i, name in enumerate(task.classes)
    }


def _average_precisions(scores: np.ndarray, truth: np.ndarray) -> list[float | None]:
    """Of each label; None for a label that no row has."""
    from sklearn.metrics import average_precision_score

    return [
        float(average_precision_score(truth[:, i], scores[:, i])) if truth[:, i].any() else None
        for i in range(truth.shape[1])
    ]


def _r2(squared: float, spread: float) -> float:
    """1 - squared / spread; for constant targets 1.0 where all are met, else 0.0."""
    return 1 - squared / spread if spread else float(squared == 0)


def _ratio(part: int | np.integer, whole: int | np.integer) -> float:
    return float(part / whole) if whole else 0.0


def _shown(value: float | int | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.3f}"


def _check(outputs: Tensor, targets: np.ndarray, task: Task, split: str) -> None:
    if len(targets) == 0:
        raise DataError(f"{split} has no rows to evaluate on")
    if outputs.shape != (len(targets), task.outputs):
        raise DataError(
            f"outputs of shape {tuple(outputs.shape)} do not fit {len(targets)} rows and {task.outputs} outputs"
        )
    if not bool(outputs.isfinite().all()):
        bad = int((~outputs.isfinite()).any(dim=1).sum())
        raise TrainingError(
            f"the outputs for {bad} of {len(targets)} rows of {split} are not finite",
            hint="Try precision=fp32 or a lower learning rate.",
        )
    if task.kind == CLASSES:
        known = targets.ndim == 1 and bool(((targets >= 0) & (targets < task.outputs)).all())
    else:
        known = targets.size == outputs.numel() and bool(np.isfinite(targets).all())
    if not known:
        raise DataError(
            f"{split} has rows without a usable label",
            hint="Evaluate on rows that are all labelled, with the classes that were learned.",
        )

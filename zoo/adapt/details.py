"""What scikit-learn measures of outputs beyond the figures that every fit reports: it takes a second to import."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from torch import Tensor

from zoo.adapt.calibration import calibration
from zoo.data.task import CLASSES, MULTI_LABEL, Task

#: Points of a curve that are kept.
POINTS: Final = 200

Scores = dict[str, float | None]


def details(outputs: Tensor, targets: np.ndarray, task: Task) -> tuple[Scores, dict[str, Any]]:
    """Measure outputs more closely.

    Args:
        outputs: (N, C), float64 on the CPU.
        targets: as `zoo.data.task.infer_task` encodes them.
        task: kind and classes.

    Returns:
        More scores: balanced_accuracy and macro_f1 (over the classes that occur), and for two classes roc_auc and
        average_precision of the second one; macro_f1 and roc_auc (mean over labels) for several labels; None where
        one is not defined. Then the fields `calibration` and `curves` of an `Evaluation`.
    """
    if task.kind == CLASSES:
        scores, curves = _classes(outputs, np.asarray(targets), task)
    elif task.kind == MULTI_LABEL:
        scores, curves = _multi_label(outputs.numpy(), np.asarray(targets).astype(np.int64)), None
    else:
        return {}, {}
    return scores, {"calibration": calibration(outputs, targets, task), "curves": curves}


def _classes(outputs: Tensor, targets: np.ndarray, task: Task) -> tuple[Scores, dict[str, Any] | None]:
    from sklearn.metrics import average_precision_score, f1_score, recall_score, roc_auc_score

    predicted = outputs.argmax(dim=1).numpy()
    present = np.unique(targets)
    scores: Scores = {
        # What scikit-learn calls balanced accuracy, without its warning for classes that are predicted and absent.
        "balanced_accuracy": float(recall_score(targets, predicted, labels=present, average="macro")),
        "macro_f1": float(f1_score(targets, predicted, average="macro", zero_division=0)),
    }
    if task.outputs != 2:
        return scores, None
    margin = (outputs[:, 1] - outputs[:, 0]).numpy()
    both = len(present) == 2
    scores["roc_auc"] = float(roc_auc_score(targets, margin)) if both else None
    scores["average_precision"] = float(average_precision_score(targets, margin)) if both else None
    return scores, _curves(targets, margin, task.classes[1]) if both else None


def _multi_label(outputs: np.ndarray, targets: np.ndarray) -> Scores:
    from sklearn.metrics import f1_score, roc_auc_score

    seen = [i for i in range(targets.shape[1]) if 0 < targets[:, i].sum() < len(targets)]
    return {
        "macro_f1": float(f1_score(targets, outputs > 0, average="macro", zero_division=0)),
        "roc_auc": float(np.mean([roc_auc_score(targets[:, i], outputs[:, i]) for i in seen])) if seen else None,
    }


def _curves(targets: np.ndarray, margin: np.ndarray, positive: str) -> dict[str, Any]:
    """ROC and precision-recall curves of the second class; thresholds are probabilities."""
    from scipy.special import expit
    from sklearn.metrics import precision_recall_curve, roc_curve

    fpr, tpr, cut = roc_curve(targets, margin)
    precision, recall, above = precision_recall_curve(targets, margin, drop_intermediate=True)
    cuts = [np.where(np.isfinite(values), expit(values), np.inf) for values in (cut, np.append(above, np.inf))]
    return {
        "positive": positive,
        "roc": _thinned(false_positive_rate=fpr, true_positive_rate=tpr, threshold=cuts[0]),
        "pr": _thinned(recall=recall, precision=precision, threshold=cuts[1]),
    }


def _thinned(**columns: np.ndarray) -> dict[str, list[float | None]]:
    """At most `POINTS` of the points, the first and the last among them; a threshold that nothing reaches is None."""
    n = len(next(iter(columns.values())))
    kept = np.unique(np.linspace(0, n - 1, min(n, POINTS)).round().astype(int))
    return {
        name: [float(value) if np.isfinite(value) else None for value in column[kept]]
        for name, column in columns.items()
    }

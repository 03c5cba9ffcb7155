"""Do probabilities keep their word? Of the rows given 0.8, eight in ten should be right."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from zoo.adapt.validation import DOUBT
from zoo.data.task import CLASSES, MULTI_LABEL, Task

#: Bins of equal width.
BINS: Final = 15
#: Folds of the temperature: each row is scaled by one that was fitted on other folds.
FOLDS: Final = 5
#: Fewer rows than this say nothing of a temperature.
FEWEST: Final = 20
#: Rows that a temperature is fitted on, at most: more would not change its second digit.
MOST: Final = 20_000
#: Temperatures tried lie between 1 / this and this.
_RANGE: Final = 20.0


def calibration(outputs: Tensor, targets: np.ndarray, task: Task) -> dict[str, Any] | None:
    """How far confidence is from frequency; None for regression.

    For classes the events are "the first choice is right", with its probability; for several labels every label of
    every row is one. The expected calibration error (Naeini et al. 2015; Guo et al. 2017) is the mean distance between
    confidence and frequency over bins of equal width, weighted by their rows.

    Args:
        outputs: (N, C) logits.
        targets: as `zoo.data.task.infer_task` encodes them.
        task: kind and classes.

    Returns:
        ece: the expected calibration error; mce: the distance of the worst bin; bins: [{low, high, n, confidence,
        accuracy}], without empty ones; temperature: None for fewer than `FEWEST` rows, else what dividing the outputs
        by a temperature would do: `value` (of all these rows), and `ece` and `log_loss` of these rows, each scaled by
        a temperature fitted on others of them. It is a diagnosis; no probability was changed.
    """
    if task.kind not in (CLASSES, MULTI_LABEL):
        return None
    logits = outputs.double()
    confidence, right = _events(logits, targets, task)
    bins = _bins(confidence, right)
    return {**_errors(bins, len(right)), "bins": bins, "temperature": _temperature(logits, targets, task)}


def _events(logits: Tensor, targets: np.ndarray, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Probability of each event, and whether it came true."""
    if task.kind == MULTI_LABEL:
        return torch.sigmoid(logits).flatten().numpy(), np.asarray(targets).astype(bool).ravel()
    confidence, choice = torch.softmax(logits, dim=1).max(dim=1)
    return confidence.numpy(), choice.numpy() == np.asarray(targets)


def _bins(confidence: np.ndarray, right: np.ndarray) -> list[dict[str, float | int]]:
    from sklearn.calibration import calibration_curve

    accuracy, mean = calibration_curve(right, confidence, n_bins=BINS, pos_label=True)
    edges = np.linspace(0, 1, BINS + 1)
    counts = np.bincount(np.searchsorted(edges[1:-1], confidence), minlength=BINS)  # the curve's own bins
    used = np.flatnonzero(counts)
    return [
        {"low": float(edges[b]), "high": float(edges[b + 1]), "n": int(counts[b]), "confidence": float(c),
         "accuracy": float(a)}
        for b, c, a in zip(used, mean, accuracy, strict=True)
    ]  # fmt: skip


def _errors(bins: list[dict[str, float | int]], n: int) -> dict[str, float]:
    gaps = [abs(one["accuracy"] - one["confidence"]) for one in bins]
    return {"ece": sum(gap * one["n"] / n for gap, one in zip(gaps, bins, strict=True)), "mce": max(gaps)}


def _temperature(logits: Tensor, targets: np.ndarray, task: Task) -> dict[str, float] | None:
    if len(logits) < FEWEST:
        return None
    if len(logits) > MOST:
        kept = np.random.RandomState(0).permutation(len(logits))[:MOST]
        logits, targets = logits[kept], targets[kept]
    folds = np.random.RandomState(0).permutation(len(logits)) % FOLDS
    scaled = logits.clone()
    for fold in range(FOLDS):
        held = folds == fold
        scaled[held] /= _fit(logits[~held], targets[~held], task)
    confidence, right = _events(scaled, targets, task)
    return {
        "value": _fit(logits, targets, task),
        "ece": _errors(_bins(confidence, right), len(right))["ece"],
        "log_loss": _log_loss(scaled, targets, task),
    }


def _fit(logits: Tensor, targets: np.ndarray, task: Task) -> float:
    """The temperature of least log-loss, with the same doubt about few rows as the linear probe's."""
    from scipy.optimize import minimize_scalar

    def cost(log_t: float) -> float:
        return _log_loss(logits / math.exp(log_t), targets, task) + log_t**2 / (2 * DOUBT**2 * len(logits))

    edge = math.log(_RANGE)
    return math.exp(float(minimize_scalar(cost, bounds=(-edge, edge), method="bounded").x))


def _log_loss(logits: Tensor, targets: np.ndarray, task: Task) -> float:
    from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

    if task.kind == MULTI_LABEL:
        return float(binary_cross_entropy_with_logits(logits, torch.as_tensor(targets).double()))
    return float(cross_entropy(logits, torch.as_tensor(np.asarray(targets).astype(np.int64))))

"""Solve for a linear head on features: logistic or ridge regression, with the regulariser chosen by the training rows.

No epochs, no learning rate: standardise, decompose once, choose the regulariser, solve to the optimum,
fold mean and scale into one fp32 `nn.Linear`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from zoo.adapt import logistic, ridge
from zoo.adapt.folds import stratified_folds
from zoo.adapt.spectrum import Spectrum, decompose
from zoo.data.task import CLASSES, REGRESSION, Task
from zoo.errors import DataError, UsageError

#: Folds of the cross-validation that chooses a logistic regression's regulariser; of many rows, as many folds are
#: used as it takes to hold out `HELD` rows.
FOLDS: Final = 5
HELD: Final = 1000
#: Where no row can be held out.
FALLBACK: Final = 0.1


def solve_head(
    features: Tensor,
    targets: np.ndarray,
    task: Task,
    *,
    regularizer: float | str = "auto",
    class_weight: str | None = None,
    floor: float | None = None,
    seed: int = 0,
) -> nn.Linear:
    """Return the linear head that is optimal on these features, for raw (not standardised) features.

    Args:
        features: (N, D), any float type, finite.
        targets: as `zoo.data.task.infer_task` encodes them: (N,) class indices, (N, C) of 0/1, or (N, C) numbers.
        task: kind and classes. Classes: multinomial logistic regression (for two classes the usual binary one);
            multi-label: a binary one per column; regression: ridge.
        regularizer: lambda of mean loss + lambda ||W||^2 / 2 on standardised features (scikit-learn's C is
            1 / (lambda N)); "auto" = chosen among `zoo.adapt.ridge.PATH` by leave-one-out error (regression) or
            cross-validated log-loss (the others), on these rows alone.
        floor: least scale of a feature, as a part of the median standard deviation: a channel that is nearly silent in
            the training rows is not blown up. None = 1 where the regularizer is "auto" (with few labels that is worth
            many points of accuracy), else 0, which is plain standardisation.
        class_weight: None, or "balanced": rows count inversely to the frequency of their class.
        seed: of the folds.

    Raises:
        DataError: features that are not finite, rows and targets of different number, fewer than two classes, or a
            class (a column: either value) without rows.
        UsageError: an impossible regularizer or class_weight.
    """
    check_options(regularizer, class_weight, floor, task)
    columns = target_columns(features, np.asarray(targets), task)
    if floor is None:
        floor = 1.0 if regularizer == "auto" else 0.0
    spectrum = decompose(features, floor)
    if task.kind == REGRESSION:
        chosen = _by_ridge(spectrum, columns) if regularizer == "auto" else float(regularizer)
        return spectrum.fold(*ridge.solve(spectrum, columns, chosen))
    binary = task.kind == CLASSES and task.outputs == 2
    labels = columns[:, 1:] if binary else columns
    softmax = task.kind == CLASSES and not binary
    weights = row_weights(labels, softmax, class_weight)
    start = None
    if regularizer == "auto":
        regularizer, start = choose_regularizer(spectrum, labels, weights, softmax=softmax, seed=seed)
    problem = logistic.Problem(spectrum, labels, _normalised(weights[:, None]), softmax)
    solution = logistic.solve(problem, float(regularizer), start)[:, 0]
    if binary:
        solution = torch.cat([-solution, solution], dim=1) / 2
    return spectrum.fold(solution[:-1], solution[-1])


def choose_regularizer(
    spectrum: Spectrum, labels: Tensor, weights: Tensor, *, softmax: bool, seed: int
) -> tuple[float, Tensor | None]:
    """Return the value of `ridge.PATH` with the least cross-validated log-loss, and a solution near its own.

    The path is walked from the strongest value down, all folds together, each fit starting from its neighbour's
    solution, until the log-loss has risen twice. Ridge's leave-one-out error would cost less, but it judges squared
    errors: its choice is several times too strong for a logistic loss with many rows, and zero with few.
    """
    folds = _folds(labels, softmax, seed)
    used = range(min(FOLDS, math.ceil(HELD * FOLDS / len(labels))))
    kept = torch.stack([folds != fold for fold in used], dim=1)
    held = torch.stack([folds == fold for fold in used], dim=1)
    if not held.any():
        return FALLBACK, None
    problem = logistic.Problem(spectrum, labels, _normalised(weights[:, None] * kept), softmax)
    weighing = _normalised((weights[:, None] * held).flatten(0, 1)).unflatten(0, held.shape[:2])
    solutions: dict[int, Tensor] = {}

    def log_loss(step: int) -> float:
        near = min(solutions, key=lambda other: abs(other - step), default=None)
        start = None if near is None else solutions[near]
        solutions[step] = logistic.solve(problem, ridge.PATH[step], start, rough=True)
        return float((problem.losses(problem.scores(solutions[step])) * weighing).sum())

    best = _descend(log_loss, len(ridge.PATH) - 1)
    return ridge.PATH[best], solutions[best].mean(dim=1, keepdim=True)


def _descend(cost: Callable[[int], float], last: int) -> int:
    """Index of the least cost(index) that is met going down from `last`: every fourth, then those around the best."""
    known: dict[int, float] = {}
    for index in range(last, -1, -4):
        known[index] = cost(index)
        best = min(known, key=known.__getitem__)
        if index <= best - 8:
            break
    for stride in (2, 1):
        best = min(known, key=known.__getitem__)
        known |= {i: cost(i) for i in (best + stride, best - stride) if 0 <= i <= last}
    return min(known, key=known.__getitem__)


def _by_ridge(spectrum: Spectrum, targets: Tensor) -> float:
    return ridge.PATH[int(ridge.leave_one_out(spectrum, targets).argmin())]


def _folds(labels: Tensor, softmax: bool, seed: int) -> Tensor:
    """(N, 1), or (N, C) where each column is a problem of its own."""
    if softmax:
        return torch.from_numpy(stratified_folds(labels.argmax(dim=1).numpy(), FOLDS, seed))[:, None]
    columns = [stratified_folds(column.numpy(), FOLDS, seed) for column in labels.T]
    return torch.from_numpy(np.stack(columns, axis=1))


def row_weights(labels: Tensor, softmax: bool, class_weight: str | None) -> Tensor:
    """Weight of each row: (N, 1) for the softmax, else (N, C) per column.

    Args:
        labels: (N, C) of 0 and 1.
        softmax: classes exclude each other.
        class_weight: None, or "balanced".
    """
    if class_weight is None:
        return torch.ones_like(labels[:, :1] if softmax else labels)
    counts = labels.sum(dim=0)
    if softmax:
        return labels @ (1 / counts)[:, None]
    return torch.where(labels > 0, 1 / counts, 1 / (len(labels) - counts))


def _normalised(weights: Tensor) -> Tensor:
    return weights / weights.sum(dim=0).clamp_min(torch.finfo(weights.dtype).tiny)


def target_columns(features: Tensor, targets: np.ndarray, task: Task) -> Tensor:
    """Targets as float64 (N, C), one-hot for classes; checked as `solve_head` says."""
    if len(features) != len(targets):
        raise DataError(f"{len(features)} rows of features, but {len(targets)} targets")
    if task.kind == REGRESSION:
        return torch.from_numpy(targets.astype(np.float64)).reshape(len(targets), task.outputs)
    if task.kind == CLASSES:
        if task.outputs < 2:
            raise DataError(
                f"{task.outputs} class is too few: there is nothing to tell apart", hint="Give two classes or more."
            )
        if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < task.outputs:
            raise DataError(f"class indices must be 0 to {task.outputs - 1}; {targets.min()} to {targets.max()} came")
        labels = one_hot(torch.from_numpy(targets.astype(np.int64)), task.outputs).double()
        _refuse_empty(labels.sum(dim=0) == 0, task, "without rows", "Give each class a sample, or leave it out.")
        return labels
    labels = torch.from_numpy(targets.astype(np.float64))
    _refuse_empty(labels.sum(dim=0) == 0, task, "that no row has", "Leave these labels out.")
    _refuse_empty((1 - labels).sum(dim=0) == 0, task, "that every row has", "Leave these labels out.")
    return labels


def _refuse_empty(empty: Tensor, task: Task, what: str, hint: str) -> None:
    names = [name for name, is_empty in zip(task.classes, empty.tolist(), strict=True) if is_empty]
    if names:
        noun = "class" if task.kind == CLASSES else "label"
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise DataError(f"{len(names)} {noun}{'es' * (noun == 'class' and len(names) > 1)} {what}: {shown}", hint=hint)


def check_options(
    regularizer: float | str, class_weight: str | None, floor: float | None, task: Task | None = None
) -> None:
    """Raise `UsageError` for hyper-parameters that mean nothing."""
    if regularizer != "auto":
        number = isinstance(regularizer, (int, float)) and not isinstance(regularizer, bool)
        if not number or not 0 < float(regularizer) < math.inf:
            raise UsageError(f"regularizer must be 'auto' or a number above 0, not {regularizer!r}")
    if class_weight not in (None, "balanced"):
        raise UsageError(f"class_weight must be None or 'balanced', not {class_weight!r}")
    if class_weight and task and task.kind == REGRESSION:
        raise UsageError("class_weight is for classes; these targets are numbers")
    if floor is not None and not (isinstance(floor, (int, float)) and 0 <= floor < math.inf):
        raise UsageError(f"floor must be None or a number from 0, not {floor!r}")

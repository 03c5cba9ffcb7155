"""Solve for a linear head on features: logistic or ridge regression, with the regulariser chosen by the training rows.

No epochs, no learning rate: standardise, decompose once, choose the regulariser, solve to the optimum,
fold mean, scale and temperature into one fp32 `nn.Linear`. Features too many for that in memory go through
`zoo.adapt.streamed` in chunks of rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from zoo.adapt import logistic, ridge, streamed
from zoo.adapt.clusters import clustered
from zoo.adapt.folds import NEVER, folds_of_groups
from zoo.adapt.spectrum import Spectrum, decompose
from zoo.adapt.targets import ClassWeight, check_class_weight, check_targets, row_weights, target_columns
from zoo.adapt.validation import FOLDS, choose_regularizer, fit_temperature, hold_out, normalised
from zoo.data.task import CLASSES, REGRESSION, Task
from zoo.errors import UsageError

#: Where no row can be held out.
FALLBACK: Final = 0.1


@dataclass(frozen=True)
class Solved:
    """A head, and what was settled on the way.

    Attributes:
        head: for raw features.
        regularizer: lambda, as given or chosen.
        temperature: the head's scores were divided by it; None where it was not asked for, or no row could be held
            out.
        notes: sentences the user should read.
    """

    head: nn.Linear
    regularizer: float
    temperature: float | None = None
    notes: tuple[str, ...] = ()

    def settled(self) -> dict[str, Any]:
        """What a record of the fit keeps."""
        found = {"regularizer": self.regularizer}
        return found if self.temperature is None else {**found, "temperature": self.temperature}


def solve_head(features: Tensor, targets: np.ndarray, task: Task, **options: Any) -> nn.Linear:
    """The head alone of what `solve` gives."""
    return solve(features, targets, task, **options).head


def solve(
    features: Tensor,
    targets: np.ndarray,
    task: Task,
    *,
    regularizer: float | str = "auto",
    class_weight: ClassWeight = None,
    floor: float | None = None,
    calibrate: bool = False,
    views: int = 1,
    seed: int = 0,
    groups: np.ndarray | None = None,
) -> Solved:
    """Solve for the linear head that is optimal on these features, for raw (not standardised) features.

    Args:
        features: (N, D), any float type, finite; it may be a memory-mapped file.
        targets: as `zoo.data.task.infer_task` encodes them: (N,) class indices, (N, C) of 0/1, or (N, C) numbers.
        task: kind and classes. Classes: multinomial logistic regression (for two classes the usual binary one);
            multi-label: a binary one per column; regression: ridge.
        regularizer: lambda of mean loss + lambda ||W||^2 / 2 on standardised features (scikit-learn's C is
            1 / (lambda N), N the sum of the weights of the rows); "auto" = chosen among `zoo.adapt.ridge.PATH` by
            leave-one-out error (regression) or cross-validated log-loss (the others), on these rows alone.
        class_weight: None; "balanced": rows count inversely to the frequency of their class; or class -> weight; see
            `zoo.adapt.targets.row_weights`.
        floor: least scale of a feature, as a part of the median standard deviation: a channel that is nearly silent in
            the training rows is not blown up. None = 1 where the regularizer is "auto" (with few labels that is worth
            many points of accuracy), else 0, which is plain standardisation.
        calibrate: divide the scores by the temperature that fits rows left out of the fit best; no prediction
            changes, only how sure it is. Not for regression.
        views: of each sample. Features are then (views * N, D): a block of N rows for the first view, one for the
            second, and so on; a sample is held out with all of its views.
        seed: of the folds.
        groups: (N,) rows of one number belong together: what the rows say of themselves comes from whole groups that
            were left out.

    Raises:
        DataError: features that are not finite, rows and targets of different number, fewer than two classes, or a
            class (a column: either value) without rows.
        UsageError: an impossible option.
    """
    check_options(regularizer, class_weight, floor, task, calibrate=calibrate)
    targets, groups = np.asarray(targets), clustered(groups)
    if views > 1:
        targets = np.concatenate([targets] * views)
    if floor is None:
        floor = 1.0 if regularizer == "auto" else 0.0
    if streamed.is_large(features, task):
        return _streamed(features, targets, task, regularizer, class_weight, floor, calibrate, views, seed, groups)
    columns = target_columns(features, targets, task)
    spectrum = decompose(features, floor)
    if task.kind == REGRESSION:
        if regularizer == "auto":
            regularizer = choose_strength(spectrum, features, columns, floor, groups, views=views, seed=seed)
        return Solved(spectrum.fold(*ridge.solve(spectrum, columns, float(regularizer))), float(regularizer))
    binary = task.kind == CLASSES and task.outputs == 2
    labels = columns[:, 1:] if binary else columns
    softmax = task.kind == CLASSES and not binary
    weights = row_weights(labels, softmax, class_weight, task.classes)
    start = found = temperature = None
    validation = None
    if regularizer == "auto" or calibrate:
        validation = hold_out(spectrum, labels, weights, softmax=softmax, seed=seed, views=views, groups=groups)
    if validation is None:
        regularizer = FALLBACK if regularizer == "auto" else float(regularizer)
    elif regularizer == "auto":
        regularizer, found = choose_regularizer(validation, finish=calibrate)
    else:
        found = validation.fit(float(regularizer))
    if found is not None and validation is not None:
        start = found.mean(dim=1, keepdim=True)
        temperature = fit_temperature(validation, found) if calibrate else None
    problem = logistic.Problem(spectrum, labels, normalised(weights[:, None]), softmax)
    solution = logistic.solve(problem, float(regularizer), start)[:, 0] / (temperature or 1.0)
    if binary:
        solution = torch.cat([-solution, solution], dim=1) / 2
    return Solved(spectrum.fold(solution[:-1], solution[-1]), float(regularizer), temperature)


def choose_strength(
    spectrum: Spectrum,
    features: Tensor,
    targets: Tensor,
    floor: float,
    groups: np.ndarray | None = None,
    *,
    views: int = 1,
    seed: int = 0,
) -> float:
    """Ridge's regulariser of least error: of rows left out one by one, or, with groups, in folds of whole groups.

    Args:
        spectrum: of the features.
        features: (views * N, D), raw.
        targets: (views * N, C).
        floor: that `spectrum` was made with.
        groups: (N,) or None.
        views: of each sample.
        seed: of the folds.
    """
    codes = clustered(groups)
    folds = None if codes is None else folds_of_groups(None, codes, FOLDS, seed)
    if folds is None or (folds == NEVER).all():
        errors = ridge.leave_one_out(spectrum, targets, views=views)
    else:
        errors = ridge.leave_folds_out(features, targets, folds, floor, views=views)
    return ridge.PATH[int(errors.argmin())]


def _streamed(
    features: Tensor,
    targets: np.ndarray,
    task: Task,
    regularizer: float | str,
    class_weight: ClassWeight,
    floor: float,
    calibrate: bool,
    views: int,
    seed: int,
    groups: np.ndarray | None,
) -> Solved:
    given = None if regularizer == "auto" else float(regularizer)
    check_targets(features, targets, task)
    if task.kind == REGRESSION:
        head, chosen = streamed.solve_ridge(
            features, targets, task, given, floor, views=views, groups=groups, seed=seed
        )
        return Solved(head, chosen)
    head, chosen, rows = streamed.solve_logistic(
        features, targets, task, given, class_weight, floor, views=views, seed=seed, groups=groups
    )
    notes = []
    if given is None:
        notes.append(f"the regularizer was chosen on a seeded sample of {rows:,} of {len(features):,} rows")
    if calibrate:
        notes.append("no temperature was fitted: with so many rows the log-loss calibrates by itself")
    return Solved(head, chosen, notes=tuple(notes))


def check_options(
    regularizer: float | str,
    class_weight: ClassWeight,
    floor: float | None,
    task: Task | None = None,
    *,
    calibrate: bool = False,
) -> None:
    """Raise `UsageError` for hyper-parameters that mean nothing."""
    if regularizer != "auto":
        number = isinstance(regularizer, (int, float)) and not isinstance(regularizer, bool)
        if not number or not 0 < float(regularizer) < math.inf:
            raise UsageError(f"regularizer must be 'auto' or a number above 0, not {regularizer!r}")
    check_class_weight(class_weight, task)
    if floor is not None and not (isinstance(floor, (int, float)) and 0 <= floor < math.inf):
        raise UsageError(f"floor must be None or a number from 0, not {floor!r}")
    if calibrate and task and task.kind == REGRESSION:
        raise UsageError("calibrate is for classes and labels; these targets are numbers")

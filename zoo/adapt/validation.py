"""What the training rows themselves say of a logistic regression: its best regulariser, and its temperature."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from zoo.adapt import logistic
from zoo.adapt.folds import NEVER, folds_of_groups, stratified_folds
from zoo.adapt.ridge import PATH
from zoo.adapt.spectrum import Spectrum

#: Folds of the cross-validation; of many rows, as many are used as it takes to hold out `HELD` rows.
FOLDS: Final = 5
HELD: Final = 300
#: Steps of the path from one coarse fit to the next.
STRIDE: Final = 4
#: Standard errors by which a fit is worse beyond doubt.
CLEAR: Final = 3.0
#: Standard deviation of the logarithm of a temperature before any row was seen.
DOUBT: Final = 0.5
#: Temperatures tried, and how finely around the best of them.
_GRID: Final = torch.logspace(-1, 1, 81, dtype=torch.float64)
_REFINEMENTS: Final = 3


@dataclass(frozen=True)
class Validation:
    """Fits on subsets of the training rows, judged on the rows that each leaves out.

    Attributes:
        problem: S logistic regressions side by side.
        judging: (N, S, 1) for the softmax, else (N, S, C): weight of each row that a subset leaves out, 0 for others;
            they sum to 1 over rows and subsets.
        held: number of rows that some subset leaves out.
    """

    problem: logistic.Problem
    judging: Tensor
    held: int

    def fit(self, regularizer: float, start: Tensor | None = None, *, rough: float = logistic.ROUGH) -> Tensor:
        """The solutions (R + 1, S, C)."""
        return logistic.solve(self.problem, regularizer, start, rough=rough)

    def losses(self, scores: Tensor) -> Tensor:
        """Negative log-likelihood of scores (N, S, C) of rows left out, as parts (N, S, ...) of the mean."""
        return self.problem.losses(scores) * self.judging / self.judging.shape[2]

    def log_loss(self, scores: Tensor) -> float:
        """Mean negative log-likelihood of scores (N, S, C) of rows left out."""
        return float(self.losses(scores).sum())


def hold_out(
    spectrum: Spectrum,
    labels: Tensor,
    weights: Tensor,
    *,
    softmax: bool,
    seed: int,
    views: int = 1,
    groups: np.ndarray | None = None,
) -> Validation | None:
    """Divide the rows into stratified folds; None where no row can be held out.

    Args:
        spectrum: of the features.
        labels: (N, C) of 0 and 1.
        weights: of the rows, as `zoo.adapt.targets.row_weights` gives them.
        softmax: classes exclude each other.
        seed: of the folds.
        views: of each sample, as for `zoo.adapt.ridge.leave_one_out`; held out together, judged by the first.
        groups: (N / views,) of each sample: groups are held out whole, and in every fold, as the rows of a few say
            little of others. Rows are dealt instead where every group has all rows of some class.
    """
    samples = len(labels) // views
    folds = _folds(labels[:samples], softmax, seed, groups).repeat(views, 1)
    used = range(FOLDS if groups is not None else min(FOLDS, math.ceil(HELD * FOLDS / samples)))
    kept = torch.stack([folds != fold for fold in used], dim=1)
    held = torch.stack([folds == fold for fold in used], dim=1)
    held[samples:] = False
    if not held.any():
        return None
    problem = logistic.Problem(spectrum, labels, normalised(weights[:, None] * kept), softmax)
    judging = normalised((weights[:, None] * held).flatten(0, 1)).unflatten(0, held.shape[:2])
    return Validation(problem, judging, int(held.any(dim=2).any(dim=1).sum()))


def choose_regularizer(validation: Validation, *, finish: bool = True) -> tuple[float, Tensor]:
    """Return the value of `PATH` with the least log-loss on rows left out, and its solutions.

    The path is walked from the strongest value down, all subsets together, each fit starting from its neighbour's
    solution, until the log-loss has risen twice, or once beyond doubt; a parabola through the best three then says
    where between them. Ridge's leave-one-out error would cost less, but it judges squared errors: its choice is
    several times too strong for a logistic loss with many rows, and zero with few.

    Args:
        finish: take the solutions at the chosen value to `logistic.ROUGH`; else they are a neighbour's, good enough to
            start from.
    """
    solutions: dict[int, Tensor] = {}

    def losses(step: int, rough: float = logistic.COARSE) -> Tensor:
        solutions[step] = validation.fit(PATH[step], _nearest(solutions, step), rough=rough)
        return validation.losses(validation.problem.scores(solutions[step]))

    best = _descend(losses, len(PATH) - 1)
    if finish:
        losses(best, logistic.ROUGH)
    found = _nearest(solutions, best)
    assert found is not None
    return PATH[best], found


def _nearest(solutions: dict[int, Tensor], step: int) -> Tensor | None:
    near = min(solutions, key=lambda other: abs(other - step), default=None)
    return None if near is None else solutions[near]


def fit_temperature(validation: Validation, solutions: Tensor) -> float:
    """The T for which scores / T of rows left out have the least log-loss (Guo et al. 2017), 0.1 to 10.

    A few rows say little of it, and all of them predicted rightly would make it 0. So log T has a normal prior around
    0 of standard deviation `DOUBT`, which many rows outweigh.
    """
    scores = validation.problem.scores(solutions)

    def cost(temperature: Tensor) -> float:
        prior = math.log(float(temperature)) ** 2 / (2 * DOUBT**2 * validation.held)
        return validation.log_loss(scores / temperature) + prior

    grid = _GRID
    for _ in range(_REFINEMENTS):
        best = int(np.argmin([cost(value) for value in grid]))
        low, high = grid[max(0, best - 1)], grid[min(len(grid) - 1, best + 1)]
        grid = torch.logspace(float(low.log10()), float(high.log10()), 9, dtype=torch.float64)
    return float(grid[int(np.argmin([cost(value) for value in grid]))])


def _descend(losses: Callable[[int], Tensor], last: int) -> int:
    """Index of the least sum of losses(index) that is met going down from `last`: every fourth, then where a parabola
    through the best and its neighbours has its least value."""
    known: dict[int, Tensor] = {}
    best = last
    for index in range(last, -1, -STRIDE):
        known[index] = losses(index)
        if known[index].sum() < known[best].sum():
            best = index
        if index <= best - 2 * STRIDE or _is_worse(known[index], known[best]):
            break
    if best - STRIDE in known and best + STRIDE in known:
        below, above = (float((known[i] - known[best]).sum()) for i in (best - STRIDE, best + STRIDE))
        best += round(STRIDE * (below - above) / (2 * (below + above))) if below + above > 0 else 0
    return best


def _is_worse(losses: Tensor, others: Tensor) -> bool:
    """Whether a sum is larger by more than `CLEAR` standard errors of the difference, row by row."""
    difference = (losses - others).flatten()
    return bool(difference.sum() > CLEAR * difference.norm() > 0)


def _folds(labels: Tensor, softmax: bool, seed: int, groups: np.ndarray | None) -> Tensor:
    """(N, 1), or (N, C) where each column is a problem of its own."""
    columns = labels.argmax(dim=1)[:, None] if softmax else labels
    return torch.from_numpy(np.stack([_dealt(column.long().numpy(), groups, seed) for column in columns.T], axis=1))


def _dealt(codes: np.ndarray, groups: np.ndarray | None, seed: int) -> np.ndarray:
    found = None if groups is None else folds_of_groups(codes, groups, FOLDS, seed)
    return stratified_folds(codes, FOLDS, seed) if found is None or (found == NEVER).all() else found


def normalised(weights: Tensor) -> Tensor:
    """Divided by their sum over the rows."""
    return weights / weights.sum(dim=0).clamp_min(torch.finfo(weights.dtype).tiny)

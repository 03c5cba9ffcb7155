"""Logistic regression by L-BFGS in float64: softmax over classes, or one sigmoid per column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, softplus

from zoo.adapt.spectrum import Spectrum

#: Largest entry of the preconditioned gradient of the mean loss at which a fit is finished; float64 leaves room below.
TOLERANCE: Final = 1e-9
MAX_STEPS: Final = 2000


@dataclass(frozen=True)
class Problem:
    """One logistic regression, or several on subsets of the same rows that are solved together.

    Attributes:
        spectrum: of the features.
        targets: (N, C) of 0 and 1: one-hot for the softmax.
        weights: (N, S, 1 or C) of every row in each of S problems, summing to 1 over the rows (per column, where
            there are columns).
        softmax: classes exclude each other; otherwise each column is a problem of its own.
    """

    spectrum: Spectrum
    targets: Tensor
    weights: Tensor
    softmax: bool

    def losses(self, scores: Tensor) -> Tensor:
        """Negative log-likelihood of scores (N, S, C): (N, S, 1) for the softmax, else (N, S, C)."""
        targets = self.targets[:, None, :]
        if self.softmax:
            return -(log_softmax(scores, dim=2) * targets).sum(dim=2, keepdim=True)
        return softplus(scores) - scores * targets

    def residuals(self, scores: Tensor) -> Tensor:
        """Derivative (N, S, C) of the losses by the scores."""
        return (scores.softmax(dim=2) if self.softmax else scores.sigmoid()) - self.targets[:, None, :]

    def scores(self, solution: Tensor) -> Tensor:
        """(N, S, C) of a solution (R + 1, S, C) whose last row is the bias."""
        rows = self.spectrum.rows
        return (rows @ solution[:-1].flatten(1)).unflatten(1, solution.shape[1:]) + solution[-1]


def solve(problem: Problem, regularizer: float, start: Tensor | None = None, *, tolerance: float = TOLERANCE) -> Tensor:
    """Minimise weighted mean loss + regularizer ||W||^2 / 2 with an unpenalised bias.

    Args:
        problem: what to solve.
        regularizer: of the mean loss; with N rows scikit-learn's C = 1 / (regularizer * N).
        start: a solution nearby, for instance the last one on a path.

    Returns:
        (R + 1, S, C), the bias in the last row.
    """
    spectrum = problem.spectrum
    subsets, columns = problem.weights.shape[1], problem.targets.shape[1]
    # In this basis the Hessian is close to curvature * squares / N + regularizer on the diagonal: divide it out.
    curvature = (columns - 1) / columns**2 if problem.softmax else 0.25
    hessian = torch.cat([spectrum.squares * (curvature / len(spectrum.rows)) + regularizer, torch.tensor([curvature])])
    stretch = hessian.rsqrt()[:, None, None]
    if start is None:
        start = torch.zeros((len(stretch), subsets, columns), dtype=torch.float64)
    point = (start / stretch).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [point],
        max_iter=MAX_STEPS,
        max_eval=2 * MAX_STEPS,
        history_size=20,
        tolerance_grad=tolerance,
        tolerance_change=tolerance**1.5,
        line_search_fn="strong_wolfe",
    )

    @torch.no_grad()
    def closure() -> Tensor:
        solution = point * stretch
        scores = problem.scores(solution)
        loss = (problem.losses(scores) * problem.weights).sum() + regularizer / 2 * solution[:-1].square().sum()
        residuals = (problem.residuals(scores) * problem.weights).flatten(1)
        gradient = torch.cat([spectrum.rows.T @ residuals, residuals.sum(dim=0, keepdim=True)]).view_as(solution)
        gradient[:-1] += regularizer * solution[:-1]
        point.grad = gradient * stretch
        return loss

    optimizer.step(closure)
    return (point.detach() * stretch).clone()

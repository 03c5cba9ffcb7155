"""Logistic regression to the optimum, in float64: a softmax over classes, or one sigmoid per column.

Newton's method with conjugate gradients. In the spectrum's basis the Hessian is nearly diagonal, so a few products
suffice for a step, and they may be fp32: the gradient, in float64, says what remains to be done. A quasi-Newton method
(L-BFGS) needs several times the work here, and stops at gradients around 1e-7, where two losses no longer differ.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, softplus

from zoo.adapt.spectrum import Spectrum
from zoo.errors import TrainingError

#: Norm of the preconditioned gradient at which a fit is finished; probabilities are then right to about 1e-8.
TOLERANCE: Final = 1e-8
#: The same for fits that only compare regularisers: on the way, and at the best.
COARSE: Final = 1e-2
ROUGH: Final = 1e-3
STEPS: Final = 200
PRODUCTS: Final = 500
#: Products with the Hessian are fp32, and twice as fast, in the first steps of problems no worse conditioned than this.
QUICK_STEPS: Final = 30
QUICK_REGULARIZER: Final = 1e-6


@dataclass(frozen=True)
class Problem:
    """One logistic regression, or several on subsets of the same rows that are solved side by side.

    Attributes:
        spectrum: of the features.
        targets: (N, C) of 0 and 1: one-hot for the softmax.
        weights: (N, S, 1) for the softmax, else (N, S, C): of every row in each of S subsets, summing to 1 over the
            rows.
        softmax: classes exclude each other; otherwise each column is a problem of its own.
    """

    spectrum: Spectrum
    targets: Tensor
    weights: Tensor
    softmax: bool

    @cached_property
    def quick(self) -> Problem:
        """The same in fp32, for products with the Hessian."""
        spectrum = replace(self.spectrum, rows=self.spectrum.rows.float())
        return replace(self, spectrum=spectrum, targets=self.targets.float(), weights=self.weights.float())

    @cached_property
    def squared_rows(self) -> Tensor:
        """(N, R), for the Hessian's diagonal."""
        return self.spectrum.rows.square()

    def curvature(self, probabilities: Tensor) -> Tensor:
        """Diagonal (R + 1, S, C) of the mean loss's Hessian."""
        bends = (probabilities * (1 - probabilities) * self.weights).flatten(1)
        joined = torch.cat([_gather(bends, self.squared_rows), bends.sum(dim=0, keepdim=True)])
        return joined.unflatten(1, probabilities.shape[1:])

    def scores(self, solution: Tensor) -> Tensor:
        """(N, S, C) of a solution (R + 1, S, C), whose last row is the bias."""
        weights = solution[:-1].flatten(1).T.contiguous()
        return (weights @ self.spectrum.rows.T).T.unflatten(1, solution.shape[1:]) + solution[-1]

    def losses(self, scores: Tensor) -> Tensor:
        """Negative log-likelihood of scores (N, S, C): (N, S, 1) for the softmax, else (N, S, C)."""
        targets = self.targets[:, None, :]
        if self.softmax:
            return -(log_softmax(scores, dim=2) * targets).sum(dim=2, keepdim=True)
        return softplus(scores) - scores * targets

    def probabilities(self, scores: Tensor) -> Tensor:
        """(N, S, C)."""
        return scores.softmax(dim=2) if self.softmax else scores.sigmoid()

    def bend(self, probabilities: Tensor, direction: Tensor) -> Tensor:
        """Second derivative of the losses by the scores, times a direction (N, S, C) of the scores."""
        if self.softmax:
            return probabilities * (direction - (probabilities * direction).sum(dim=2, keepdim=True))
        return probabilities * (1 - probabilities) * direction

    def pull(self, residuals: Tensor) -> Tensor:
        """Gather weighted derivatives by the scores (N, S, C) into derivatives by the solution (R + 1, S, C)."""
        flat = (residuals * self.weights).flatten(1)
        joined = torch.cat([_gather(flat, self.spectrum.rows), flat.sum(dim=0, keepdim=True)])
        return joined.unflatten(1, residuals.shape[1:])

    def dot(self, a: Tensor, b: Tensor) -> Tensor:
        """Inner product per independent problem: (1, S, 1) for the softmax, else (1, S, C)."""
        return (a * b).sum(dim=(0, 2) if self.softmax else 0, keepdim=True)


def solve(problem: Problem, regularizer: float, start: Tensor | None = None, *, rough: float = 0.0) -> Tensor:
    """Minimise weighted mean loss + regularizer ||W||^2 / 2 with an unpenalised bias.

    Args:
        problem: what to solve.
        regularizer: of the mean loss, above 0; with N rows scikit-learn's C is 1 / (regularizer * N).
        start: a solution nearby, for instance the last one on a path.
        rough: stop at this norm of the preconditioned gradient, and go there in fp32; 0 = at `TOLERANCE`.

    Returns:
        (R + 1, S, C), the bias in the last row.

    Raises:
        TrainingError: no optimum within `STEPS` steps.
    """
    work = problem.quick if rough else problem
    tolerance, dtype = rough or TOLERANCE, work.weights.dtype
    if start is None:
        shape = (len(problem.spectrum.squares) + 1, problem.weights.shape[1], problem.targets.shape[1])
        start = torch.zeros(shape, dtype=dtype)
    solution, penalty = start.to(dtype), torch.full((len(start), 1, 1), regularizer, dtype=dtype)
    penalty[-1] = 0
    #: What rounding does to a loss.
    slack = 1e-14 if dtype == torch.float64 else 1e-6
    scores = work.scores(solution)
    loss = _loss(work, scores, solution, penalty)
    for count in range(STEPS):
        inner = problem.quick if rough or (count < QUICK_STEPS and regularizer >= QUICK_REGULARIZER) else problem
        probabilities = work.probabilities(scores)
        gradient = work.pull(probabilities - work.targets[:, None, :]) + penalty * solution
        diagonal = (inner.curvature(probabilities.to(inner.weights.dtype)) + penalty).clamp_min(1e-15)
        size = work.dot(gradient, gradient / diagonal).sqrt()
        if bool((size <= tolerance).all()):
            return solution.double()
        system = (tensor.to(inner.weights.dtype) for tensor in (probabilities, penalty, gradient, diagonal))
        step = _newton_step(inner, *system, accuracy=min(0.25, float(size.max()) ** 0.5)).to(dtype)
        slope = work.dot(gradient, step)
        moved = work.scores(step)
        length = torch.ones_like(slope)
        while True:
            found = scores + length * moved
            candidate = solution + length * step
            new_loss = _loss(work, found, candidate, penalty)
            worse = new_loss > loss + 1e-4 * length * slope + slack * (1 + loss)
            if not bool(worse.any()):
                break
            length = torch.where(worse, length / 2, length)
        solution, scores, loss = candidate, found, new_loss
    if rough:
        return solution.double()
    raise TrainingError(
        f"logistic regression did not reach its optimum in {STEPS} steps",
        why=f"The regularizer {regularizer:g} is so small that the optimum is almost infinitely far away.",
        hint="Give a larger regularizer, or auto.",
    )


def _newton_step(
    problem: Problem, probabilities: Tensor, penalty: Tensor, gradient: Tensor, diagonal: Tensor, *, accuracy: float
) -> Tensor:
    """Solve Hessian @ step = -gradient by conjugate gradients, to a relative accuracy."""
    step = torch.zeros_like(gradient)
    residual = -gradient
    search = residual / diagonal
    power = first = problem.dot(residual, search)
    enough = first * accuracy**2
    for _ in range(PRODUCTS):
        image = problem.pull(problem.bend(probabilities, problem.scores(search))) + penalty * search
        length = _quotient(power, problem.dot(search, image))
        step = step + length * search
        residual = residual - length * image
        scaled = residual / diagonal
        last, power = power, problem.dot(residual, scaled)
        if bool((power <= enough).all()):
            break
        search = scaled + _quotient(power, last) * search
    return step


def _gather(columns: Tensor, rows: Tensor) -> Tensor:
    """rows.T @ columns for few columns, in the order of multiplication that is up to five times faster."""
    return (columns.T.contiguous() @ rows).T


def _quotient(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole; 0 for a problem that is already solved exactly."""
    return torch.where(whole > 0, part / whole.clamp_min(torch.finfo(whole.dtype).tiny), 0.0)


def _loss(problem: Problem, scores: Tensor, solution: Tensor, penalty: Tensor) -> Tensor:
    """Per independent problem."""
    fit = (problem.losses(scores) * problem.weights).sum(dim=0, keepdim=True)
    return fit + problem.dot(solution, penalty * solution) / 2

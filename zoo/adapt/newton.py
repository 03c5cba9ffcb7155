"""Newton's method with conjugate gradients, where every product is a pass over features too many for memory.

So passes are what is saved. The start is near, the scaling makes the Hessian about the identity, and the line search
seldom looks twice. Products are fp32 but for the last gradients, which are float64 and say when the optimum is reached.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from zoo.adapt.stream import Stream
from zoo.errors import TrainingError

#: Norm of the scaled gradient at which a fit is finished; probabilities are then right to about 1e-6.
TOLERANCE: Final = 1e-6
#: The norm from which on gradients are float64.
EXACT: Final = 1e-3
#: Products with the Hessian are fp32 for regularisers from here on.
QUICK_REGULARIZER: Final = 1e-8
#: What rounding does to a loss, where its products are fp32 and where they are float64.
SLACK: Final = {torch.float32: 1e-6, torch.float64: 1e-13}
#: Least curvature between classes, as a part of the largest.
FLAT: Final = 1e-6
STEPS: Final = 50
PRODUCTS: Final = 100


@dataclass(frozen=True)
class Scaling:
    """Coordinates of solutions (D + 1, C) in which the Hessian is about the identity.

    It is taken for a product: of the features' covariance, weighted by each row's second derivatives, and of the mean
    second derivatives between the classes.

    Attributes:
        basis: (D, R) orthonormal: axes of the features.
        classes: (C, K) orthonormal: axes of the classes. For the softmax one less than there are: what is added to all
            classes alike changes nothing.
        along: (R, K) factors along the axes.
        beside: (K,) factors of what lies outside the span of `basis`.
        bias: (K,) factors of the biases.
        mean: (D,) of the features, likewise weighted: a bias goes along with the weights so that the scores there
            stay.
    """

    basis: Tensor
    classes: Tensor
    along: Tensor
    beside: Tensor
    bias: Tensor
    mean: Tensor

    @classmethod
    def measure(
        cls, stream: Stream, solution: Tensor, regularizer: float, known: tuple[Tensor, Tensor] | None = None
    ) -> Scaling:
        """In one pass over a stream.

        Args:
            stream: rows; some dozens for each feature do.
            solution: (D + 1, C), where to measure.
            regularizer: of the weights.
            known: axes of the features (D, R) and the variances (R,) along them, to be taken instead of measured ones.
        """
        between, mean, covariance = stream.curvature(solution, features=known is None)
        if covariance is None:
            assert known is not None
            basis, values = known
        else:
            values, basis = torch.linalg.eigh(covariance)
        count = len(between)
        if stream.labels.softmax:  # what all classes share becomes the last axis, which is left out
            between = between + 2 * between.trace() / count
            count -= 1
        bends, classes = torch.linalg.eigh(between)
        bends, classes = bends[:count], classes[:, :count]
        bends = bends.clamp_min(max(FLAT * float(bends[-1]), torch.finfo(bends.dtype).tiny))
        curved = values.clamp_min(0)[:, None] * bends + regularizer
        return cls(basis, classes, curved.rsqrt(), curved.amin(dim=0).rsqrt(), bends.rsqrt(), mean)

    def to(self, scaled: Tensor) -> Tensor:
        """The solution (D + 1, C) with these scaled coordinates (D + 1, K)."""
        weight = self._weigh(scaled[:-1])
        return torch.cat([weight, scaled[-1:] * self.bias - self.mean @ weight]) @ self.classes.T

    def slope(self, gradient: Tensor) -> Tensor:
        """The gradient (D + 1, K) by scaled coordinates, of one (D + 1, C) by solutions."""
        turned = gradient @ self.classes
        return torch.cat([self._weigh(turned[:-1] - torch.outer(self.mean, turned[-1])), turned[-1:] * self.bias])

    def _weigh(self, weight: Tensor) -> Tensor:
        return self.basis @ ((self.basis.T @ weight) * (self.along - self.beside)) + weight * self.beside


def descend(
    stream: Stream, regularizer: float, solution: Tensor, scaling: Scaling, tolerance: float = TOLERANCE
) -> Tensor:
    """The optimum (D + 1, C) from a start near it.

    Args:
        stream: rows.
        regularizer: of the weights.
        solution: (D + 1, C), the start.
        scaling: measured near the start.
        tolerance: norm of the scaled gradient to stop at; from `EXACT` on no product is float64.

    Raises:
        TrainingError: it takes more than `STEPS` steps.
    """
    single, double = torch.float32, torch.float64
    dtype = single
    loss, gradient = stream.loss(solution, regularizer, dtype)
    for _ in range(STEPS):
        slope = scaling.slope(gradient)
        size = float(slope.norm())
        if size <= tolerance and (dtype == double or tolerance >= EXACT):
            return solution
        accuracy = max(min(0.25, size**0.5), 0.3 * tolerance / max(size, tolerance))
        step = _newton_step(stream, regularizer, solution, slope, scaling, accuracy)
        slack = SLACK[dtype]
        dtype = double if size <= EXACT and tolerance < EXACT else single
        slack = max(slack, SLACK[dtype]) * (1 + abs(loss))
        length, falls = 1.0, float((gradient * step).sum())
        while True:
            candidate = solution + length * step
            found, next_gradient = stream.loss(candidate, regularizer, dtype)
            if found <= loss + 1e-4 * length * falls + slack:
                break
            length /= 2
        solution, loss, gradient = candidate, found, next_gradient
    raise TrainingError(
        f"logistic regression did not reach its optimum in {STEPS} steps over {len(stream):,} rows",
        why=f"The regularizer {regularizer:g} may be so small that the optimum is almost infinitely far away.",
        hint="Give a larger regularizer.",
    )


def _newton_step(
    stream: Stream, regularizer: float, solution: Tensor, slope: Tensor, scaling: Scaling, accuracy: float
) -> Tensor:
    """Solve Hessian @ step = -gradient to a relative accuracy; `slope` is the scaled gradient."""
    dtype = torch.float32 if regularizer >= QUICK_REGULARIZER else torch.float64
    step, residual = torch.zeros_like(slope), -slope
    search, power = residual, float(residual.square().sum())
    enough = power * accuracy**2
    for _ in range(PRODUCTS):
        if power <= enough:
            break
        image = scaling.slope(stream.bend(solution, scaling.to(search), regularizer, dtype))
        length = power / float((search * image).sum())
        step, residual = step + length * search, residual - length * image
        last, power = power, float(residual.square().sum())
        search = residual + power / last * search
    return scaling.to(step)

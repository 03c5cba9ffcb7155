"""Features that are read in passes over blocks of rows, and what a logistic regression asks of them.

A pass costs the reading of all features, little more: the rows of a block are centred into a buffer that stays in the
processor's cache, and multiplied there. Numbers of a block are fp32 (or float64, where it is asked for), the sums over
blocks float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from zoo.adapt.labels import Labels

#: Numbers of a block: 2 MB in fp32.
BLOCK: Final = 1 << 19


@dataclass(frozen=True)
class Stream:
    """Rows of a logistic regression.

    Attributes:
        features: (N, D), raw.
        labels: of the rows that are meant.
        mean: (D,) float64 numbers that fp32 holds too, so that centring rounds but once.
        inverse_scale: (D,) float64; with the mean it standardises the features.
        rows: numbers of the rows that are meant, ascending; None = all of them.
    """

    features: Tensor
    labels: Labels
    mean: Tensor
    inverse_scale: Tensor
    rows: Tensor | None = None

    def __len__(self) -> int:
        return len(self.features) if self.rows is None else len(self.rows)

    def sample(self, rows: Tensor) -> Stream:
        """The same of some rows of one that has them all."""
        return replace(self, labels=self.labels.sample(rows), rows=rows)

    def blocks(self, dtype: torch.dtype, times: int = 1) -> Iterator[tuple[slice, Tensor]]:
        """Consecutive rows, centred but not scaled, in one buffer that the next block overwrites.

        Args:
            dtype: of the rows.
            times: `BLOCK` numbers at once.
        """
        step = max(1, times * BLOCK // self.features.shape[1])
        mean = self.mean.to(dtype)
        buffer = torch.empty(min(step, len(self)), len(mean), dtype=dtype)
        for start in range(0, len(self), step):
            part = slice(start, min(start + step, len(self)))
            block = self.features[part if self.rows is None else self.rows[part]].detach().cpu()
            yield part, torch.sub(block, mean, out=buffer[: len(block)])

    def loss(self, solution: Tensor, regularizer: float, dtype: torch.dtype) -> tuple[float, Tensor]:
        """Weighted mean loss + regularizer ||W||^2 / 2, and its gradient (D + 1, C), float64.

        Args:
            solution: (D + 1, C) weights for standardised features, and biases.
            regularizer: of the weights.
            dtype: of the products.
        """
        losses = [regularizer / 2 * float(solution[:-1].square().sum())]

        def slope(rows: slice, scores: Tensor) -> Tensor:
            found, derivative = self.labels.loss(scores, rows)
            losses.append(found)
            return derivative

        gradient = self._pass([solution], slope, dtype)
        return sum(losses), gradient + _penalty(solution, regularizer)

    def bend(self, solution: Tensor, direction: Tensor, regularizer: float, dtype: torch.dtype) -> Tensor:
        """The Hessian at a solution times a direction, both (D + 1, C)."""

        def slope(rows: slice, scores: Tensor, moved: Tensor) -> Tensor:
            return self.labels.bend(scores, moved, rows)

        return self._pass([solution, direction], slope, dtype) + _penalty(direction, regularizer)

    def curvature(self, solution: Tensor, *, features: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """Second derivatives at a solution (D + 1, C), in one pass of fp32 products.

        Args:
            features: whether those between the features are wanted.

        Returns:
            Between the classes (C, C): the mean over the rows. Weighted by what each row adds to its trace: the mean
            of the standardised features (D,) and, where it is wanted, their covariance (D, D).
        """
        weights, offset = self._raw(solution)
        weights, offset = weights.float(), offset.float()
        between = torch.zeros(len(offset), len(offset), dtype=torch.float64)
        total = torch.zeros_like(self.mean)
        squares = torch.zeros(len(total), len(total), dtype=torch.float64) if features else None
        for rows, x in self.blocks(torch.float32, times=4):
            bends, shared = self.labels.curvature(torch.addmm(offset, x, weights), rows)
            between += shared
            total += bends @ x
            if squares is not None:
                x *= bends.sqrt()[:, None]
                squares += x.T @ x
        whole = between.trace().clamp_min(torch.finfo(torch.float64).tiny)
        mean = total / whole
        if squares is not None:
            squares = (squares / whole - torch.outer(mean, mean)) * torch.outer(self.inverse_scale, self.inverse_scale)
        return between, mean * self.inverse_scale, squares

    def _raw(self, solution: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (D, C) and biases (C,) for features that are centred but not scaled."""
        return solution[:-1] * self.inverse_scale[:, None], solution[-1]

    def _pass(self, at: list[Tensor], slope: Callable[..., Tensor], dtype: torch.dtype) -> Tensor:
        """Sum over all rows of slope(rows, their scores at each of `at`), pulled back to (D + 1, C)."""
        weights, offsets = (torch.cat(parts, dim=-1).to(dtype) for parts in zip(*map(self._raw, at), strict=True))
        outputs = at[0].shape[1]
        down = torch.zeros(outputs, len(self.mean), dtype=torch.float64)
        across = torch.zeros(outputs, dtype=torch.float64)
        for rows, x in self.blocks(dtype):
            pull = slope(rows, *torch.addmm(offsets, x, weights).split(outputs, dim=1))
            down += pull.T.contiguous() @ x
            across += pull.sum(dim=0, dtype=torch.float64)
        return torch.cat([(down * self.inverse_scale).T, across[None]])


def _penalty(solution: Tensor, regularizer: float) -> Tensor:
    """Gradient of regularizer ||W||^2 / 2; 0 for the biases in the last row."""
    return torch.cat([regularizer * solution[:-1], torch.zeros_like(solution[-1:])])

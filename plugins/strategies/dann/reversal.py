"""The gradient reversal layer and the schedule of its strength (Ganin et al. 2016, arXiv:1505.07818)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.adapt.strategy import full_precision


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradient, None


def reverse(x: Tensor, strength: float) -> Tensor:
    """x itself; its gradient is multiplied by -strength on the way back."""
    return _Reversal.apply(x, strength)  # type: ignore[no-any-return]


def schedule(progress: float, gamma: float = 10.0) -> float:
    """2 / (1 + exp(-gamma p)) - 1: from 0 at the start (p = 0) towards 1 at the end (p = 1)."""
    return 2 / (1 + math.exp(-gamma * progress)) - 1


def domain_loss(scores: Tensor, target: Tensor, share: float) -> Tensor:
    """Binary cross-entropy of "is of the target", with both domains at equal weight however many rows they have.

    The weight is that of a row, so that parts of a batch add up to the whole.

    Args:
        scores: (N, 1) logits.
        target: (N,) mask of the target's rows.
        share: part of all training rows that are the target's, in (0, 1).
    """
    each = F.binary_cross_entropy_with_logits(full_precision(scores[:, 0]), target.float(), reduction="none")
    return (each * torch.where(target, 0.5 / share, 0.5 / (1 - share))).mean()


class DomainHead(nn.Sequential):
    """Features (N, D) -> hidden, ReLU -> (N, 1) logits of "is of the target"."""

    def __init__(self, num_features: int, hidden: int) -> None:
        super().__init__(nn.Linear(num_features, hidden), nn.ReLU(), nn.Linear(hidden, 1))

"""Correlation alignment (CORAL): give one set of features the mean and covariance of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

#: Rows taken to float64 at once.
_CHUNK: Final = 4096


@dataclass(frozen=True)
class Alignment:
    """x -> (x - source_mean) @ matrix + target_mean, everything float64.

    Attributes:
        source_mean: (D,).
        matrix: (D, D).
        target_mean: (D,).
    """

    source_mean: Tensor
    matrix: Tensor
    target_mean: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Features (N, D) of the source, aligned, as float32."""
        parts = (part.detach().cpu().double() - self.source_mean for part in features.split(_CHUNK))
        return torch.cat([(part @ self.matrix + self.target_mean).float() for part in parts])


def align(source: Tensor, target: Tensor, shrinkage: float) -> Alignment:
    """The alignment of source features (N, D) with target features (M, D).

    matrix = S^(-1/2) T^(1/2), where S and T are the covariances of source and target plus `shrinkage` times the mean
    variance of both on the diagonal (Sun et al. 2016, whose features have variance 1 and get 1 there). Without it S
    has no inverse where N <= D. Both roots are symmetric, taken through `eigh`.

    Args:
        source: any float type, finite.
        target: the same.
        shrinkage: above 0.
    """
    (source_mean, s), (target_mean, t) = covariance(source), covariance(target)
    variance = float(s.diagonal().mean() + t.diagonal().mean()) / 2
    loading = shrinkage * (variance or 1.0)  # features that do not vary at all stay as they are
    return Alignment(source_mean, _power(s, loading, -0.5) @ _power(t, loading, 0.5), target_mean)


def covariance(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) of features (N, D), divided by N, float64, in chunks of rows."""
    mean = sum(part.double().sum(dim=0) for part in features.detach().cpu().split(_CHUNK)) / len(features)
    total = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for part in features.detach().cpu().split(_CHUNK):
        centred = part.double() - mean
        total.addmm_(centred.T, centred)
    return mean, total / len(features)


def _power(matrix: Tensor, loading: float, exponent: float) -> Tensor:
    """(matrix + loading I) ** exponent of a positive semi-definite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * (values.clamp_min(0) + loading) ** exponent) @ vectors.T

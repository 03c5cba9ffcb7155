"""Standardised features in the basis where ridge regression is diagonal and logistic regression nearly so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from zoo.errors import DataError

#: A feature whose standard deviation is below this part of its mean holds nothing but fp32 rounding.
CONSTANT: Final = 1e-6
#: Numbers that a pass over features takes to float64 at once (32 MB).
CHUNK: Final = 1 << 22


@dataclass(frozen=True)
class Spectrum:
    """Standardised features X (N, D) as X = rows @ basis.T, everything float64.

    Attributes:
        mean: (D,) of the features.
        inverse_scale: (D,) 1 / scale; 0 for a constant feature, whose weight is then 0.
        basis: (D, R) orthonormal, R = rank of X.
        rows: (N, R) coordinates X @ basis; their columns are orthogonal and sum to 0.
        squares: (R,) squared singular values of X, descending.
    """

    mean: Tensor
    inverse_scale: Tensor
    basis: Tensor
    rows: Tensor
    squares: Tensor

    def fold(self, weight: Tensor, bias: Tensor) -> nn.Linear:
        """Make a head for raw features of weights (R, C) and biases (C,) in this basis.

        Raises:
            DataError: the weights of the raw features do not fit into fp32.
        """
        return fold(self.basis @ weight, bias, self.mean, self.inverse_scale)


def fold(weight: Tensor, bias: Tensor, mean: Tensor, inverse_scale: Tensor) -> nn.Linear:
    """Make a head for raw features of weights (D, C) and biases (C,) for standardised ones.

    Raises:
        DataError: the weights of the raw features do not fit into fp32.
    """
    folded = weight * inverse_scale[:, None]
    head = nn.Linear(*folded.shape)
    with torch.no_grad():
        head.weight.copy_(folded.T)
        head.bias.copy_(bias - mean @ folded)
    if not (head.weight.isfinite().all() and head.bias.isfinite().all()):
        raise DataError("the features are so small that a head for them overflows", hint="Rescale the features.")
    return head


def check_features(features: Tensor) -> None:
    """Raise `DataError` unless features are (N, D), N and D above 0, and finite. Looks at some rows at a time."""
    if features.ndim != 2 or 0 in features.shape:
        raise DataError(f"features of shape {tuple(features.shape)} cannot be learned from", hint="Give (N, D).")
    bad = sum(int((~part.isfinite()).any(dim=1).sum()) for part in chunks(features))
    if bad:
        raise DataError(
            f"the features of {bad} of {len(features)} samples are not finite",
            why="The backbone overflowed, or its input was not finite.",
            hint="Try precision=fp32, and check the samples.",
        )


def chunks(features: Tensor) -> tuple[Tensor, ...]:
    """Views of consecutive rows, `CHUNK` numbers at most (or one row)."""
    return features.detach().split(max(1, CHUNK // max(1, features.shape[1])))


def standardise(features: Tensor, floor: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """Centre features (N, D) and divide them by their standard deviation.

    Args:
        features: (N, D), any float type.
        floor: least scale of a feature, as a part of the median standard deviation. A channel that is nearly silent
            in the training rows would otherwise be blown up until it outweighs all others on new rows.

    Returns:
        The standardised features (N, D), the mean (D,) and 1 / scale (D,), 0 for a constant feature; all float64.

    Raises:
        DataError: no rows, no features, or numbers that are not finite.
    """
    check_features(features)
    x = features.detach().cpu().double()
    mean = x.mean(dim=0)
    x = x - mean
    inverse_scale = invert_scale(mean, x.square().mean(dim=0).sqrt(), floor)
    return x.mul_(inverse_scale), mean, inverse_scale


def invert_scale(mean: Tensor, deviation: Tensor, floor: float) -> Tensor:
    """(D,) 1 / scale of features with these means and standard deviations; see `standardise`."""
    varies = deviation > CONSTANT * mean.abs()
    if floor and bool(varies.any()):
        deviation = deviation.clamp_min(floor * float(deviation[varies].median()))
    return torch.where(varies, 1 / torch.where(varies, deviation, 1.0), 0.0)


def decompose(features: Tensor, floor: float = 0.0) -> Spectrum:
    """Standardise features (N, D) and rotate them onto their principal axes.

    The smaller of the Gram (N, N) and the covariance (D, D) is decomposed. The weights of a ridge or logistic
    regression lie in the span of the rows, so nothing is lost when N < D, and the problem shrinks to (N, N).

    Args and errors are those of `standardise`.
    """
    return rotate(*standardise(features, floor))


def rotate(x: Tensor, mean: Tensor, inverse_scale: Tensor) -> Spectrum:
    """The spectrum of features (N, D) that were standardised with this mean and scale."""
    wide = x.shape[1] > x.shape[0]
    squares, vectors = torch.linalg.eigh(x @ x.T if wide else x.T @ x)
    squares, vectors = squares.flip(0), vectors.flip(1)
    rank = int((squares > squares[0] * max(x.shape) * torch.finfo(x.dtype).eps).sum())
    squares, vectors = squares[:rank], vectors[:, :rank]
    if wide:
        singular = squares.sqrt()
        return Spectrum(mean, inverse_scale, (x.T @ vectors) / singular, vectors * singular, squares)
    return Spectrum(mean, inverse_scale, vectors.contiguous(), x @ vectors, squares)

"""Scores that guess how well frozen features suit labels, without fitting a head. All in float64.

They are second opinions: in large studies cross-validated probe accuracy chooses better, so `rank` orders by that.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from zoo.adapt.neighbours import vote

#: Grid of ln(alpha / beta) over which the evidence is searched, relative to the largest squared singular value.
_SPAN: Final = np.linspace(-28.0, 20.0, 193)
#: Golden-section steps after the grid; each shrinks the bracket by 0.618.
_POLISH: Final = 60
#: Rows whose neighbours are looked for at once.
_CHUNK: Final = 1024


def log_me(features: np.ndarray, columns: np.ndarray) -> float:
    """LogME (You et al. 2021): the largest log evidence of a Bayesian linear model, per row, averaged over columns.

    For each column t the evidence is ln N(t; 0, I/beta + F F'/alpha), maximised over alpha and beta. With the ratio
    r = alpha/beta fixed, beta has a closed form, so that one search over r finds the maximum:
    beta = N / q(r), q(r) = t' (I + F F'/r)^-1 t. Nothing is left out where N < D, so noise does not win there.

    Args:
        features: F (N, D), as they are (not centred).
        columns: targets (N, C): one-hot classes, 0/1 labels, or numbers.
    """
    features, columns = np.asarray(features, dtype=np.float64), np.asarray(columns, dtype=np.float64)
    if features.shape[0] > features.shape[1]:
        squares, basis = np.linalg.eigh(features.T @ features)
        kept = squares > squares.max(initial=0.0) * 1e-12
        squares, projected = squares[kept], (features @ basis[:, kept]).T @ columns
        projected = projected / np.sqrt(squares)[:, None]
    else:
        squares, basis = np.linalg.eigh(features @ features.T)
        kept = squares > squares.max(initial=0.0) * 1e-12
        squares, projected = squares[kept], basis[:, kept].T @ columns
    n = len(columns)
    inside = projected**2
    outside = np.clip((columns**2).sum(axis=0) - inside.sum(axis=0), 0.0, None)
    top = np.log(squares.max()) if len(squares) else 0.0

    def evidence(log_ratio: np.ndarray) -> np.ndarray:
        """(G, C) for ln r (G, C)."""
        gain = squares[None, :, None] / np.exp(log_ratio)[:, None, :]  # (G, R, C)
        q = (inside[None] / (1 + gain)).sum(axis=1) + outside
        q = np.maximum(q, np.finfo(np.float64).tiny)
        return -n / 2 * (np.log(2 * np.pi * q / n) + 1) - np.log1p(gain).sum(axis=1) / 2

    grid = np.repeat((top + _SPAN)[:, None], columns.shape[1], axis=1)
    values = np.concatenate([evidence(part) for part in np.array_split(grid, 8)])
    best = values.argmax(axis=0)
    low = np.take_along_axis(grid, np.clip(best - 1, 0, None)[None], 0)
    high = np.take_along_axis(grid, np.clip(best + 1, None, len(grid) - 1)[None], 0)
    ratio = (np.sqrt(5) - 1) / 2
    for _ in range(_POLISH):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        better = evidence(left) > evidence(right)
        low, high = np.where(better, low, left), np.where(better, right, high)
    found = np.maximum(evidence((low + high) / 2)[0], values.max(axis=0))
    return float((found / n).mean())


def h_score(features: np.ndarray, codes: np.ndarray) -> float:
    """H-score (Bao et al. 2019) with Ledoit-Wolf shrinkage (Ibrahim et al. 2021): between-class over total variance.

    tr(S^-1 (1 - a) B) with the shrunk covariance S = (1 - a) X'X/N + a mu I and the covariance B of the class means.
    It lies between 0 and C - 1.

    Args:
        features: (N, D).
        codes: (N,) class indices.
    """
    from sklearn.covariance import ledoit_wolf_shrinkage

    x = np.asarray(features, dtype=np.float64)
    x = x - x.mean(axis=0)
    n = len(x)
    shrinkage = float(ledoit_wolf_shrinkage(x, assume_centered=True))
    mu = float((x**2).sum() / n / x.shape[1])
    if mu == 0:
        return 0.0
    _, singular, basis = np.linalg.svd(x, full_matrices=False)
    scale = (1 - shrinkage) * singular**2 / n + shrinkage * mu
    used = scale > scale.max() * 1e-12
    total = 0.0
    for code in np.unique(codes):
        rows = x[codes == code]
        inside = basis[used] @ rows.mean(axis=0)
        total += len(rows) / n * float((inside**2 / scale[used]).sum())
    return (1 - shrinkage) * total


def leep(probabilities: np.ndarray, codes: np.ndarray) -> float:
    """LEEP (Nguyen et al. 2020): mean log of the expected empirical prediction through the source classifier; <= 0.

    With P(y, z) the mean of theta_z over the rows of class y, it is mean ln sum_z P(y | z) theta_z(x).

    Args:
        probabilities: theta (N, Z) of the source classes, rows summing to 1.
        codes: (N,) class indices.
    """
    theta = np.asarray(probabilities, dtype=np.float64)
    joint = np.stack([theta[codes == code].sum(axis=0) for code in range(int(codes.max()) + 1)]) / len(theta)
    marginal = joint.sum(axis=0)
    # A source class that no row is given any of says nothing; 0/0 would make the score NaN.
    seen = marginal > 0
    conditional = joint[:, seen] / marginal[seen]
    expected = (theta[:, seen] * conditional[codes]).sum(axis=1)
    return float(np.log(np.maximum(expected, np.finfo(np.float64).tiny)).mean())


def knn_accuracy(features: Tensor, codes: np.ndarray) -> float:
    """Leave-one-out accuracy of `neighbour_votes`."""
    return float((neighbour_votes(features, codes).argmax(axis=1) == codes).mean())


def neighbour_votes(
    features: Tensor, codes: np.ndarray, k: int = 20, temperature: float = 0.07, first: np.ndarray | None = None
) -> np.ndarray:
    """Share (N, C) of the votes that each class gets from a row's k nearest neighbours, the row itself excluded.

    Neighbours are found by cosine; see `zoo.adapt.neighbours.vote`.

    Args:
        features: (N, D), N >= 2.
        codes: (N,) class indices.
        k: neighbours; at most as many as the row has that are no copy.
        temperature: T.
        first: (N,) rows of one number are copies of each other, and no neighbours; two numbers at least.
    """
    unit = torch.nn.functional.normalize(features.double(), dim=1)
    alike = torch.arange(len(unit)) if first is None else torch.from_numpy(first)
    others = len(unit) - int(torch.unique(alike, return_counts=True)[1].max())
    voters = torch.nn.functional.one_hot(torch.from_numpy(np.asarray(codes, dtype=np.int64))).double()
    shares = []
    for rows in torch.arange(len(unit)).split(_CHUNK):
        similar = unit[rows] @ unit.T
        similar[alike[rows][:, None] == alike] = -torch.inf
        shares.append(vote(similar, voters, min(k, others), temperature))
    return torch.cat(shares).numpy()

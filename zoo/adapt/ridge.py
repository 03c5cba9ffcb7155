"""Ridge regression with exact leave-one-out errors, for a whole path of regularisers at about the cost of one."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from zoo.adapt.spectrum import Spectrum, decompose

#: The regularisers tried: 45 values, five a decade.
PATH: Final = tuple(10.0 ** (-6 + step / 5) for step in range(45))


def solve(spectrum: Spectrum, targets: Tensor, regularizer: float) -> tuple[Tensor, Tensor]:
    """Weights (R, C) and biases (C,) that minimise mean squared error / 2 + regularizer ||W||^2 / 2.

    With N rows that is scikit-learn's Ridge with alpha = regularizer * N. The bias is unpenalised.
    """
    bias = targets.mean(dim=0)
    shrunk = spectrum.squares + regularizer * len(targets)
    return (spectrum.rows.T @ (targets - bias)) / shrunk[:, None], bias


def leave_one_out(spectrum: Spectrum, targets: Tensor, path: tuple[float, ...] = PATH, *, views: int = 1) -> Tensor:
    """Mean squared leave-one-out error (len(path),) of targets (N, C), exact, without a refit.

    With the hat matrix H, the error of a row that was left out is (y_i - f_i) / (1 - H_ii); in the spectrum's basis
    H_ii = 1/N + sum_j rows_ij^2 / (squares_j + alpha), alpha = regularizer * N (Golub, Heath and Wahba 1979). The
    features' mean and scale are those of all rows.

    Args:
        views: of each sample: the rows are so many blocks of the same samples in the same order. A sample is left out
            with all its views v, whose errors are (I - H_vv)^(-1) (y_v - f_v), and judged by its first.
    """
    bias = targets.mean(dim=0)
    moments = spectrum.rows.T @ (targets - bias)
    shrink = shrinkage(spectrum.squares, len(targets), path)
    return squared_errors(spectrum.rows, targets - bias, moments, shrink, len(targets), views) / targets.shape[1]


def leave_folds_out(
    features: Tensor,
    targets: Tensor,
    folds: np.ndarray,
    floor: float,
    path: tuple[float, ...] = PATH,
    *,
    views: int = 1,
) -> Tensor:
    """Mean squared error (len(path),) of rows whose fold was left out, mean and scale of the features included.

    Args:
        features: (views * N, D), raw.
        targets: (views * N, C).
        folds: (N,) of each sample, which is judged by its first view; negative = never left out.
        floor: as for `zoo.adapt.spectrum.standardise`.
        path: the regularisers.
        views: of each sample.
    """
    total, samples = torch.zeros(len(path), dtype=torch.float64), len(folds)
    for fold in np.unique(folds[folds >= 0]):
        held = torch.from_numpy(folds == fold)
        kept = ~held.repeat(views)
        spectrum = decompose(features[kept], floor)
        x = features[:samples][held].detach().cpu().double()
        rows = ((x - spectrum.mean) * spectrum.inverse_scale) @ spectrum.basis
        bias = targets[kept].mean(dim=0)
        moments = spectrum.rows.T @ (targets[kept] - bias)
        shrink = shrinkage(spectrum.squares, int(kept.sum()), path)
        for i in range(len(path)):
            errors = targets[:samples][held] - bias - rows @ (moments * shrink[:, [i]])
            total[i] += errors.square().sum()
    return total / (int((folds >= 0).sum()) * targets.shape[1])


def shrinkage(squares: Tensor, count: int, path: tuple[float, ...]) -> Tensor:
    """(R, len(path)) 1 / (squares + alpha)."""
    return 1 / (squares[:, None] + torch.tensor(path, dtype=torch.float64) * count)


def squared_errors(
    rows: Tensor, centred: Tensor, moments: Tensor, shrink: Tensor, count: int, views: int = 1
) -> Tensor:
    """Squared leave-one-out errors (len(path),) of some rows: the sum over their columns and their share of `count`.

    Args:
        rows: (n, R) in the spectrum's basis; of several views, so many blocks of the same samples.
        centred: (n, C) targets less their mean over all rows.
        moments: (R, C) rows.T @ centred, over all rows.
        shrink: (R, len(path)).
        count: of all rows, views included.
        views: of each sample.
    """
    found = []
    if views == 1:
        leverage = 1 / count + rows.square() @ shrink
    else:
        blocks = rows.unflatten(0, (views, -1)).transpose(0, 1)
        identity = torch.eye(views, dtype=rows.dtype)
    for i in range(shrink.shape[1]):
        residual = centred - rows @ (moments * shrink[:, [i]])
        if views == 1:
            errors = residual / (1 - leverage[:, [i]])
        else:
            system = identity - 1 / count - (blocks * shrink[:, i]) @ blocks.mT
            errors = torch.linalg.solve(system, residual.unflatten(0, (views, -1)).transpose(0, 1))[:, 0]
        found.append(errors.square().sum() * views / count)
    return torch.stack(found)

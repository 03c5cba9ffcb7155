"""Ridge regression with exact leave-one-out errors, for a whole path of regularisers at about the cost of one."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from zoo.adapt.spectrum import Spectrum

#: The regularisers tried: 45 values, five a decade.
PATH: Final = tuple(10.0 ** (-6 + step / 5) for step in range(45))


def solve(spectrum: Spectrum, targets: Tensor, regularizer: float) -> tuple[Tensor, Tensor]:
    """Weights (R, C) and biases (C,) that minimise mean squared error / 2 + regularizer ||W||^2 / 2.

    With N rows that is scikit-learn's Ridge with alpha = regularizer * N. The bias is unpenalised.
    """
    bias = targets.mean(dim=0)
    shrunk = spectrum.squares + regularizer * len(targets)
    return (spectrum.rows.T @ (targets - bias)) / shrunk[:, None], bias


def leave_one_out(spectrum: Spectrum, targets: Tensor, path: tuple[float, ...] = PATH) -> Tensor:
    """Mean squared leave-one-out error (len(path),) of targets (N, C), exact, without a refit.

    With the hat matrix H, the error of a row that was left out is (y_i - f_i) / (1 - H_ii); in the spectrum's basis
    H_ii = 1/N + sum_j rows_ij^2 / (squares_j + alpha), alpha = regularizer * N (Golub, Heath and Wahba 1979). The
    features' mean and scale are those of all rows.
    """
    count = len(targets)
    alphas = torch.tensor(path, dtype=torch.float64) * count
    shrink = 1 / (spectrum.squares[:, None] + alphas)
    leverage = 1 / count + spectrum.rows.square() @ shrink
    centred = targets - targets.mean(dim=0)
    moments = spectrum.rows.T @ centred
    errors = [
        ((centred - spectrum.rows @ (moments * shrink[:, [i]])) / (1 - leverage[:, [i]])).square().mean()
        for i in range(len(path))
    ]
    return torch.stack(errors)

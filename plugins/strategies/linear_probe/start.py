"""A head that begins as the linear probe leaves it, for strategies that train on from there."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from zoo.adapt.heads import Head, hidden_units
from zoo.adapt.solve import solve_head
from zoo.adapt.strategy import Context, Model


def start_at_probe(model: Model, head: Head, context: Context) -> None:
    """Give the model's head the probe's solution on the features of the labelled rows.

    It stays as it is where it is one of the user's own, or where features cannot be had.

    Args:
        model: its head is the one that `head` names.
        head: "linear" is solved in closed form, an "mlp(N)" trained on the features.
        context: of the fit.
    """
    if isinstance(head, str) and context.features is not None:
        solved = probe(head, *context.features(), context)
        model.head.load_state_dict(solved.state_dict())


def probe(head: str, features: Tensor, targets: np.ndarray, context: Context) -> nn.Module:
    """The probe's head for features (N, D)."""
    hidden = hidden_units(head)
    if hidden is None:
        return solve_head(features, targets, context.task, seed=context.seed, groups=context.groups)
    from zoo_plugins.strategies.linear_probe.mlp import train_mlp

    return train_mlp(features, targets, context.task, hidden, seed=context.seed)

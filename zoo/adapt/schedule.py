"""How large a step is, when: learning rates and optimizers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import torch
from torch import nn

from zoo.adapt.strategy import Gradient

#: Share of the steps that warm up.
WARM_UP: Final = 0.05
#: Steps that `epochs=None` makes sure of.
MIN_STEPS: Final = 100
_FUSED: Final = ("cpu", "cuda", "mps", "xpu")


def resolved_epochs(strategy: Gradient, steps_per_epoch: int) -> int:
    """The epochs asked for; else enough for the strategy's `min_epochs` and for 100 steps."""
    if strategy.epochs is not None:
        return strategy.epochs
    return max(strategy.min_epochs, math.ceil(MIN_STEPS / steps_per_epoch))


def scale(step: int, total: int, schedule: str) -> float:
    """Factor of the learning rate at a step counted from 0.

    "constant": 1. "cosine": (step + 1) / w over the first w = 5 % of the steps, then
    (1 + cos(pi (step - w) / (total - w))) / 2 (Loshchilov and Hutter 2017, without restarts).
    """
    if schedule == "constant":
        return 1.0
    warm = max(1, round(WARM_UP * total))
    if step < warm:
        return (step + 1) / warm
    return (1 + math.cos(math.pi * (step - warm) / (total - warm))) / 2


def parameter_groups(
    model: nn.Module, stages: Mapping[str, Iterable[str]], strategy: Gradient
) -> list[dict[str, Any]]:
    """One group per stage, and a second one for its biases and norms, which are not decayed."""
    parameters = dict(model.named_parameters())
    groups = []
    for stage, names in stages.items():
        found = [parameters[name] for name in names]
        decayed = [parameter for parameter in found if parameter.ndim > 1]
        plain = [parameter for parameter in found if parameter.ndim <= 1]
        for members, decay in ((decayed, strategy.weight_decay), (plain, 0.0)):
            if members:
                groups.append({"params": members, "weight_decay": decay, "lr": strategy.lr, "stage": stage})
    return groups


def make_optimizer(strategy: Gradient, groups: list[dict[str, Any]], device: torch.device) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019) or SGD with momentum, fused where this device has it."""
    fused = device.type in _FUSED
    if strategy.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=strategy.lr, momentum=strategy.momentum, fused=fused)
    return torch.optim.AdamW(groups, lr=strategy.lr, fused=fused)

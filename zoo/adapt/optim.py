"""The optimizer of a fit: one group per stage from the first step on, and who decays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import torch
from torch import nn

from zoo.adapt.strategy import Gradient

#: The key of a group that says which stage it is of.
STAGE: Final = "stage"
#: Devices whose fused kernels take all parameters in one call (on a CPU 225 ms a step became 54).
_FUSED: Final = ("cpu", "cuda", "mps", "xpu")


def parameter_groups(
    model: nn.Module, stages: Mapping[str, Iterable[str]], weight_decay: float
) -> list[dict[str, Any]]:
    """Groups of each stage: its matrices and filters, then its biases and norms (1-D), which do not decay.

    Args:
        model: where the parameters are.
        stages: stage -> parameter names, only of what is trained in some epoch.
        weight_decay: of what decays.
    """
    parameters = dict(model.named_parameters())
    groups = []
    for stage, names in stages.items():
        found = [parameters[name] for name in names if name in parameters]  # a tied parameter is listed once
        for decays in (True, False):
            members = [parameter for parameter in found if (parameter.ndim > 1) == decays]
            if members:
                groups.append({"params": members, "weight_decay": weight_decay if decays else 0.0, STAGE: stage})
    return groups


def make_optimizer(
    strategy: Gradient, groups: list[dict[str, Any]], device: torch.device
) -> torch.optim.AdamW | torch.optim.SGD:
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) or SGD with momentum, fused where the device has it."""
    fused = device.type in _FUSED
    if strategy.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=strategy.lr, momentum=strategy.momentum, fused=fused)
    return torch.optim.AdamW(groups, lr=strategy.lr, fused=fused)


def set_rates(optimizer: torch.optim.Optimizer, lr: float, factors: Mapping[str, float]) -> None:
    """Give every group `lr` times the factor of its stage."""
    for group in optimizer.param_groups:
        group["lr"] = lr * factors.get(group[STAGE], 0.0)

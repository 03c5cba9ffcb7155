"""Facts of a built network, measured: what a backbone's spec declares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from zoo.models.network import pool
from zoo.models.stages import find_head


@dataclass(frozen=True)
class Facts:
    """What a built network is, measured."""

    params: int
    head: tuple[str, ...]
    #: Width of the pooled features entering the first head.
    num_features: int
    #: Multiply-accumulates of one forward pass in 1e9: half of the operations torch counts in matrix products,
    #: convolutions and attention. What has no product (norms, activations, pools) is not counted.
    gmacs: float


def measure(
    build: Callable[..., nn.Module],
    input_size: tuple[int, ...],
    *,
    head: str | None = None,
    **options: Any,
) -> Facts:
    """Build on `meta` with the builder's own number of classes, run one image through, and read the facts off.

    Nothing is allocated: on torch's `meta` device only shapes exist.
    """
    with torch.device("meta"):
        module = build(in_chans=input_size[0], **options)
    return observe(module, input_size, head)


def observe(module: nn.Module, input_size: tuple[int, ...], head: str | None = None) -> Facts:
    """The facts of a module that lies on `meta`; it is left in eval mode."""
    with torch.device("meta"):
        image = torch.empty(1, *input_size)
    module.eval()
    heads = find_head(module, head)
    entered: list[torch.Tensor] = []
    hook = module.get_submodule(heads[0]).register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    # The context is torch's default device for tensors that a forward pass makes itself (positions, masks).
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        module(image)
    hook.remove()
    return Facts(
        params=sum(parameter.numel() for parameter in module.parameters()),
        head=heads,
        num_features=pool(entered[0], module).shape[1],
        gmacs=significant(counter.get_total_flops() / 2e9),
    )


def significant(value: float, digits: int = 4) -> float:
    """`value` rounded to its leading digits: 4.089184256 -> 4.089."""
    return float(f"{value:.{digits}g}")

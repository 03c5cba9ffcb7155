"""The convolution that sees the input, and how it meets another number of channels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from torch import Tensor, nn

_CONVOLUTIONS: Final = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def first_convolution(module: nn.Module) -> tuple[str, Tensor | None]:
    """The name and the weight of the convolution that sees the input: the one timm names, else the first."""
    config = getattr(module, "pretrained_cfg", None) or getattr(module, "default_cfg", None)
    named = config.get("first_conv") if isinstance(config, Mapping) else getattr(config, "first_conv", None)
    known = dict(module.named_modules())
    named = named[0] if isinstance(named, (tuple, list)) and named else named
    if isinstance(named, str) and isinstance(known.get(named), _CONVOLUTIONS):
        return f"{named}.weight", known[named].weight
    for name, child in known.items():
        if isinstance(child, _CONVOLUTIONS):
            return f"{name}.weight" if name else "weight", child.weight
    return "", None


def adapt_stem(weight: Tensor, in_chans: int) -> Tensor:
    """Make filters (O, I, ...) fit another number of input channels: summed to one, else repeated and scaled by I/N.

    For I = 3 it equals `timm.models.adapt_input_conv`.
    """
    channels = weight.shape[1]
    if in_chans == channels:
        return weight
    if in_chans == 1:
        return weight.sum(dim=1, keepdim=True)
    times = [1, math.ceil(in_chans / channels), *[1] * (weight.ndim - 2)]
    return weight.repeat(times)[:, :in_chans].mul(channels / in_chans).contiguous()

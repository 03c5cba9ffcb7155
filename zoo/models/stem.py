"""The convolutions that see the input, and how they meet another number of channels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from torch import Tensor, nn

_CONVOLUTIONS: Final = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def first_convolutions(module: nn.Module) -> dict[str, Tensor]:
    """The weights of the convolutions that see the input, by name: those that timm names, else the first one."""
    known = dict(module.named_modules())
    found = {
        _weight_of(name): known[name].weight
        for name in _named_by_timm(module)
        if isinstance(known.get(name), _CONVOLUTIONS)
    }
    if found:
        return found
    for name, child in known.items():
        if isinstance(child, _CONVOLUTIONS):
            return {_weight_of(name): child.weight}
    return {}


def _named_by_timm(module: nn.Module) -> tuple[str, ...]:
    """What timm calls `first_conv`: a trait of the model, or of the configuration of its weights."""
    config = getattr(module, "pretrained_cfg", None)
    for facts in (getattr(module, "_traits", None), config, getattr(module, "default_cfg", None)):
        named = facts.get("first_conv") if isinstance(facts, Mapping) else getattr(facts, "first_conv", None)
        if named:
            return (named,) if isinstance(named, str) else tuple(named)
    return ()


def _weight_of(name: str) -> str:
    return f"{name}.weight" if name else "weight"


def adapt_stem(weight: Tensor, in_chans: int, channels: int | None = None) -> Tensor:
    """Make filters (O, I, ...) fit another number of input channels: summed to one, else repeated and scaled.

    A stem that folds pixels into channels has I = several x `channels`; each of its parts is adapted alike. For three
    channels it equals `timm.models.adapt_input_conv`, which refuses folded pixels for more than one new channel.

    Args:
        in_chans: channels of the new input.
        channels: channels of the input that the filters were made for; None = I.
    """
    channels = channels or weight.shape[1]
    if in_chans == channels:
        return weight
    parts = weight.unflatten(1, (weight.shape[1] // channels, channels))
    if in_chans == 1:
        return parts.sum(dim=2).contiguous()
    times = [1, 1, math.ceil(in_chans / channels), *[1] * (weight.ndim - 2)]
    return parts.repeat(times)[:, :, :in_chans].mul(channels / in_chans).flatten(1, 2).contiguous()

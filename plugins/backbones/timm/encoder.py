"""timm's bare encoders behind a classifier of their own: they give tokens or maps and have no head to adapt.

`zoo_plugins.backbones.timm.encoder:NAME` builds timm's `NAME`; its tensors keep timm's names, the classifier is `head`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import timm.models
import torch
from torch import nn


def build(name: str, *, num_classes: int = 0, in_chans: int = 3, **options: Any) -> nn.Module:
    """timm's encoder `name`, its tokens or maps averaged over positions, then `head`, the identity for 0 classes.

    Raises:
        AttributeError: timm has no such model.
    """
    encoder = getattr(timm.models, name)(pretrained=False, in_chans=in_chans, **options)
    # The class grows, not the module tree, so that the file's names fit.
    encoder.__class__ = _headed(type(encoder))
    encoder.head = nn.Linear(encoder.head_hidden_size, num_classes) if num_classes else nn.Identity()
    return encoder


def _headed(kind: type[nn.Module]) -> type[nn.Module]:
    def forward(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = kind.forward(self, x)
        # (N, C, H, W) maps or (N, L, C) tokens
        return self.head(y.mean(dim=(2, 3)) if y.ndim == 4 else y.mean(dim=1))

    return type(f"{kind.__name__}WithHead", (kind,), {"forward": forward, "__module__": __name__})


def __getattr__(name: str) -> partial[nn.Module]:
    if name.startswith("_") or not hasattr(timm.models, name):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return partial(build, name)

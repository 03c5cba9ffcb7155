"""timm's own renaming of old and foreign files, for the architectures where it is no plain function of a module.

Elsewhere the catalogue names timm's function itself. Where timm loads without `strict`, what it would skip or leave is
said here, so that our own comparison can stay strict.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import torch
from timm.models import davit as timm_davit
from timm.models import hieradet_sam2, vision_transformer
from torch import Tensor, nn

Tensors = dict[str, Tensor]

_vit: Final[Callable[..., Tensors]] = vision_transformer.checkpoint_filter_fn

#: What timm gives its function besides tensors and model, by the name under which the catalogue knows it.
PARTIAL: Final[dict[str, partial[Tensors]]] = {
    "deit3": partial(_vit, adapt_layer_scale=True),
    "flexivit": partial(_vit, interpolation="bilinear", antialias=False),
    "radio": partial(_vit, interpolation="bilinear", antialias=False, align_corners=False),
    "radio_corners": partial(_vit, interpolation="bilinear", antialias=False, align_corners=True),
    "hieradet": partial(hieradet_sam2.checkpoint_filter_fn, prefix=""),
}


def crossvit(tensors: Tensors, module: nn.Module) -> Tensors:
    """`pos_embed.0` and `cls_token.1` of the original files are `pos_embed_0` and `cls_token_1`."""
    return {
        name.replace(".", "_") if "pos_embed" in name or "cls_token" in name else name: tensor
        for name, tensor in tensors.items()
    }


def siglip_gap(tensors: Tensors, module: nn.Module) -> Tensors:
    """A SigLIP file has a pooling by attention, which the networks that average have no place for."""
    return {name: tensor for name, tensor in _vit(tensors, module).items() if not name.startswith("attn_pool.")}


def davit_fl(tensors: Tensors, module: nn.Module) -> Tensors:
    """Florence files have no norm before the head; it keeps what it starts with, gain 1 and shift 0."""
    found = dict(timm_davit.checkpoint_filter_fn(tensors, module))
    norm: Any = module.get_submodule("head.norm")
    found.setdefault("head.norm.weight", torch.ones(norm.weight.shape))
    found.setdefault("head.norm.bias", torch.zeros(norm.bias.shape))
    return found


def __getattr__(name: str) -> partial[Tensors]:
    if name in PARTIAL:
        return PARTIAL[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

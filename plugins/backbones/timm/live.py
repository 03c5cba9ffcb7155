"""Facts about a model that the installed timm has and the catalogue lacks, read off the model itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import timm
import timm.models
import torch
from torch import nn

import zoo


def find(name: str, made_for: str) -> zoo.Backbone | None:
    """The spec of timm's model `name`, built on the `meta` device to count and measure; None if timm has none.

    A model without a classifier is none that can be adapted.

    Args:
        name: an architecture, without tag.
        made_for: the version of timm that the catalogue describes.
    """
    if not timm.is_model(name):
        return None
    build = timm.model_entrypoint(name)
    with torch.device("meta"):
        module = build(pretrained=False)
    config = module.pretrained_cfg
    classifier = config.get("classifier")
    if classifier is None or not hasattr(module, "reset_classifier"):
        return None
    heads = [classifier] if isinstance(classifier, str) else list(classifier)
    head = module.get_submodule(heads[0])
    preprocessing = zoo.Preprocessing(
        input_size=tuple(config["input_size"]),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
        crop_pct=config["crop_pct"],
        crop_mode=config.get("crop_mode", "center"),
    )
    return zoo.Backbone(
        name=name,
        family=build.__module__.rpartition(".")[2],
        build=f"timm.models:{name}" if getattr(timm.models, name, None) is build else build,
        num_features=_width(head) or module.head_hidden_size,
        params=sum(parameter.numel() for parameter in module.parameters()),
        input_size=preprocessing.input_size,
        head=",".join(heads),
        preprocessing=preprocessing,
        translate=_translator(build),
        summary=f"Found in timm {timm.__version__}; the catalogue describes timm {made_for}.",
    )


def _translator(build: Callable[..., nn.Module]) -> Callable[..., Any] | None:
    """What timm passes files of such models through, by the name it usually has."""
    return getattr(sys.modules[build.__module__], "checkpoint_filter_fn", None)


def _width(head: nn.Module) -> int | None:
    return getattr(head, "in_features", None) or getattr(head, "in_channels", None)

"""The VGG networks, built by timm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import zoo

#: name -> (convolutions in each of the five blocks, parameters, GMACs)
FACTS: Final[dict[str, tuple[tuple[int, ...], int, float]]] = {
    "vgg11": ((1, 1, 2, 2, 2), 132_863_336, 7.609),
    "vgg11_bn": ((1, 1, 2, 2, 2), 132_868_840, 7.609),
    "vgg13": ((2, 2, 2, 2, 2), 133_047_848, 11.31),
    "vgg13_bn": ((2, 2, 2, 2, 2), 133_053_736, 11.31),
    "vgg16": ((2, 2, 3, 3, 3), 138_357_544, 15.47),
    "vgg16_bn": ((2, 2, 3, 3, 3), 138_365_992, 15.47),
    "vgg19": ((2, 2, 4, 4, 4), 143_667_240, 19.63),
    "vgg19_bn": ((2, 2, 4, 4, 4), 143_678_248, 19.63),
}


@zoo.hookimpl
def zoo_backbones() -> Iterator[zoo.Backbone]:
    preprocessing = zoo.Preprocessing(interpolation="bilinear")
    for name, (convolutions, params, gmacs) in FACTS.items():
        normed = name.endswith("_bn")
        yield zoo.Backbone(
            name=name,
            family="vgg",
            build=f"timm.models:{name}",
            num_features=4096,
            params=params,
            head="head.fc",
            options=("drop_rate", "global_pool"),
            preprocessing=preprocessing,
            translate="timm.models.vgg:_filter_fn",
            stages=_stages(convolutions, layers=3 if normed else 2),
            gmacs=gmacs,
            summary=f"{sum(convolutions) + 3} layers of 3x3 convolutions{' with batch normalisation' * normed}.",
            paper="Simonyan & Zisserman 2014, Very deep convolutional networks, arXiv:1409.1556",
        )


def _stages(convolutions: tuple[int, ...], layers: int) -> dict[str, tuple[str, ...]]:
    """block1 to block5, each up to its max-pool, and the two fully connected layers; `layers` modules a convolution."""
    stages, index = {}, 0
    for number, count in enumerate(convolutions, start=1):
        size = count * layers + 1
        stages[f"block{number}"] = tuple(f"features.{i}" for i in range(index, index + size))
        index += size
    return {**stages, "pre_logits": ("pre_logits",)}

"""The residual networks for ImageNet, built by timm: ResNet, its "d" stem, ResNeXt and wide ResNet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import zoo

_RESNET: Final = "He et al. 2015, Deep residual learning for image recognition, arXiv:1512.03385"
_BAG: Final = "He et al. 2018, Bag of tricks for image classification, arXiv:1812.01187"
_RESNEXT: Final = "Xie et al. 2016, Aggregated residual transformations, arXiv:1611.05431"
_WIDE: Final = "Zagoruyko & Komodakis 2016, Wide residual networks, arXiv:1605.07146"

#: name -> (feature width, parameters, GMACs, paper, summary)
FACTS: Final[dict[str, tuple[int, int, float, str, str]]] = {
    "resnet18": (512, 11_689_512, 1.814, _RESNET, "18 layers, basic blocks."),
    "resnet18d": (512, 11_708_744, 2.054, _BAG, "18 layers, three 3x3 convolutions as stem, pooled shortcuts."),
    "resnet26": (2048, 15_995_176, 2.342, _RESNET, "26 layers, bottleneck blocks."),
    "resnet26d": (2048, 16_014_408, 2.582, _BAG, "26 layers, three 3x3 convolutions as stem, pooled shortcuts."),
    "resnet34": (512, 21_797_672, 3.664, _RESNET, "34 layers, basic blocks."),
    "resnet34d": (512, 21_816_904, 3.903, _BAG, "34 layers, three 3x3 convolutions as stem, pooled shortcuts."),
    "resnet50": (2048, 25_557_032, 4.089, _RESNET, "50 layers, bottleneck blocks."),
    "resnet50d": (2048, 25_576_264, 4.329, _BAG, "50 layers, three 3x3 convolutions as stem, pooled shortcuts."),
    "resnet101": (2048, 44_549_160, 7.801, _RESNET, "101 layers, bottleneck blocks."),
    "resnet101d": (
        2048,
        44_568_392,
        8.041,
        _BAG,
        "101 layers, three 3x3 convolutions as stem, pooled shortcuts.",
    ),
    "resnet152": (2048, 60_192_808, 11.51, _RESNET, "152 layers, bottleneck blocks."),
    "resnet152d": (
        2048,
        60_212_040,
        11.75,
        _BAG,
        "152 layers, three 3x3 convolutions as stem, pooled shortcuts.",
    ),
    "resnext50_32x4d": (2048, 25_028_904, 4.23, _RESNEXT, "50 layers, 32 groups of width 4."),
    "resnext101_32x8d": (2048, 88_791_336, 16.41, _RESNEXT, "101 layers, 32 groups of width 8."),
    "resnext101_64x4d": (2048, 83_455_272, 15.46, _RESNEXT, "101 layers, 64 groups of width 4."),
    "wide_resnet50_2": (2048, 68_883_240, 11.4, _WIDE, "50 layers, bottlenecks twice as wide."),
    "wide_resnet101_2": (2048, 126_886_696, 22.75, _WIDE, "101 layers, bottlenecks twice as wide."),
}


@zoo.hookimpl
def zoo_backbones() -> Iterator[zoo.Backbone]:
    preprocessing = zoo.Preprocessing()
    stages = {"stem": ("conv1", "bn1", "act1", "maxpool"), **{f"layer{n}": (f"layer{n}",) for n in (1, 2, 3, 4)}}
    for name, (num_features, params, gmacs, paper, summary) in FACTS.items():
        yield zoo.Backbone(
            name=name,
            family="resnet",
            build=f"timm.models:{name}",
            num_features=num_features,
            params=params,
            head="fc",
            options=("drop_rate", "drop_path_rate", "global_pool", "output_stride"),
            preprocessing=preprocessing,
            stages=stages,
            gmacs=gmacs,
            summary=summary,
            paper=paper,
        )

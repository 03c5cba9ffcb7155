"""The residual networks for CIFAR of He et al. 2015, section 4.2."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import zoo

#: depth -> (parameters, GMACs)
FACTS: Final = {
    20: (269_722, 0.04055),
    32: (464_154, 0.06886),
    44: (658_586, 0.09717),
    56: (853_018, 0.1255),
    110: (1_727_962, 0.2529),
}


@zoo.hookimpl
def zoo_backbones() -> Iterator[zoo.Backbone]:
    preprocessing = zoo.Preprocessing(input_size=(3, 32, 32), interpolation="bilinear", crop_pct=1.0)
    stages = {"stem": ("conv1", "bn1", "relu"), **{f"layer{n}": (f"layer{n}",) for n in (1, 2, 3)}}
    for depth, (params, gmacs) in FACTS.items():
        yield zoo.Backbone(
            name=f"cifar_resnet{depth}",
            family="cifar_resnet",
            build=f"zoo_plugins.backbones.cifar_resnet.network:cifar_resnet{depth}",
            num_features=64,
            params=params,
            input_size=(3, 32, 32),
            head="linear",
            preprocessing=preprocessing,
            stages=stages,
            gmacs=gmacs,
            summary=f"{depth} layers for 32x32 images; shortcuts without parameters (option A).",
            paper="He et al. 2015, Deep residual learning for image recognition, arXiv:1512.03385",
        )

"""Networks for rows of a table."""

from __future__ import annotations

from collections.abc import Iterable

import zoo


@zoo.hookimpl
def zoo_backbones() -> Iterable[zoo.Backbone]:
    """The residual network for tables."""
    yield zoo.Backbone(
        name="tabular_resnet",
        family="tabular",
        build="zoo_plugins.backbones.tabular.network:tabular_resnet",
        num_features=128,
        params=133_378,
        input_size=(3,),
        input="table",
        head="classifier",
        preprocessing=zoo.Preprocessing(kind="table", input_size=(3,)),
        stages={"stem": ("stem",), "block1": ("blocks.0",), "block2": ("blocks.1",), "norm": ("norm", "act")},
        summary="Two residual blocks of 128 for rows of a table; built for the numbers that the rows become.",
        paper="Gorishniy et al. 2021, Revisiting deep learning models for tabular data, arXiv:2106.11959",
    )

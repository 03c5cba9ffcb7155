"""lora: small low-rank changes of the weights, beside weights that stay as they are."""

from __future__ import annotations

from collections.abc import Iterable

import zoo


@zoo.hookimpl
def zoo_strategies() -> Iterable[zoo.Strategy]:
    """The strategy "lora"."""
    yield zoo.Strategy(
        name="lora",
        kind="gradient",
        make="zoo_plugins.strategies.lora.strategy:LoRA",
        options={
            **zoo.GRADIENT_OPTIONS,
            "label_smoothing": 0.0,
            "class_weight": None,
            "augment": None,
            "mixup": 0.0,
            "cutmix": 0.0,
            "rank": 8,
            "alpha": 16.0,
            "dropout": 0.0,
            "targets": "*",
            "init": "auto",
        },
        summary="Train low-rank changes of linear and convolution layers, and a head; the run can be saved tiny.",
        paper="Hu et al. 2021, LoRA: Low-rank adaptation of large language models, arXiv:2106.09685",
    )

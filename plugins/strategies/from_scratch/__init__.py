"""from-scratch: what the same network learns without transfer. The baseline that transfer has to beat."""

from __future__ import annotations

from collections.abc import Iterable

import zoo


@zoo.hookimpl
def zoo_strategies() -> Iterable[zoo.Strategy]:
    """The strategy "from-scratch"."""
    yield zoo.Strategy(
        name="from-scratch",
        kind="gradient",
        make="zoo_plugins.strategies.from_scratch.strategy:FromScratch",
        needs=("random-weights",),
        options={
            "recipe": "default",
            "epochs": "recipe",
            "batch_size": 32,
            "lr": "recipe",
            "weight_decay": "recipe",
            "optimizer": "recipe",
            "momentum": "recipe",
            "schedule": "recipe",
            "clip": "recipe",
            "head": "linear",
            "accumulate": 1,
            "ema": None,
            "early_stop": None,
            "label_smoothing": 0.0,
            "class_weight": None,
            "augment": None,
            "mixup": 0.0,
            "cutmix": 0.0,
        },
        summary="Train every weight from random values: the baseline that transfer has to beat.",
    )

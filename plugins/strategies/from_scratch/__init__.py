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
            "epochs": None,
            "batch_size": 32,
            "lr": 1e-3,
            "weight_decay": 0.01,
            "optimizer": "adamw",
            "momentum": 0.9,
            "schedule": "cosine",
            "clip": 1.0,
            "head": "linear",
            "label_smoothing": 0.0,
        },
        summary="Train every weight from random values: the baseline that transfer has to beat.",
    )

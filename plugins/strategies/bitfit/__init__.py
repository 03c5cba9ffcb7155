"""bitfit: only biases are trained, and the head."""

from __future__ import annotations

from collections.abc import Iterable

import zoo


@zoo.hookimpl
def zoo_strategies() -> Iterable[zoo.Strategy]:
    """The strategy "bitfit"."""
    yield zoo.Strategy(
        name="bitfit",
        kind="gradient",
        make="zoo_plugins.strategies.bitfit.strategy:BitFit",
        options={
            **zoo.GRADIENT_OPTIONS,
            "label_smoothing": 0.0,
            "class_weight": None,
            "augment": None,
            "mixup": 0.0,
            "cutmix": 0.0,
            "init": "auto",
        },
        summary="Train the biases alone, those of BatchNorm included, and a head; the run can be saved tiny.",
        paper="Ben Zaken, Ravfogel & Goldberg 2022, BitFit, arXiv:2106.10199",
    )

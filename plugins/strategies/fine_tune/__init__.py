"""fine-tune: a head from the closed-form probe, then all weights, gently."""

from __future__ import annotations

from collections.abc import Iterable

import zoo


@zoo.hookimpl
def zoo_strategies() -> Iterable[zoo.Strategy]:
    """The strategy "fine-tune"."""
    yield zoo.Strategy(
        name="fine-tune",
        kind="gradient",
        make="zoo_plugins.strategies.fine_tune.strategy:FineTune",
        options={
            "freeze": "none",
            "unfreeze": "at-once",
            "cache": True,
            "layer_decay": 0.8,
            "init": "auto",
            "batchnorm": "auto",
            "epochs": None,
            "batch_size": 32,
            "lr": None,
            "weight_decay": 0.01,
            "optimizer": "adamw",
            "momentum": 0.9,
            "schedule": "cosine",
            "clip": 1.0,
            "head": "linear",
            "accumulate": 1,
            "ema": None,
            "early_stop": None,
            "label_smoothing": 0.0,
            "class_weight": None,
            "augment": None,
            "mixup": 0.0,
            "cutmix": 0.0,
            "l2_sp": 0.0,
            "wise": None,
        },
        summary="Train the weights further, from a head that the linear probe found (LP-FT).",
        paper="Kumar et al. 2022, Fine-tuning can distort pretrained features, arXiv:2202.10054",
    )

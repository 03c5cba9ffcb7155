"""dann: features that a domain classifier cannot tell apart."""

from __future__ import annotations

from collections.abc import Iterable

import zoo


@zoo.hookimpl
def zoo_strategies() -> Iterable[zoo.Strategy]:
    """The strategy "dann"."""
    yield zoo.Strategy(
        name="dann",
        kind="gradient",
        make="zoo_plugins.strategies.dann.strategy:DANN",
        needs=("target",),
        options={
            **zoo.GRADIENT_OPTIONS,
            "lr": None,
            "strength": 1.0,
            "gamma": 10.0,
            "hidden": 128,
            "freeze": "none",
            "unfreeze": "at-once",
            "layer_decay": 1.0,
            "init": "auto",
            "batchnorm": "auto",
        },
        summary="Train features that tell classes apart and labelled from unlabelled domain not; it can hurt.",
        paper="Ganin et al. 2016, Domain-adversarial training of neural networks, arXiv:1505.07818",
    )

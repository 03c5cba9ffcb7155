"""linear-probe: the best head on features that stay as they are, computed once."""

from __future__ import annotations

from collections.abc import Iterable

import zoo


@zoo.hookimpl
def zoo_strategies() -> Iterable[zoo.Strategy]:
    """The strategy "linear-probe"."""
    yield zoo.Strategy(
        name="linear-probe",
        kind="closed-form",
        make="zoo_plugins.strategies.linear_probe.strategy:LinearProbe",
        options={
            "head": "linear",
            "regularizer": "auto",
            "class_weight": None,
            "floor": None,
            "epochs": None,
            "lr": None,
            "calibrate": None,
            "views": 1,
        },
        summary="Solve for the head on frozen features: logistic or ridge regression; or train an mlp(N) on them.",
        paper="Alain and Bengio 2016, Understanding intermediate layers using linear classifier probes",
    )

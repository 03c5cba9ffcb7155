"""coral: features of the labelled rows take on the mean and covariance of the target's, then the linear probe."""

from __future__ import annotations

from collections.abc import Iterable

import zoo


@zoo.hookimpl
def zoo_strategies() -> Iterable[zoo.Strategy]:
    """The strategy "coral"."""
    yield zoo.Strategy(
        name="coral",
        kind="closed-form",
        make="zoo_plugins.strategies.coral.strategy:Coral",
        needs=("target",),
        options={
            "head": "linear",
            "regularizer": "auto",
            "class_weight": None,
            "floor": None,
            "epochs": None,
            "lr": None,
            "calibrate": None,
            "views": 1,
            "shrinkage": 1.0,
        },
        summary="Align the features with those of unlabelled target data (mean and covariance), then linear-probe.",
        paper="Sun, Feng and Saenko 2016, Return of frustratingly easy domain adaptation, arXiv:1511.05547",
    )

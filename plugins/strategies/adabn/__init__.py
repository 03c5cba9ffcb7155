"""adabn: BatchNorm statistics of the target's domain, and the linear probe."""

from __future__ import annotations

from collections.abc import Iterable

import zoo


@zoo.hookimpl
def zoo_strategies() -> Iterable[zoo.Strategy]:
    """The strategy "adabn"."""
    yield zoo.Strategy(
        name="adabn",
        kind="closed-form",
        make="zoo_plugins.strategies.adabn.strategy:AdaBN",
        needs=("target", "batchnorm"),
        options={
            "head": "linear",
            "regularizer": "auto",
            "class_weight": None,
            "floor": None,
            "epochs": None,
            "lr": None,
            "calibrate": None,
            "views": 1,
            "rows": 512,
        },
        summary="Give BatchNorm the statistics of unlabelled target data, then linear-probe.",
        paper="Li et al. 2016, Revisiting batch normalization for practical domain adaptation, arXiv:1603.04779",
    )

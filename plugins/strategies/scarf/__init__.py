"""scarf: learn from rows without labels, by telling a row with changed cells from all others."""

from __future__ import annotations

from collections.abc import Iterable

import zoo


@zoo.hookimpl
def zoo_strategies() -> Iterable[zoo.Strategy]:
    """The strategy "scarf"."""
    yield zoo.Strategy(
        name="scarf",
        kind="gradient",
        make="zoo_plugins.strategies.scarf.strategy:Scarf",
        needs=("unlabelled",),
        options={
            **zoo.GRADIENT_OPTIONS,
            "batch_size": 128,
            "corruption": 0.6,
            "temperature": 1.0,
        },
        summary="Learn from rows without labels: a row with changed cells is told from all others; then a probe.",
        paper="Bahri et al. 2022, SCARF: self-supervised contrastive learning using random feature corruption, "
        "arXiv:2106.15147",
    )

"""knn: the nearest training rows vote."""

from __future__ import annotations

from collections.abc import Iterable

import zoo


@zoo.hookimpl
def zoo_strategies() -> Iterable[zoo.Strategy]:
    """The strategy "knn"."""
    yield zoo.Strategy(
        name="knn",
        kind="closed-form",
        make="zoo_plugins.strategies.knn.strategy:KNearest",
        options={"k": 20, "temperature": 0.07},
        summary="Let the k most similar training rows vote, by cosine similarity; nothing is learned.",
        paper="Wu et al. 2018, Unsupervised feature learning via non-parametric instance discrimination",
    )

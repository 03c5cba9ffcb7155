"""A plugin of tiny backbones for tests: one for pictures, and one of two tensors, so that nothing assumes pixels."""

from __future__ import annotations

from collections.abc import Iterable

from zoo.catalog.hookspecs import hookimpl
from zoo.catalog.spec import Backbone, Preprocessing


@hookimpl
def zoo_backbones() -> Iterable[Backbone]:
    """`tiny` eats 3 x 8 x 8 pictures; `tiny_pair` eats token ids (N, 6) and a mask (N, 6)."""
    yield Backbone(
        name="tiny",
        family="tiny",
        build="zoo.testing.networks:Tiny",
        num_features=8,
        params=930,
        input_size=(3, 8, 8),
        head="classifier",
        preprocessing=Preprocessing(
            input_size=(3, 8, 8), mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bilinear", crop_pct=1.0
        ),
        summary="Two convolutions with BatchNorm and a linear classifier.",
    )
    yield Backbone(
        name="tiny_pair",
        family="tiny",
        build="zoo.testing.networks:TinyPair",
        num_features=8,
        params=346,
        input_size=(6,),
        input="tokens",
        head="classifier",
        preprocessing=Preprocessing(kind="tensor", input_size=(6,)),
        summary="An embedding, averaged under a mask, and a linear classifier.",
    )

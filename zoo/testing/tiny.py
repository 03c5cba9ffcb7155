"""A plugin of tiny backbones for tests, one for each shape of input, so that nothing assumes pixels."""

from __future__ import annotations

from collections.abc import Iterable

from zoo.catalog.hookspecs import hookimpl
from zoo.catalog.spec import Backbone, Preprocessing


@hookimpl
def zoo_backbones() -> Iterable[Backbone]:
    """`tiny` eats pictures (N, 3, 8, 8); `tiny_pair` two tensors, token ids and a mask, both (N, 6); `tiny_wave` sound
    (N, 1, 64); `tiny_table` rows of a table (N, 5). `tiny_sound` hears recordings, as log-mel pictures;
    `tiny_text` reads texts as their bytes, and `tiny_rows` eats rows of a table by the names of their columns."""
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
        name="tiny_sound",
        family="tiny",
        build="zoo.testing.networks:Tiny",
        num_features=8,
        params=930,
        input_size=(3, 8, 8),
        input="audio",
        head="classifier",
        preprocessing=Preprocessing(
            kind="audio", input_size=(3, 8, 8), mean=(0.5,) * 3, std=(0.5,) * 3, extra={"bands": 16}
        ),
        summary="The network of `tiny`, given recordings.",
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
    yield Backbone(
        name="tiny_text",
        family="tiny",
        build="zoo.testing.networks:TinyText",
        num_features=8,
        params=2226,
        input_size=(48,),
        input="text",
        head="classifier",
        preprocessing=Preprocessing(kind="text", input_size=(48,), extra={"tokenizer": "bytes"}),
        summary="An embedding of bytes, a layer, averaged under a mask, and a linear classifier.",
    )
    yield Backbone(
        name="tiny_wave",
        family="tiny",
        build="zoo.testing.networks:TinyWave",
        num_features=8,
        params=170,
        input_size=(1, 64),
        input="audio",
        head="classifier",
        preprocessing=Preprocessing(kind="tensor", input_size=(1, 64)),
        summary="A convolution over time, averaged, and a linear classifier.",
    )
    yield Backbone(
        name="tiny_table",
        family="tiny",
        build="zoo.testing.networks:TinyTable",
        num_features=8,
        params=138,
        input_size=(5,),
        input="table",
        head="classifier",
        preprocessing=Preprocessing(kind="tensor", input_size=(5,)),
        summary="A hidden layer and a linear classifier.",
    )
    yield Backbone(
        name="tiny_rows",
        family="tiny",
        build="zoo.testing.networks:TinyRows",
        num_features=8,
        params=122,
        input_size=(3,),
        input="table",
        head="classifier",
        preprocessing=Preprocessing(kind="table", input_size=(3,)),
        summary="A hidden layer and a linear classifier, for as many numbers as a row becomes.",
    )

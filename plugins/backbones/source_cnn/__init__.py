"""The source network of the article that the zoo implements: two convolutions and 1024 features."""

from __future__ import annotations

from collections.abc import Iterator

import zoo


@zoo.hookimpl
def zoo_backbones() -> Iterator[zoo.Backbone]:
    yield zoo.Backbone(
        name="source_cnn",
        family="source_cnn",
        build="zoo_plugins.backbones.source_cnn.network:source_cnn",
        num_features=1024,
        params=6_509_450,
        input_size=(3, 28, 28),
        head="classifier",
        preprocessing=zoo.Preprocessing(
            input_size=(3, 28, 28),
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            interpolation="bilinear",
            crop_pct=1.0,
        ),
        stages={
            "conv1": ("conv1", "relu1", "pool1"),
            "conv2": ("conv2", "relu2", "pool2"),
            "fc1": ("flatten", "fc1", "relu3"),
        },
        gmacs=0.02224,
        summary="The article's small CNN for 28x28 images; its target network is the head mlp(512).",
    )

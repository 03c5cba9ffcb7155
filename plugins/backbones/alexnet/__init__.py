"""AlexNet, as an example of a backbone plugin with a network of its own."""

from __future__ import annotations

from collections.abc import Iterator

import zoo


@zoo.hookimpl
def zoo_backbones() -> Iterator[zoo.Backbone]:
    yield zoo.Backbone(
        name="alexnet",
        family="alexnet",
        build="zoo_plugins.backbones.alexnet.network:alexnet",
        num_features=4096,
        params=61_100_840,
        head="classifier.6",
        options=("dropout",),
        preprocessing=zoo.Preprocessing(interpolation="bilinear"),
        stages={
            "conv1": ("features.0", "features.1", "features.2"),
            "conv2": ("features.3", "features.4", "features.5"),
            "conv3": ("features.6", "features.7"),
            "conv4": ("features.8", "features.9"),
            "conv5": ("features.10", "features.11", "features.12", "avgpool"),
            "fc6": ("classifier.0", "classifier.1", "classifier.2"),
            "fc7": ("classifier.3", "classifier.4", "classifier.5"),
        },
        gmacs=0.7142,
        summary="Five convolutions and three fully connected layers: the network that began deep transfer learning.",
        paper="Krizhevsky 2014, One weird trick for parallelizing convolutional neural networks, arXiv:1404.5997",
    )

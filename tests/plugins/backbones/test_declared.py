"""What the curated plugins' builders take. What they declare is held to the contract in `tests/plugins`."""

from __future__ import annotations

import pytest
import torch
from zoo_plugins.backbones import alexnet, cifar_resnet, resnet, source_cnn, vgg

import zoo
from zoo.catalog.targets import load
from zoo.models.network import Network

SPECS = [spec for plugin in (alexnet, cifar_resnet, resnet, source_cnn, vgg) for spec in plugin.zoo_backbones()]
ONE_EACH = [
    spec
    for spec in SPECS
    if spec.name in {"alexnet", "cifar_resnet20", "resnet18", "resnet50d", "source_cnn", "vgg11", "vgg13_bn"}
]
#: A value other than the default for each option a curated backbone takes.
VALUES = {"dropout": 0.1, "drop_rate": 0.1, "drop_path_rate": 0.1, "global_pool": "avgmax", "output_stride": 16}


@pytest.mark.parametrize("spec", ONE_EACH, ids=lambda spec: spec.name)
def test_builders_take_their_options_and_no_classes(spec: zoo.Backbone) -> None:
    build = load(spec.build)
    with torch.device("meta"):
        for option in spec.options:
            build(num_classes=10, in_chans=3, **{option: VALUES[option]})
        headless = build(num_classes=0, in_chans=3).eval()
        image = torch.empty(2, *spec.input_size)
    assert headless(image).shape == (2, spec.num_features)
    assert Network(headless, spec).features(image).shape == (2, spec.num_features)


def test_every_curated_backbone_says_all_there_is_to_say() -> None:
    assert len({spec.name for spec in SPECS}) == len(SPECS) == 32
    for spec in SPECS:
        assert spec.stages, spec.name
        assert spec.head, spec.name
        assert spec.gmacs, spec.name
        assert spec.preprocessing, spec.name

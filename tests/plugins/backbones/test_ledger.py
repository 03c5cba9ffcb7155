"""The registry file that the zoo ships."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from torchvision.models import AlexNet_Weights
from zoo_plugins.backbones import alexnet, cifar_resnet, resnet, source_cnn, vgg
from zoo_plugins.backbones.timm import catalogue

import zoo
from zoo.catalog import ledger

SPECS = {
    spec.name: spec for plugin in (alexnet, cifar_resnet, resnet, source_cnn, vgg) for spec in plugin.zoo_backbones()
}
TIMM = {weights.name: weights for weights in catalogue.read().weights()}


@pytest.fixture(scope="module")
def shipped() -> dict[str, zoo.Weights]:
    path = Path(__file__).parents[3] / "registry.toml"
    return dict(ledger.read(path, "shipped").weights)


def test_every_entry_is_for_a_curated_backbone_and_complete(shipped: dict[str, zoo.Weights]) -> None:
    assert len(shipped) >= 40
    for weights in shipped.values():
        assert weights.backbone in SPECS
        assert weights.license in ("bsd-3-clause", "apache-2.0")
        assert weights.trained_on == "imagenet-1k"
        assert weights.num_classes == 1000
        assert 50 < weights.metrics["top1"] < 90


def test_every_imagenet_backbone_has_one_default(shipped: dict[str, zoo.Weights]) -> None:
    defaults = [weights.backbone for weights in shipped.values() if weights.default]
    assert sorted(defaults) == sorted(name for name, spec in SPECS.items() if spec.input_size[1] == 224)


def test_pins_are_whole(shipped: dict[str, zoo.Weights]) -> None:
    for weights in shipped.values():
        if weights.source.startswith("hf://"):
            revision = re.fullmatch(
                rf"hf://timm/{weights.name}@(main|[0-9a-f]{{40}})/model\.safetensors", weights.source
            )
            assert (revision[1] != "main") == (weights.sha256 is not None)
    assert sum(weights.sha256 is not None for weights in shipped.values()) >= 4


def test_entries_agree_with_timm(shipped: dict[str, zoo.Weights]) -> None:
    for name, weights in shipped.items():
        if name.startswith("alexnet"):
            continue
        theirs = TIMM[name]
        for key in ("license", "trained_on", "num_classes", "metrics", "preprocessing", "options"):
            assert getattr(weights, key) == getattr(theirs, key), (name, key)
        if weights.default:
            assert theirs.default


def test_alexnet_is_torchvisions(shipped: dict[str, zoo.Weights]) -> None:
    weights, theirs = shipped["alexnet.tv_in1k"], AlexNet_Weights.IMAGENET1K_V1
    assert weights.source == theirs.url
    assert weights.source.endswith(f"-{weights.sha256_prefix}.pth")
    assert weights.metrics["top1"] == theirs.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    transform = theirs.transforms()
    assert list(weights.preprocessing.mean) == transform.mean
    assert list(weights.preprocessing.std) == transform.std
    assert weights.preprocessing.interpolation == transform.interpolation.value
    assert weights.preprocessing.crop_pct == transform.crop_size[0] / transform.resize_size[0]

"""The registry file that the zoo ships."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torchvision
from torchvision.models import get_model_weights
from zoo_plugins.backbones import alexnet, cifar_resnet, resnet, source_cnn, transformers, vgg
from zoo_plugins.backbones.timm import catalogue

import zoo
from zoo.catalog import ledger

SPECS = {
    spec.name: spec for plugin in (alexnet, cifar_resnet, resnet, source_cnn, vgg) for spec in plugin.zoo_backbones()
}
TEXTS = {spec.name for spec in transformers.zoo_backbones()}
TIMM = {weights.name: weights for weights in catalogue.read().weights()}


@pytest.fixture(scope="module")
def shipped() -> dict[str, zoo.Weights]:
    """Weights of backbones for pictures."""
    return {name: weights for name, weights in everything().items() if weights.backbone not in TEXTS}


def everything() -> dict[str, zoo.Weights]:
    return dict(ledger.read(Path(__file__).parents[3] / "registry.toml", "shipped").weights)


def test_every_entry_for_texts_is_pinned_with_its_tokenizer() -> None:
    found = [weights for weights in everything().values() if weights.backbone in TEXTS]
    assert len(found) >= 1
    for weights in found:
        assert weights.default
        assert weights.license == "apache-2.0"
        assert weights.preprocessing.kind == "text"
        assert re.fullmatch(r"hf://[^@]+@[0-9a-f]{40}/model\.safetensors", weights.source)
        assert weights.sha256 is not None
        (tokenizer,) = weights.files
        assert tokenizer["role"] == "tokenizer"
        assert re.fullmatch(r"[0-9a-f]{64}", tokenizer["sha256"])
        assert tokenizer["source"].rpartition("/")[0] == weights.source.rpartition("/")[0]


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
        if not weights.source.startswith("hf://"):
            continue
        theirs = TIMM[name]
        for key in ("license", "trained_on", "num_classes", "metrics", "preprocessing", "options"):
            assert getattr(weights, key) == getattr(theirs, key), (name, key)
        if weights.default:
            assert theirs.default


def test_entries_agree_with_torchvision(shipped: dict[str, zoo.Weights]) -> None:
    theirs = {
        member.url: (name, member) for name in torchvision.models.list_models() for member in get_model_weights(name)
    }
    ours = [weights for weights in shipped.values() if not weights.source.startswith("hf://")]
    assert len(ours) >= 25
    for weights in ours:
        name, member = theirs[weights.source]
        assert name == weights.backbone
        assert weights.source.endswith(f"-{weights.sha256_prefix}.pth")
        assert weights.metrics["top1"] == member.meta["_metrics"]["ImageNet-1K"]["acc@1"]
        assert member.meta["num_params"] == SPECS[name].params
        transform = member.transforms()
        size = SPECS[name].input_size[0], *transform.crop_size * 2
        prepared = weights.preprocessing
        assert (prepared.input_size, list(prepared.mean), list(prepared.std)) == (size, transform.mean, transform.std)
        assert prepared.interpolation == transform.interpolation.value
        assert math.floor(size[1] / prepared.crop_pct) == transform.resize_size[0]

"""bitfit: which tensors are biases, that nothing else moves, and what a run keeps."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from tuning_kit import context
from zoo_plugins.strategies.bitfit.strategy import Biases, BitFit, biases

import zoo
from zoo.adapt.heads import build_head
from zoo.adapt.strategy import Model
from zoo.catalog.registry import default
from zoo.catalog.targets import load
from zoo.errors import UsageError
from zoo.models.network import Network
from zoo.testing.networks import Tiny


def test_the_spec_tells_the_truth() -> None:
    spec = default().strategy("bitfit")
    assert dict(spec.options) == {field.name: field.default for field in dataclasses.fields(load(spec.make))}


class TestBiases:
    def test_batchnorm_in_a_convolutional_network(self) -> None:
        assert list(biases(Network(Tiny()))) == ["conv.bias", "norm.bias", "layer1.1.bias", "layer1.2.bias"]
        assert list(biases(Network(Tiny(), tap="stem"))) == ["conv.bias", "norm.bias"]
        network = Network(_built("cifar_resnet20"))
        found = biases(network)
        assert len(found) == 19  # one BatchNorm behind each of the 19 convolutions, which have no bias
        assert all(isinstance(network.get_submodule(name.rpartition(".")[0]), nn.BatchNorm2d) for name in found)

    def test_a_transformer(self) -> None:
        import timm

        found = biases(Network(timm.create_model("test_vit", num_classes=3, img_size=32)))
        assert {"patch_embed.proj.bias", "blocks.0.norm1.bias", "blocks.0.attn.qkv.bias", "norm.bias"} <= set(found)
        assert not any("head" in name for name in found)

    def test_attention_of_torch(self) -> None:
        module = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Linear(8, 2))
        assert {"0.self_attn.in_proj_bias", "0.self_attn.out_proj.bias"} <= set(biases(Network(module)))

    def test_none(self) -> None:
        module = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.Flatten(), nn.Linear(4, 2))
        made = Model(Network(module), build_head("linear", 4, 2))
        with pytest.raises(UsageError, match="no biases") as caught:
            BitFit().prepare(made, context())
        assert "lora" in caught.value.hint


def _built(name: str) -> nn.Module:
    return zoo.load_backbone(name, weights=None).module


def test_the_change_is_exact() -> None:
    torch.manual_seed(0)
    made = Model(Network(Tiny()), build_head("linear", 8, 3)).eval()
    strategy = BitFit(init="random")
    made.extras["bitfit"] = strategy.prepare(made, context())["bitfit"].eval()
    x = torch.randn(4, 3, 8, 8)
    assert torch.equal(made.features(x), made.backbone.features(x))
    learned = made.extras["bitfit"]
    assert isinstance(learned, Biases)
    with torch.no_grad():
        for value in learned.parameters():
            value.add_(torch.randn_like(value))
    found = made.features(x)
    assert not torch.allclose(found, made.backbone.features(x), atol=0.1)
    strategy.finish(made, context())
    assert not made.extras
    assert torch.equal(made.backbone.features(x), found)


@pytest.mark.usefixtures("tiny_plugin")
def test_composed(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    random = np.random.default_rng(1)
    y = np.arange(60) % 3
    x = (np.eye(3)[y][:, None, None, :] * 120 + random.integers(0, 130, (60, 8, 8, 3))).astype(np.uint8)
    zoo.compose("tiny", "from-scratch", precision="fp32", epochs=5, lr=1e-2).fit((x, y)).publish("tiny.colours")
    learner = zoo.compose("tiny.colours", "bitfit", precision="fp32", epochs=8, lr=1e-2).fit((x, y))
    assert learner.history[-1]["loss"] < learner.history[0]["loss"]
    assert learner.record["trainable_params"] == 4 * 8 + 27
    source = learner.source.network().state_dict()
    changed = {n for n, tensor in learner.model.backbone.state_dict().items() if not torch.equal(tensor, source[n])}
    assert changed == {"conv.bias", "norm.bias", "layer1.1.bias", "layer1.2.bias"}
    run = learner.save(tmp_path / "small", embed=False)
    kept = load_file(run / "model.safetensors")
    assert set(kept) == {f"backbone.{name}" for name in changed} | {"head.weight", "head.bias"}
    assert sum(tensor.numel() for tensor in kept.values()) == 59
    np.testing.assert_array_equal(zoo.load(run).predict_proba(x), learner.predict_proba(x))

"""lora: the algebra against numpy and torch's own layers, what stays, and what a run keeps."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tuning_kit import TASKS, batch, context, model, targets
from zoo_plugins.strategies.lora.adapters import Adapters
from zoo_plugins.strategies.lora.layers import Layer, choose, layers_of
from zoo_plugins.strategies.lora.strategy import LoRA

import zoo
from zoo.adapt.heads import build_head
from zoo.adapt.inner import inner_loss
from zoo.adapt.solve import solve_head
from zoo.adapt.strategy import Model
from zoo.adapt.training import train
from zoo.catalog.registry import default
from zoo.catalog.targets import load
from zoo.data import loading
from zoo.data.task import CLASSES
from zoo.errors import UsageError
from zoo.models.network import Network
from zoo.testing.networks import Tiny


def randomised(adapters: Adapters, seed: int = 4) -> Adapters:
    """As if it had learned something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return adapters


class Around(nn.Module):
    """One layer and a classifier."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        found = self.layer(x)
        return self.head(found if found.ndim == 2 else found.flatten(2).mean(dim=2))


def adapted(layer: nn.Module, x: Tensor, **options: Any) -> tuple[Model, LoRA]:
    """A model with fresh adapters."""
    width = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    torch.manual_seed(0)
    made = Model(Network(Around(layer, width), head="head"), build_head("linear", width, 3)).eval()
    strategy = LoRA(init="random", **options)
    for name, extra in strategy.prepare(made, context()).items():
        made.extras[name] = extra.eval()
    return made, strategy


LAYERS = {
    "linear": (nn.Linear(12, 10), (5, 12)),
    "no bias": (nn.Linear(12, 10, bias=False), (5, 12)),
    "1d": (nn.Conv1d(6, 8, 5, stride=2, padding=2, dilation=2), (5, 6, 30)),
    "2d": (nn.Conv2d(6, 8, 3), (5, 6, 9, 9)),
    "3d": (nn.Conv3d(4, 8, 3, padding=1), (2, 4, 5, 5, 5)),
    "stride": (nn.Conv2d(6, 8, 3, stride=(2, 3), padding=(1, 2)), (5, 6, 9, 9)),
    "dilation": (nn.Conv2d(6, 8, (3, 2), dilation=(2, 1), bias=False), (5, 6, 9, 9)),
    "same": (nn.Conv2d(6, 8, 5, padding="same", dilation=2), (5, 6, 9, 9)),
    "reflect": (nn.Conv2d(6, 8, 3, padding=1, padding_mode="reflect"), (5, 6, 9, 9)),
    "circular": (nn.Conv2d(6, 8, 3, padding=2, padding_mode="circular"), (5, 6, 9, 9)),
    "replicate": (nn.Conv2d(6, 8, 3, padding=1, padding_mode="replicate", groups=2), (5, 6, 9, 9)),
    "groups": (nn.Conv2d(6, 9, 3, groups=3, padding=1), (5, 6, 9, 9)),
    "pointwise": (nn.Conv2d(12, 10, 1), (5, 12, 9, 9)),
}


class TestLayers:
    @pytest.mark.parametrize("kind", LAYERS)
    def test_step_0_is_the_network_itself_to_the_bit(self, kind: str) -> None:
        layer, shape = LAYERS[kind]
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        made, _ = adapted(layer, x)
        assert torch.equal(made.features(x), made.backbone.features(x))

    @pytest.mark.parametrize("kind", LAYERS)
    def test_a_change_is_the_two_layers_of_the_article_and_can_be_merged(self, kind: str) -> None:
        """The oracle runs `down` as a layer with the same stride, padding and groups, and `up` behind it."""
        layer, shape = LAYERS[kind]
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        made, strategy = adapted(layer, x, rank=2, alpha=6.0)
        adapters = randomised(made.extras["lora"])
        weight = layer.weight.detach().clone()
        groups = getattr(layer, "groups", 1)
        with torch.no_grad():
            found = made.features(x)
            down, up = adapters.down0, adapters.up0
            if isinstance(layer, nn.Linear):
                branch = x @ down[0].T @ up[0].T
            else:
                same = ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
                first = type(layer)(
                    layer.in_channels, groups * 2, bias=False, **{name: getattr(layer, name) for name in same}
                )
                first.weight.copy_(down.reshape(first.weight.shape))
                parts = first(x).chunk(groups, dim=1)
                branch = torch.cat([torch.einsum("or,nr...->no...", up[g], parts[g]) for g in range(groups)], dim=1)
            expected = layer(x) + 3.0 * branch
            expected = expected if expected.ndim == 2 else expected.flatten(2).mean(dim=2)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
            assert torch.equal(layer.weight, weight)
            strategy.finish(made, context())
            torch.testing.assert_close(made.backbone.features(x), found, rtol=1e-5, atol=1e-5)
            assert not torch.allclose(layer.weight, weight)
            layer.weight.copy_(weight)
        assert not made.extras

    @pytest.mark.parametrize("name", ["Conv2dSame", "ScaledStdConv2d", "ScaledStdConv2dSame", "StdConv2d"])
    def test_layers_that_do_something_else_with_their_weight(self, name: str) -> None:
        """TensorFlow's padding, and weights that are standardised first: no branch beside such a layer is right."""
        import timm.layers

        torch.manual_seed(0)
        layer = getattr(timm.layers, name)(6, 8, 3, stride=2)
        x = torch.randn(5, 6, 9, 9)
        made, strategy = adapted(layer.eval(), x, rank=2)
        assert torch.equal(made.features(x), made.backbone.features(x))
        randomised(made.extras["lora"])
        before = made.backbone.features(x)
        found = made.features(x)
        strategy.finish(made, context())
        torch.testing.assert_close(made.backbone.features(x), found, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(before, found, atol=1e-3)

    def test_gradients(self) -> None:
        """Against finite differences in float64, through a grouped convolution."""
        torch.manual_seed(0)
        layer = nn.Conv2d(4, 6, 3, groups=2, padding=1, stride=2).double()
        x = torch.randn(2, 4, 6, 6, dtype=torch.float64)
        made, _ = adapted(layer, x, rank=2)
        made = made.double()
        adapters = randomised(made.extras["lora"])
        layer.weight.requires_grad_(False)

        def run(down: Tensor, up: Tensor) -> Tensor:
            return torch.func.functional_call(made, {"extras.lora.down0": down, "extras.lora.up0": up}, (x,))

        assert torch.autograd.gradcheck(run, (adapters.down0, adapters.up0))


class TestChoice:
    def test_every_layer_before_the_tap(self) -> None:
        network = Network(Tiny())
        assert list(layers_of(network, 4)) == ["conv", "layer1.1"]
        assert list(layers_of(Network(Tiny(), tap="stem"), 4)) == ["conv"]

    def test_rank_and_size(self) -> None:
        network = Network(Tiny())
        chosen = choose(network, "*", 4).layers
        assert chosen == (Layer("conv.weight", 1, 8, 27, 4), Layer("layer1.1.weight", 1, 8, 72, 4))
        made = Adapters(chosen, alpha=8.0)
        assert sum(p.numel() for p in made.parameters()) == 4 * (8 + 27) + 4 * (8 + 72)

    def test_a_rank_that_saves_nothing_is_lowered(self) -> None:
        for layer in choose(Network(Tiny()), "*", 1000).layers:
            assert layer.rank * (layer.rows + layer.columns) < layer.rows * layer.columns
            assert (layer.rank + 1) * (layer.rows + layer.columns) >= layer.rows * layer.columns

    def test_depthwise_convolutions_are_left_out_and_said(self) -> None:
        module = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(), nn.Linear(8, 2))
        chosen = choose(Network(module), "*", 4)
        assert [layer.weight for layer in chosen.layers] == ["0.weight"]
        assert "leaves 1 of 2 layers" in chosen.notes[0]
        with pytest.raises(UsageError, match="low rank") as caught:
            choose(Network(module), "1", 4)
        assert "1" in caught.value.why

    def test_weights_that_are_held_otherwise_are_left_out_and_said(self) -> None:
        class Mixed(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.embed, self.attention = nn.Linear(6, 8), nn.MultiheadAttention(8, 2, batch_first=True)
                self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
                self.head = nn.Linear(8, 2)

            def forward(self, x: Tensor) -> Tensor:
                x = self.embed(x)
                return self.head(self.normed(self.attention(x, x, x)[0]).mean(dim=1))

        network = Network(Mixed(), head="head")
        chosen = choose(network, "*", 2)
        assert [layer.weight for layer in chosen.layers] == ["embed.weight", "attention.out_proj.weight"]
        (note,) = chosen.notes
        for name in ("attention.in_proj_weight", "normed.parametrizations.weight.original1"):
            assert name in dict(network.named_parameters())
            assert name in note
        assert "original0" not in note  # lengths, no matrix
        assert "out_proj" not in note
        assert not choose(network, "embed", 2).notes  # it was not asked for
        assert not choose(Network(Tiny()), "*", 2).notes

    def test_globs(self) -> None:
        assert [one.weight for one in choose(Network(Tiny()), " layer1.* ", 2).layers] == ["layer1.1.weight"]
        assert len(choose(Network(Tiny()), "conv, layer1.1", 2).layers) == 2
        with pytest.raises(UsageError, match="'fc\\*' names no linear") as caught:
            choose(Network(Tiny()), "conv,fc*", 2)
        assert "conv, layer1.1" in caught.value.hint

    def test_a_transformer_with_fused_qkv(self) -> None:
        import timm

        torch.manual_seed(0)
        network = Network(timm.create_model("test_vit", num_classes=3, img_size=32)).eval()
        chosen = choose(network, "*.qkv,*.proj", 2).layers
        qkv = [layer for layer in chosen if "qkv" in layer.weight]
        assert qkv
        assert all(layer.rows == 3 * layer.columns for layer in qkv)
        made = Model(network, build_head("linear", network.num_features, 3)).eval()
        strategy = LoRA(rank=2, targets="*.qkv,*.proj", init="random")
        made.extras["lora"] = strategy.prepare(made, context())["lora"].eval()
        x = torch.randn(2, 3, 32, 32)
        assert torch.equal(made(x), made.head(network.features(x)))
        randomised(made.extras["lora"])
        found = made(x)
        strategy.finish(made, context())
        torch.testing.assert_close(made(x), found, rtol=1e-5, atol=1e-5)


class TestOptions:
    def test_the_spec_tells_the_truth(self) -> None:
        spec = default().strategy("lora")
        assert dict(spec.options) == {field.name: field.default for field in dataclasses.fields(load(spec.make))}

    @pytest.mark.parametrize(
        "option",
        [{"rank": 0}, {"rank": 1.5}, {"alpha": 0.0}, {"dropout": 1.0}, {"dropout": -0.1}, {"targets": " , "},
         {"init": "warm"}],
    )  # fmt: skip
    def test_impossible(self, option: dict) -> None:
        with pytest.raises(UsageError, match=next(iter(option))):
            LoRA(**option)

    def test_dropout_leaves_out_terms_and_keeps_the_mean(self) -> None:
        torch.manual_seed(0)
        network = Network(Tiny())
        adapters = randomised(Adapters(choose(network, "conv", 4).layers, alpha=4.0, dropout=0.5))
        plain = adapters.eval().tensors(network)["conv.weight"].detach()
        assert torch.equal(plain, adapters.tensors(network)["conv.weight"])
        adapters.train()
        drawn = torch.stack([adapters.tensors(network)["conv.weight"].detach() for _ in range(4000)])
        torch.testing.assert_close(drawn.mean(dim=0), plain, rtol=0, atol=0.1)
        ranks = {int(torch.linalg.matrix_rank((one - network.conv.weight).reshape(8, -1))) for one in drawn[:100]}
        assert ranks == {0, 1, 2, 3, 4}


def fit(strategy: LoRA, rows: int = 24, precision: str = "fp32") -> tuple[Model, dict, list, Any]:
    made, given = model(strategy.head), batch(CLASSES, rows)
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}

    def features() -> tuple[Tensor, np.ndarray]:
        with torch.no_grad():
            return made.backbone.features(given.x), targets(CLASSES, rows)

    def batches(epoch: int) -> list[loading.Batch]:
        parts = torch.randperm(rows, generator=torch.Generator().manual_seed(epoch)).split(8)
        return [loading.Batch(given.x[part], given.y[part], part) for part in parts]

    told = context(pretrained=True, rows=rows, features=features)
    told = dataclasses.replace(told, placement=dataclasses.replace(told.placement, precision=precision))
    history = train(made, strategy, batches, told, steps_per_epoch=math.ceil(rows / 8))
    return made, before, history, told


class TestFit:
    def test_it_starts_at_the_probe(self) -> None:
        _, _, history, told = fit(LoRA(epochs=1, lr=1e-12, rank=2))
        reference, given = model(), batch(CLASSES, 24)
        with torch.no_grad():
            features = reference.features(given.x)
            head = solve_head(features, targets(CLASSES, 24), TASKS[CLASSES])
            expected = F.cross_entropy(head(features), given.y).item()
        assert history[0]["loss"] == pytest.approx(expected, rel=1e-4)
        assert told.facts["trainable_params"] == 2 * (8 + 27) + 2 * (8 + 72) + 27

    @pytest.mark.parametrize("options", [{}, {"ema": 0.5}, {"dropout": 0.3}, {"head": "mlp(4)"}, {"targets": "conv"}])
    def test_only_the_chosen_weights_change_and_by_what_was_learned(self, options: dict) -> None:
        made, before, history, _ = fit(LoRA(epochs=12, lr=1e-2, rank=2, **options))
        assert history[-1]["loss"] < history[0]["loss"]
        changed = {n for n, t in made.backbone.state_dict().items() if not torch.equal(t, before[f"backbone.{n}"])}
        assert changed == set(made.low_rank)
        assert changed == ({"conv.weight"} if "targets" in options else {"conv.weight", "layer1.1.weight"})
        for name, change in made.low_rank.items():
            moved = (made.backbone.state_dict()[name] - before[f"backbone.{name}"]).flatten(1)
            assert torch.linalg.matrix_rank(moved, rtol=1e-4) <= 2
            assert torch.equal(made.backbone.state_dict()[name], change.added_to(before[f"backbone.{name}"]))
        assert set(made.state_dict()) == {name for name in before if "head" not in name} | {
            f"head.{name}" for name in made.head.state_dict()
        }

    def test_all_stays_as_it_is_until_the_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = {}
        finish = LoRA.finish

        def watched(self: LoRA, made: Model, told: Any) -> None:
            seen.update({name: tensor.clone() for name, tensor in made.backbone.state_dict().items()})
            expected = made.eval()(batch(CLASSES, 24).x).detach()
            finish(self, made, told)
            torch.testing.assert_close(made(batch(CLASSES, 24).x).detach(), expected, rtol=1e-5, atol=1e-5)

        monkeypatch.setattr(LoRA, "finish", watched)
        _, before, _, _ = fit(LoRA(epochs=5, lr=1e-2))
        assert seen
        assert all(torch.equal(tensor, before[f"backbone.{name}"]) for name, tensor in seen.items())

    def test_in_half_precision_what_is_learned_is_what_is_left(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Under autocast a product of two factors would be rounded to bf16, and the merged weights not."""
        finish = LoRA.finish

        def watched(self: LoRA, made: Model, told: Any) -> None:
            with told.placement.autocast():
                learned = made.extras["lora"].eval().tensors(made.backbone)
            finish(self, made, told)
            for name, tensor in learned.items():
                assert tensor.dtype == torch.float32
                torch.testing.assert_close(made.backbone.state_dict()[name], tensor, rtol=1e-6, atol=1e-7)

        monkeypatch.setattr(LoRA, "finish", watched)
        fit(LoRA(epochs=3, lr=1e-2), precision="bf16")

    def test_the_inner_loss_sees_the_changes(self) -> None:
        made, given = model(), batch(CLASSES, 24)
        strategy = LoRA(init="random")
        made.extras["lora"] = randomised(strategy.prepare(made, context())["lora"])
        rows = [loading.Batch(given.x, given.y, given.index)]
        unmerged = inner_loss(made, rows, TASKS[CLASSES], context().placement)()
        strategy.finish(made, context())
        merged = inner_loss(made, rows, TASKS[CLASSES], context().placement)()
        assert unmerged == pytest.approx(merged, rel=1e-5)


@pytest.fixture
def colours() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    y = np.arange(60) % 3
    return (np.eye(3)[y][:, None, None, :] * 120 + random.integers(0, 130, (60, 8, 8, 3))).astype(np.uint8), y


@pytest.mark.usefixtures("tiny_plugin")
class TestRuns:
    @pytest.fixture
    def learner(self, colours: tuple[np.ndarray, np.ndarray]) -> Any:
        zoo.compose("tiny", "from-scratch", precision="fp32", epochs=5, lr=1e-2).fit(colours).publish("tiny.colours")
        return zoo.compose("tiny.colours", "lora", precision="fp32", epochs=8, lr=1e-2, rank=2).fit(colours)

    def test_the_learner_is_plain(self, learner: Any, colours, tmp_path: Path) -> None:
        source = learner.source.network()
        assert {name: type(module) for name, module in learner.model.backbone.named_modules()} == {
            name: type(module) for name, module in source.named_modules()
        }
        assert not list(learner.model.extras)
        assert learner.summary()["trainable_params"] == 2 * (8 + 27) + 2 * (8 + 72) + 27
        whole = zoo.load(learner.save(tmp_path / "whole"))
        expected = learner.predict_proba(colours[0])
        np.testing.assert_array_equal(whole.predict_proba(colours[0]), expected)
        assert whole.summary() == learner.summary()
        published = learner.publish("tiny.adapted")
        net = zoo.load_backbone(published.name)
        x = torch.randn(4, 3, 8, 8)
        with torch.no_grad():
            torch.testing.assert_close(net(x), learner.model(x), rtol=1e-5, atol=1e-5)

    def test_small_runs(self, learner: Any, colours, tmp_path: Path) -> None:
        from safetensors.torch import load_file

        run = learner.save(tmp_path / "small", embed=False)
        record = json.loads((run / "run.json").read_text())
        assert record["trainable_params"] == learner.record["trainable_params"]
        assert len(record["composition"]["weights"]["sha256"]) == 64
        kept = load_file(run / "model.safetensors")
        assert sum(tensor.numel() for tensor in kept.values()) == record["trainable_params"]
        small = zoo.load(run)
        np.testing.assert_array_equal(small.predict_proba(colours[0]), learner.predict_proba(colours[0]))
        again = load_file(small.save(tmp_path / "again", embed=False) / "model.safetensors")
        assert set(again) == set(kept)
        assert all(torch.equal(again[name], tensor) for name, tensor in kept.items())
        # A run that holds every tensor knows the factors too.
        whole = zoo.load(learner.save(tmp_path / "whole"))
        deltas = whole.save(tmp_path / "deltas", embed=False)
        assert set(load_file(deltas / "model.safetensors")) == set(kept)
        np.testing.assert_array_equal(zoo.load(deltas).predict_proba(colours[0]), learner.predict_proba(colours[0]))

    def test_of_a_larger_network_the_file_is_a_fraction(self, tmp_path: Path, home: Path) -> None:
        random = np.random.default_rng(0)
        x, y = random.integers(0, 255, (40, 28, 28)).astype(np.uint8), np.arange(40) % 4
        zoo.compose("source_cnn", "from-scratch", precision="fp32", epochs=1).fit((x, y)).publish("source_cnn.here")
        learner = zoo.compose("source_cnn.here", "lora", precision="fp32", epochs=1, rank=2).fit((x, y))
        file = learner.save(tmp_path / "small", embed=False) / "model.safetensors"
        trained = learner.record["trainable_params"]
        assert 4 * trained < file.stat().st_size < 4 * trained + 4096
        assert trained < 0.01 * learner.source.spec.params
        np.testing.assert_array_equal(zoo.load(tmp_path / "small").predict_proba(x), learner.predict_proba(x))

"""fine-tune: where it starts, what it trains, how fast."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn
from tuning_kit import TASKS, batch, context, model, targets
from zoo_plugins.strategies.fine_tune.strategy import FineTune, stage_factors

import zoo
from zoo.adapt.solve import solve_head
from zoo.adapt.strategy import task_loss
from zoo.adapt.training import train
from zoo.catalog.registry import default
from zoo.catalog.targets import load
from zoo.data import loading
from zoo.data.task import CLASSES, MULTI_LABEL, REGRESSION
from zoo.errors import TrainingError, UsageError

STAGES = ("stem", "layer1", "layer2", "layer3", "head", "projection")


class TestStageFactors:
    def test_geometric(self) -> None:
        assert stage_factors(STAGES, "none", 0.5) == {
            "stem": 0.0625, "layer1": 0.125, "layer2": 0.25, "layer3": 0.5, "head": 1.0, "projection": 1.0,
        }  # fmt: skip

    def test_up_to_and_including(self) -> None:
        assert stage_factors(STAGES, "layer2", 0.5) == {
            "stem": 0.0, "layer1": 0.0, "layer2": 0.0, "layer3": 0.5, "head": 1.0, "projection": 1.0,
        }  # fmt: skip

    def test_all_is_the_head_alone(self) -> None:
        factors = stage_factors(STAGES, "all", 1.0)
        assert {stage for stage, factor in factors.items() if factor} == {"head", "projection"}

    @pytest.mark.parametrize("name", ["layer9", "head", "projection", ""])
    def test_an_unknown_stage(self, name: str) -> None:
        with pytest.raises(UsageError, match="names no stage") as caught:
            stage_factors(STAGES, name, 1.0)
        assert "stem, layer1, layer2, layer3" in caught.value.hint


class TestGradual:
    """One stage more in each epoch, the top first."""

    def live(self, epoch: int, freeze: str = "none") -> list[str]:
        factors = FineTune(unfreeze="gradual", freeze=freeze).trainable(epoch, STAGES)
        return [stage for stage, factor in factors.items() if factor]

    def test_top_first(self) -> None:
        assert self.live(0) == ["head", "projection"]
        assert self.live(1) == ["layer3", "head", "projection"]
        assert self.live(4) == self.live(9) == list(STAGES)

    def test_down_to_the_boundary(self) -> None:
        assert self.live(1, "layer2") == self.live(7, "layer2") == ["layer3", "head", "projection"]
        assert self.live(0, "all") == self.live(3, "all") == ["head", "projection"]

    def test_the_rates_are_those_of_the_end(self) -> None:
        made = FineTune(unfreeze="gradual", layer_decay=0.5)
        assert made.trainable(2, STAGES) == {**stage_factors(STAGES, "none", 0.5), "stem": 0.0, "layer1": 0.0}

    def test_as_many_epochs_as_it_takes(self) -> None:
        many = (*(f"block{i}" for i in range(11)), "head", "projection")
        assert FineTune(unfreeze="gradual").least_epochs(many) == 12
        assert FineTune(unfreeze="gradual", freeze="block5").least_epochs(many) == 6
        assert FineTune(unfreeze="gradual").least_epochs(STAGES) == FineTune().least_epochs(many) == 5

    @pytest.mark.parametrize(("epochs", "said"), [(2, True), (3, False), (None, False)])
    def test_too_few_epochs_are_said(self, epochs: int | None, said: bool) -> None:
        told = context(notes=[])
        FineTune(unfreeze="gradual", epochs=epochs, init="random").prepare(model(), told)
        assert bool(told.notes) == said

    @pytest.mark.parametrize("batchnorm", ["frozen", "train"])
    @pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
    def test_a_stage_stays_to_the_bit_until_its_turn(self, batchnorm: str, optimizer: str) -> None:
        """`Tiny` has the stages stem (conv, norm), layer1 and head."""
        seen = []
        strategy = FineTune(unfreeze="gradual", epochs=4, batchnorm=batchnorm, optimizer=optimizer, init="random")
        made, given = model(), batch(rows=24)

        def note(epoch: int, metrics: dict) -> None:
            seen.append({name: tensor.clone() for name, tensor in made.state_dict().items()})

        begin = {name: tensor.clone() for name, tensor in made.state_dict().items()}
        parts = [loading.Batch(given.x[rows], given.y[rows], rows) for rows in torch.arange(24).split(8)]
        train(made, strategy, lambda epoch: parts, context(rows=24), steps_per_epoch=3, on_epoch=note)
        joins = {"head": 0, "backbone.layer1": 1, "backbone.conv": 2, "backbone.norm": 2}
        for name, tensor in begin.items():
            first = next((epoch for prefix, epoch in joins.items() if name.startswith(prefix)), None)
            statistics = "running" in name or "num_batches" in name
            for epoch, state in enumerate(seen):
                moved = not torch.equal(state[name], tensor)
                if first is None or epoch < first or (statistics and batchnorm == "frozen"):
                    assert not moved, (name, epoch)
                elif epoch > first and name.endswith("weight"):
                    assert moved, (name, epoch)

    def test_what_is_written_to_too_early_is_found(self) -> None:
        """The check runs when a stage joins, and names the tensor."""

        class Meddling(FineTune):
            def loss(self, model, batch, context):
                if batch.epoch == 1:
                    with torch.no_grad():
                        model.backbone.module.conv.weight.add_(1e-3)
                return super().loss(model, batch, context)

        with pytest.raises(TrainingError, match=r"backbone\.conv\.weight"):
            fit(Meddling(unfreeze="gradual", epochs=4, init="random"))


class TestOptions:
    def test_the_spec_tells_the_truth(self) -> None:
        spec = default().strategy("fine-tune")
        made = load(spec.make)
        fields = {field.name: field.default for field in dataclasses.fields(made)}
        assert dict(spec.options) == fields

    @pytest.mark.parametrize(
        "option",
        [{"init": "warm"}, {"unfreeze": "slowly"}, {"batchnorm": "off"}, {"layer_decay": 0}, {"label_smoothing": 1.0},
         {"label_smoothing": -0.1}, {"lr": 0.0}, {"epochs": 0}, {"clip": 0.0}],
    )  # fmt: skip
    def test_impossible(self, option: dict) -> None:
        with pytest.raises(UsageError, match=next(iter(option))):
            FineTune(**option)

    @pytest.mark.parametrize(
        ("pretrained", "head", "lr", "init", "batchnorm"),
        [(True, "linear", 3e-4, "probe", "frozen"), (False, "linear", 1e-3, "random", "train"),
         (True, "mlp(4)", 3e-4, "probe", "frozen")],
    )  # fmt: skip
    def test_what_is_left_open(self, pretrained: bool, head: str, lr: float, init: str, batchnorm: str) -> None:
        made = FineTune(head=head).resolve(context(pretrained=pretrained))
        assert (made.lr, made.init, made.batchnorm) == (lr, init, batchnorm)
        assert made.freezes_batchnorm(context()) == (batchnorm == "frozen")

    def test_what_was_said_stays(self) -> None:
        said = FineTune(lr=0.5, init="random", batchnorm="train")
        assert said.resolve(context(pretrained=True)) == said

    def test_smoothing_is_for_classes(self) -> None:
        with pytest.raises(UsageError, match="label_smoothing"):
            FineTune(label_smoothing=0.1).prepare(model(), context(REGRESSION))


class TestStart:
    @pytest.mark.parametrize("kind", [CLASSES, MULTI_LABEL, REGRESSION])
    def test_the_head_is_the_probe(self, kind: str) -> None:
        features = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
        y = targets(kind, 60)
        made = model()
        FineTune(init="probe").prepare(made, context(kind, features=lambda: (features, y)))
        expected = solve_head(features, y, TASKS[kind])
        torch.testing.assert_close(made.head(features), expected(features))

    def test_an_mlp_is_trained_on_the_features(self) -> None:
        features = torch.randn(90, 8, generator=torch.Generator().manual_seed(0))
        features[torch.arange(90), torch.arange(90) % 3] += 4
        made = model("mlp(6)")
        FineTune(init="probe", head="mlp(6)").prepare(made, context(features=lambda: (features, targets(CLASSES, 90))))
        right = made.head(features).argmax(dim=1) == torch.arange(90) % 3
        assert right.float().mean() > 0.9

    def test_random_never_asks_for_features(self) -> None:
        made = model()
        before = made.head.weight.clone()
        FineTune(init="random").prepare(made, context(features=lambda: pytest.fail("features were computed")))
        assert torch.equal(made.head.weight, before)


class TestLoss:
    @pytest.mark.parametrize("smoothing", [0.0, 0.2])
    def test_cross_entropy(self, smoothing: float) -> None:
        made, given = model(), batch()
        p = made(given.x).detach().double().softmax(dim=1).numpy()
        y = np.eye(3)[given.y.numpy()] * (1 - smoothing) + smoothing / 3
        expected = -(y * np.log(p)).sum(axis=1).mean()
        got = FineTune(label_smoothing=smoothing).loss(made, given, context())["loss"]
        assert got.item() == pytest.approx(expected, rel=1e-5)

    def test_binary_cross_entropy(self) -> None:
        made, given = model(), batch(MULTI_LABEL)
        p = made(given.x).detach().double().sigmoid().numpy()
        y = given.y.numpy()
        expected = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
        assert FineTune().loss(made, given, context(MULTI_LABEL))["loss"].item() == pytest.approx(expected, rel=1e-5)

    def test_squared_error(self) -> None:
        made, given = model(), batch(REGRESSION)
        expected = ((made(given.x).detach() - given.y).double() ** 2).mean().item()
        assert FineTune().loss(made, given, context(REGRESSION))["loss"].item() == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("kind", [CLASSES, MULTI_LABEL, REGRESSION])
    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_gradients(self, kind: str, smoothing: float) -> None:
        """Against finite differences in float64."""
        y = batch(kind, 6, torch.float64).y
        outputs = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
        smoothing = smoothing if kind == CLASSES else 0.0
        assert torch.autograd.gradcheck(lambda z: task_loss(z, y, TASKS[kind], label_smoothing=smoothing), (outputs,))


def fit(
    strategy: FineTune, rows: int = 24, pretrained: bool = True, kind: str = CLASSES
) -> tuple[nn.Module, dict, list]:
    made, given = model(strategy.head), batch(kind, rows)
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}

    def features() -> tuple[torch.Tensor, np.ndarray]:
        with torch.no_grad():
            return made.features(given.x), targets(kind, rows)

    def batches(epoch: int) -> list[loading.Batch]:
        parts = torch.randperm(rows, generator=torch.Generator().manual_seed(epoch)).split(8)
        return [loading.Batch(given.x[part], given.y[part], part) for part in parts]

    told = context(kind, pretrained=pretrained, rows=rows, features=features)
    history = train(made, strategy, batches, told, steps_per_epoch=math.ceil(rows / 8))
    return made, before, history


class TestFit:
    def test_it_starts_at_the_probe(self) -> None:
        """At a vanishing learning rate the loss of the first epoch is the probe's."""
        made, _, history = fit(FineTune(epochs=1, lr=1e-12, batchnorm="frozen"))
        given = batch(rows=24)
        reference = model()
        with torch.no_grad():
            features = reference.features(given.x)
            head = solve_head(features, targets(CLASSES, 24), TASKS[CLASSES])
            expected = nn.functional.cross_entropy(head(features), given.y).item()
        assert made.head.weight.shape == (3, 8)
        assert history[0]["loss"] == pytest.approx(expected, rel=0.05)  # dropout is at work

    @pytest.mark.parametrize(
        ("freeze", "moving"),
        [("none", ("conv", "norm", "layer1", "head")), ("stem", ("layer1", "head")), ("layer1", ("head",)),
         ("all", ("head",))],
    )  # fmt: skip
    @pytest.mark.parametrize("batchnorm", ["frozen", "train"])
    def test_frozen_stages_stay_bit_identical(self, freeze: str, moving: tuple[str, ...], batchnorm: str) -> None:
        made, before, _ = fit(FineTune(epochs=2, freeze=freeze, batchnorm=batchnorm))
        for name, tensor in made.state_dict().items():
            stage = name.removeprefix("backbone.").split(".")[0]
            statistics = "running" in name or "num_batches" in name
            moves = stage in moving and not (statistics and batchnorm == "frozen")
            assert torch.equal(tensor, before[name]) != moves, name

    @pytest.mark.parametrize("kind", [CLASSES, MULTI_LABEL, REGRESSION])
    @pytest.mark.parametrize("head", ["linear", "mlp(5)"])
    def test_every_task_and_head(self, kind: str, head: str) -> None:
        _, _, history = fit(FineTune(epochs=40, lr=1e-2, head=head, init="random"), kind=kind)
        assert history[-1]["loss"] < 0.9 * history[0]["loss"]

    def test_an_unknown_stage(self) -> None:
        with pytest.raises(UsageError, match="layer7"):
            fit(FineTune(freeze="layer7"))


@pytest.mark.usefixtures("tiny_plugin")
def test_composed() -> None:
    random = np.random.default_rng(1)
    y = np.arange(60) % 3
    x = (np.eye(3)[y][:, None, None, :] * 120 + random.integers(0, 130, (60, 8, 8, 3))).astype(np.uint8)
    zoo.compose("tiny", "from-scratch", precision="fp32", epochs=30, lr=1e-2).fit((x, y)).publish("tiny.colours")
    learner = zoo.compose("tiny.colours", "fine-tune", precision="fp32", epochs=3).fit((x, y))
    assert learner.evaluation.accuracy >= 0.9
    assert len(learner.history) == 3

"""The training loop against hand-written ones, formulas, and things that go wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from zoo.adapt.accelerated import accelerated
from zoo.adapt.freezing import FrozenGuard, set_trainable
from zoo.adapt.heads import build_head
from zoo.adapt.optim import parameter_groups
from zoo.adapt.schedule import rate_factor, resolve_epochs
from zoo.adapt.strategy import Batch, Context, Gradient, Model, task_loss
from zoo.adapt.training import train
from zoo.data import loading
from zoo.data.task import CLASSES, Task
from zoo.errors import TrainingError, UsageError
from zoo.models.accelerator import Placement
from zoo.models.network import Network
from zoo.testing.networks import Tiny, TinyPair

TASK = Task(CLASSES, ("a", "b", "c"))


class Block(nn.Module):
    """Two convolutions with BatchNorm and a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(0.5)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.bn2(self.conv2(self.drop(torch.relu(self.bn1(self.conv1(x)))))))


class Residual(nn.Module):
    """A very small resnet18: stem, layer1, layer2, fc."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(Block(4), Block(4))
        self.layer2 = nn.Sequential(Block(4), Block(4))
        self.fc = nn.Linear(4, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(x))))).mean(dim=(2, 3)))


@dataclass(frozen=True, kw_only=True)
class Plain(Gradient):
    """The task's loss; stages in `factors` (by epoch) are trained, all of them where it is empty."""

    factors: tuple[Mapping[str, float], ...] = ()
    batchnorm: bool = True
    lr: float = 0.01
    spoil: Callable[[Model], None] | None = field(default=None, compare=False)

    min_epochs: ClassVar[int] = 2

    def trainable(self, epoch: int, stages: tuple[str, ...]) -> Mapping[str, float]:
        return self.factors[epoch] if self.factors else dict.fromkeys(stages, 1.0)

    def freezes_batchnorm(self, context: Context) -> bool:
        return not self.batchnorm

    def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
        if self.spoil:
            self.spoil(model)
        loss = task_loss(model(batch.x), batch.y, context.task)
        return {"loss": loss, "double": 2 * loss}


def context(rows: int = 0, precision: str = "fp32") -> Context:
    return Context(task=TASK, placement=Placement(torch.device("cpu"), precision, "a test"), rows=rows)


def model(module: nn.Module | None = None, seed: int = 0, **more: Any) -> Model:
    torch.manual_seed(seed)
    network = Network(module or Residual(), **more)
    with torch.no_grad():
        width = 4 if isinstance(network.module, Residual) else 8
    return Model(network, build_head("linear", width, 3)).eval()


def data(rows: int = 22, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 3, 8, 8, generator=generator), torch.randint(0, 3, (rows,), generator=generator)


def batches(x: Any, y: Tensor, size: int) -> Callable[[int], list[loading.Batch]]:
    def of_epoch(epoch: int) -> list[loading.Batch]:
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(epoch))
        return [
            loading.Batch(tuple(p[part] for p in x) if isinstance(x, tuple) else x[part], y[part], part)
            for part in order.split(size)
        ]

    return of_epoch


def fit(made: Model, strategy: Gradient, rows: int = 22, size: int = 8, **more: Any) -> list[dict[str, Any]]:
    torch.manual_seed(7)
    given = more.pop("context", None) or context(rows)
    loader = batches(*data(rows), size)
    return train(made, strategy, loader, given, steps_per_epoch=math.ceil(rows / size), **more)


def state(made: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in made.state_dict().items()}


def assert_same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert set(one) == set(other)
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


class TestPlainLoop:
    @pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
    def test_it_is_a_plain_loop_bit_for_bit(self, optimizer: str) -> None:
        """The reference knows nothing of stages, plans, guards or accelerate."""
        strategy = Plain(epochs=3, optimizer=optimizer, clip=None, schedule="constant", weight_decay=0.1)
        ours, theirs = model(), model()
        fit(ours, strategy)

        torch.manual_seed(7)
        theirs = theirs.to(memory_format=torch.channels_last)
        theirs.train()
        used = [p for name, p in theirs.named_parameters() if "fc" not in name]
        groups = [
            {"params": [p for p in used if p.ndim > 1], "weight_decay": 0.1},
            {"params": [p for p in used if p.ndim == 1], "weight_decay": 0.0},
        ]
        make = torch.optim.AdamW if optimizer == "adamw" else torch.optim.SGD
        reference = make(groups, lr=0.01, fused=True, **({} if optimizer == "adamw" else {"momentum": 0.9}))
        x, y = data()
        for epoch in range(3):
            for batch in batches(x, y, 8)(epoch):
                reference.zero_grad()
                loss = nn.functional.cross_entropy(
                    theirs(batch.x.contiguous(memory_format=torch.channels_last)), batch.y
                )
                loss.backward()
                reference.step()
        assert_same(state(ours), state(theirs))

    def test_adamw_is_adamw(self) -> None:
        """One decayed and one free tensor against the update written out (Loshchilov & Hutter 2019, algorithm 2)."""
        made = model()
        strategy = Plain(epochs=1, clip=None, schedule="constant", weight_decay=0.1, batchnorm=False)
        before = state(made)
        x, y = data(8)
        task_loss(made(x), y, TASK).backward()
        gradients = {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}
        made.zero_grad()
        train(made, strategy, batches(x, y, 8), context(8), steps_per_epoch=1)
        # After one step the bias-corrected moments are g and g^2, whatever the betas are. No dropout here.
        for name, decay in (("head.weight", 0.1), ("head.bias", 0.0)):
            g = gradients[name]
            expected = before[name] * (1 - 0.01 * decay) - 0.01 * g / (g.abs() + 1e-8)
            torch.testing.assert_close(made.state_dict()[name], expected, atol=2e-5, rtol=1e-4)

    def test_clipping(self) -> None:
        """Plain SGD at a constant rate moves by lr * clip in all, where every gradient is longer than clip."""
        made = model()
        before = state(made)
        strategy = Plain(epochs=1, optimizer="sgd", momentum=0.0, clip=1e-3, schedule="constant", weight_decay=0.0)
        fit(made, strategy, rows=8)
        moved = [made.state_dict()[name] - tensor for name, tensor in before.items() if "running" not in name]
        length = math.sqrt(sum(float(part.double().square().sum()) for part in moved if part.is_floating_point()))
        assert length == pytest.approx(0.01 * 1e-3, rel=1e-2)

    def test_the_same_seed_gives_the_same_weights(self) -> None:
        one, other = model(), model()
        first, second = fit(one, Plain(epochs=2)), fit(other, Plain(epochs=2))
        assert_same(state(one), state(other))
        assert [epoch["loss"] for epoch in first] == [epoch["loss"] for epoch in second]

    def test_it_learns(self) -> None:
        history = fit(model(), Plain(epochs=30, lr=0.02))
        assert history[-1]["loss"] < 0.5 * history[0]["loss"]

    def test_history(self) -> None:
        told: list[Any] = []
        steps: list[Any] = []
        history = fit(
            model(),
            Plain(epochs=2, schedule="constant"),
            on_epoch=lambda epoch, metrics: told.append((epoch, metrics)),
            progress=lambda *args: steps.append(args),
        )
        assert [epoch for epoch, _ in told] == [0, 1]
        assert [metrics for _, metrics in told] == history
        assert steps == [("train", done, 6) for done in range(1, 7)]
        for number, epoch in enumerate(history):
            assert epoch["epoch"] == number
            assert epoch["epochs"] == 2
            assert epoch["double"] == pytest.approx(2 * epoch["loss"])
            assert epoch["lr"] == 0.01
            assert epoch["seconds"] > 0
            assert epoch["rows_per_second"] > 0

    def test_the_loss_is_a_mean_over_rows(self) -> None:
        made = model()
        x, y = data()
        expected = task_loss(made(x), y, TASK).item()
        strategy = Plain(epochs=1, lr=1e-12, weight_decay=0.0, batchnorm=False, factors=({"head": 1.0},))
        assert fit(made, strategy)[0]["loss"] == pytest.approx(expected, rel=1e-5)

    def test_several_inputs(self) -> None:
        torch.manual_seed(0)
        made = Model(Network(TinyPair()), build_head("linear", 8, 3))
        before = state(made)
        x = (torch.randint(0, 32, (20, 6)), torch.ones(20, 6))
        loader = batches(x, torch.arange(20) % 3, 8)
        history = train(made, Plain(epochs=2), loader, context(20), steps_per_epoch=3)
        assert len(history) == 2
        assert not torch.equal(made.state_dict()["backbone.embedding.weight"], before["backbone.embedding.weight"])

    def test_the_model_is_left_as_found(self) -> None:
        made = model()
        made.head.bias.requires_grad_(False)
        fit(made, Plain(epochs=1, factors=({"layer2": 1.0},)))
        assert not made.training
        assert not any(module.training for module in made.modules())
        assert all(p.grad is None for p in made.parameters())
        assert [n for n, p in made.named_parameters() if not p.requires_grad] == ["head.bias"]
        made(torch.zeros(1, 3, 8, 8)).sum().backward()


class TestSchedule:
    def test_cosine(self) -> None:
        total, warm = 200, 10
        for step in range(total):
            done = (step - warm + 1) / (total - warm + 1)
            expected = (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * done))
            assert rate_factor(step, total, "cosine") == pytest.approx(expected, abs=1e-12)
        factors = [rate_factor(step, total, "cosine") for step in range(total)]
        assert max(factors) == factors[warm - 1] == 1
        assert 0 < factors[-1] < 1e-4

    @pytest.mark.parametrize("total", [1, 2, 3, 9, 30])
    def test_short_ones_always_move(self, total: int) -> None:
        assert all(0 < rate_factor(step, total, "cosine") <= 1 for step in range(total))

    def test_every_step_has_its_rate(self) -> None:
        """SGD without momentum on a loss of constant gradient adds the rates up."""

        @dataclass(frozen=True, kw_only=True)
        class Ramp(Plain):
            def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
                return {"loss": model.head.bias.sum() + 0 * model(batch.x).sum()}

        made = model()
        before = made.head.bias.detach().clone()
        strategy = Ramp(epochs=4, optimizer="sgd", momentum=0.0, clip=None, weight_decay=0.0, lr=0.5)
        history = fit(made, strategy)
        rates = [0.5 * rate_factor(step, 12, "cosine") for step in range(12)]
        torch.testing.assert_close(before - made.head.bias.detach(), torch.full((3,), sum(rates)))
        assert [epoch["lr"] for epoch in history] == [rates[2], rates[5], rates[8], rates[11]]

    def test_epochs(self) -> None:
        assert resolve_epochs(3, 10, 100, 1) == 3
        assert resolve_epochs(None, 10, 100, 4) == 25
        assert resolve_epochs(None, 10, 100, 1000) == 10
        assert len(fit(model(), Plain(), rows=200, size=8)) == 4


class TestStages:
    def test_rates_by_stage(self) -> None:
        """With the gradient's sign alone (Adam's first step), each stage moves by its own rate."""
        made = model()
        before = state(made)
        rates = {"stem": 0.125, "layer1": 0.25, "layer2": 0.5, "head": 1.0}
        fit(made, Plain(epochs=1, factors=(rates,), clip=None, weight_decay=0.0, schedule="constant"), rows=8)
        after = made.state_dict()
        names = {"stem": "backbone.conv1.weight", "layer1": "backbone.layer1.0.conv2.weight"}
        names |= {"layer2": "backbone.layer2.1.bn2.bias", "head": "head.weight"}
        for stage, name in names.items():
            moved = (after[name] - before[name]).abs().max()
            assert float(moved) == pytest.approx(0.01 * rates[stage], rel=1e-3), stage

    def test_groups(self) -> None:
        made = model()
        groups = parameter_groups(made, made.stages(), 0.3)
        assert [group["stage"] for group in groups] == ["stem"] * 2 + ["layer1"] * 2 + ["layer2"] * 2 + ["head"] * 2
        for group in groups:
            assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] == 0.3}
        listed = [id(p) for group in groups for p in group["params"]]
        assert len(listed) == len(set(listed)) == len(list(made.parameters())) - 2  # all but the source head

    def test_a_frozen_stage_is_bit_identical(self) -> None:
        made = model()
        before = state(made)
        fit(made, Plain(epochs=3, factors=({"layer2": 1.0, "head": 1.0},) * 3))
        after = state(made)
        for name in before:
            stays = not name.startswith(("backbone.layer2", "head"))
            assert torch.equal(before[name], after[name]) == stays, name

    def test_frozen_batchnorm(self) -> None:
        made = model()
        before = state(made)
        fit(made, Plain(epochs=2, batchnorm=False))
        after = state(made)
        for name in before:
            statistics = "running" in name or "num_batches" in name
            stays = statistics or name.startswith("backbone.fc")
            assert torch.equal(before[name], after[name]) == stays, name

    def test_gradual_unfreezing_is_a_function_of_the_epoch(self) -> None:
        """A stage that wakes later, sleeps again, and is never touched while it sleeps."""
        made = model()
        seen: list[dict[str, Tensor]] = [state(made)]
        plan = ({"head": 1.0}, {"head": 1.0, "layer1": 1.0}, {"layer2": 1.0})
        fit(made, Plain(epochs=3, factors=plan), on_epoch=lambda *_: seen.append(state(made)))
        for epoch, live in enumerate(plan):
            for stage, name in (("head", "head.weight"), ("layer1", "backbone.layer1.0.bn1.running_mean")):
                assert torch.equal(seen[epoch][name], seen[epoch + 1][name]) == (stage not in live)
            moved = not torch.equal(
                seen[epoch]["backbone.layer2.0.conv1.weight"], seen[epoch + 1]["backbone.layer2.0.conv1.weight"]
            )
            assert moved == ("layer2" in live)

    def test_autograd_starts_at_the_boundary(self) -> None:
        made = model()
        set_trainable(made, {"layer2": 1.0, "head": 1.0}, freeze_batchnorm=True)
        wanted: dict[str, bool] = {}
        for name in ("layer1", "layer2"):
            made.backbone.module.get_submodule(name).register_forward_hook(
                lambda _, __, output, name=name: wanted.__setitem__(name, output.requires_grad)
            )
        made(torch.zeros(2, 3, 8, 8)).sum().backward()
        assert wanted == {"layer1": False, "layer2": True}
        assert {n.split(".")[1] for n, p in made.backbone.named_parameters() if p.grad is not None} <= {"0", "1"}
        assert all(p.grad is None for n, p in made.named_parameters() if "layer2" not in n and "head" not in n)

    def test_modes(self) -> None:
        made = model()
        set_trainable(made, {"layer2": 1.0}, freeze_batchnorm=False)
        modes = {name: module.training for name, module in made.backbone.named_modules()}
        assert modes["layer2.0.drop"]
        assert modes["layer2.0.bn1"]
        assert modes["layer2"]
        assert made.backbone.module.training
        assert not any(on for name, on in modes.items() if name and not name.startswith("layer2"))
        assert not made.head.training
        set_trainable(made, {"layer2": 1.0, "head": 1.0}, freeze_batchnorm=True)
        modes = {name: module.training for name, module in made.backbone.named_modules()}
        assert modes["layer2.0.drop"]
        assert not modes["layer2.0.bn1"]
        assert made.head.training
        set_trainable(made, {"head": 1.0}, freeze_batchnorm=True)
        assert not any(module.training for module in made.backbone.modules())
        assert not made.backbone.module.training

    def test_what_has_no_parameters_goes_with_the_stage_before_it(self) -> None:
        made = Model(Network(Tiny()), nn.Linear(8, 3))
        for live, dropout in ((("stem", "layer1", "head"), True), (("layer1",), True), (("stem", "head"), False)):
            set_trainable(made, dict.fromkeys(live, 1.0), freeze_batchnorm=True)
            assert made.backbone.module.dropout.training == dropout

    def test_nothing_behind_the_tap_is_trained(self) -> None:
        made = model(tap="layer1")
        before = state(made)
        fit(made, Plain(epochs=2))
        after = state(made)
        for name in before:
            stays = name.startswith(("backbone.layer2", "backbone.fc"))
            assert torch.equal(before[name], after[name]) == stays, name

    @pytest.mark.parametrize("factors", [{}, {"head": 0.0, "stem": 0.0}])
    def test_nothing_to_train(self, factors: dict[str, float]) -> None:
        with pytest.raises(UsageError, match="nothing is trained in epoch 1"):
            fit(model(), Plain(epochs=2, factors=({"head": 1.0}, factors)))

    def test_an_unknown_stage(self) -> None:
        with pytest.raises(UsageError, match="no stage called 'layer9'") as caught:
            fit(model(), Plain(epochs=1, factors=({"layer9": 1.0},)))
        assert "layer2" in caught.value.hint


class TestEarlyStop:
    def stopped(self, losses: list[float], strategy: Plain) -> tuple[Model, list[Any]]:
        made, given = model(), iter(losses)
        history = fit(made, strategy, rows=16, inner=lambda: next(given))
        return made, [epoch["inner_loss"] for epoch in history]

    def test_a_loss_that_is_not_finite_is_never_the_best(self) -> None:
        how = {"schedule": "constant", "early_stop": 2, "epochs": 9}
        made, losses = self.stopped([math.nan, 3.0, 2.0, math.nan, math.inf, 1.0], Plain(**how))
        assert losses == [None, 3.0, 2.0, None, None]
        three = model()
        fit(three, Plain(**{**how, "early_stop": None, "epochs": 3}), rows=16)
        assert_same(state(made), state(three))

    def test_none_is_finite(self) -> None:
        made, losses = self.stopped([math.nan] * 9, Plain(schedule="constant", early_stop=2, epochs=9))
        assert losses == [None] * 3
        three = model()
        fit(three, Plain(schedule="constant", epochs=3), rows=16)
        assert_same(state(made), state(three))

    def test_patience_begins_where_the_last_stage_joined(self) -> None:
        """In epoch 3; the best was the first."""
        few, all_ = {"head": 1.0}, {"head": 1.0, "layer2": 1.0}
        strategy = Plain(factors=(few, few, few, *[all_] * 5), early_stop=2, epochs=8)
        _, losses = self.stopped([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], strategy)
        assert losses == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        _, losses = self.stopped([1.0, 2.0, 3.0, 4.0, 0.5, 6.0, 7.0, 8.0], strategy)
        assert losses == [1.0, 2.0, 3.0, 4.0, 0.5, 6.0, 7.0]


class TestGuard:
    @pytest.mark.parametrize(
        "name",
        ["conv1.weight", "bn1.running_mean", "layer1.1.bn2.num_batches_tracked", "fc.bias", "layer2.0.bn1.running_var"],
    )
    def test_a_strategy_that_writes_to_frozen_tensors(self, name: str) -> None:
        def spoil(made: Model) -> None:
            with torch.no_grad():
                tensor = made.backbone.state_dict()[name]
                tensor += 1

        strategy = Plain(epochs=1, factors=({"layer2": 1.0, "head": 1.0},), spoil=spoil, batchnorm=False)
        with pytest.raises(TrainingError, match=f"backbone.{name}"):
            fit(model(), strategy)

    def test_one_bit_is_enough(self) -> None:
        made = model()
        guard = FrozenGuard(made, [{"head": 1.0}], freeze_batchnorm=True)
        guard.check(made)
        with torch.no_grad():
            weight = made.backbone.module.conv1.weight
            weight.view(torch.int32).view(-1)[3] ^= 1
        with pytest.raises(TrainingError, match=r"backbone\.conv1\.weight"):
            guard.check(made)

    def test_what_it_watches(self) -> None:
        made = model()
        tensors = len(list(made.parameters())) + len(list(made.buffers()))
        assert len(FrozenGuard(made, [{"head": 1.0}], freeze_batchnorm=True)) == tensors - 2
        everything = dict.fromkeys(made.stages(), 1.0)
        assert len(FrozenGuard(made, [everything], freeze_batchnorm=False)) == 2  # the source head
        assert len(FrozenGuard(made, [everything], freeze_batchnorm=True)) == 2 + len(list(made.buffers()))


class TestExtras:
    def test_an_extra_module_is_a_stage(self) -> None:
        @dataclass(frozen=True, kw_only=True)
        class WithExtra(Plain):
            def prepare(self, model: Model, context: Context) -> dict[str, nn.Module]:
                return {"scale": nn.Linear(3, 3)}

            def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
                return {"loss": task_loss(model.extras["scale"](model(batch.x)), batch.y, context.task)}

        made = model()
        first: dict[str, Tensor] = {}
        fit(made, WithExtra(epochs=3), on_epoch=lambda epoch, _: first or first.update(state(made)))
        assert set(made.stages()) == {"stem", "layer1", "layer2", "head", "scale"}
        assert not torch.equal(first["extras.scale.weight"], made.state_dict()["extras.scale.weight"])

    def test_a_name_that_is_taken(self) -> None:
        class Taken(Plain):
            def prepare(self, model: Model, context: Context) -> dict[str, nn.Module]:
                return {"layer1": nn.Linear(3, 3)}

        with pytest.raises(UsageError, match="layer1"):
            fit(model(), Taken(epochs=1))


class TestFailures:
    def test_non_finite_input_names_its_rows(self) -> None:
        x, y = data()
        x[13, 0, 2, 2] = math.nan
        made = model()
        loader = batches(x, y, 8)
        step = next(i for i, batch in enumerate(loader(0)) if 13 in batch.index)
        with pytest.raises(TrainingError, match=f"the loss is nan in epoch 0, step {step}") as caught:
            train(made, Plain(epochs=2), loader, context(22), steps_per_epoch=3)
        assert "not finite: 13." in caught.value.why
        assert caught.value.exit_code == 7

    def test_a_loss_that_explodes_stops_before_the_step(self) -> None:
        class Exploding(Plain):
            def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
                return {"loss": model(batch.x).sum() * (math.inf if batch.epoch else 1)}

        made = model()
        kept: dict[str, Tensor] = {}
        with pytest.raises(TrainingError, match="epoch 1, step 3") as caught:
            fit(made, Exploding(epochs=2, batchnorm=False), on_epoch=lambda *_: kept.update(state(made)))
        assert "Rows of the batch: " in caught.value.why
        assert_same(state(made), kept)
        assert not made.training

    def test_a_gradient_that_is_not_finite(self) -> None:
        class Steep(Plain):
            def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
                return {"loss": (model(batch.x) * 0).sum().sqrt()}

        made = model()
        before = state(made)
        with pytest.raises(TrainingError, match="the gradient is not finite in epoch 0, step 0"):
            fit(made, Steep(epochs=1, batchnorm=False))
        assert_same(state(made), before)

    def test_an_interrupt_passes(self) -> None:
        def interrupt(*_: Any) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fit(model(), Plain(epochs=2), on_epoch=interrupt)
        fit(model(), Plain(epochs=1))  # and the next fit starts clean

    def test_a_last_batch_of_one_row_joins(self) -> None:
        sizes: list[int] = []

        class Counting(Plain):
            def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
                sizes.append(len(batch.y))
                assert len(batch.index) == len(batch.x) == len(batch.y)
                return super().loss(model, batch, context)

        steps: list[tuple[str, int, int]] = []
        fit(model(), Counting(epochs=2, batch_size=8), rows=17, progress=lambda *told: steps.append(told))
        assert sizes == [8, 9, 8, 9]
        assert steps[-1] == ("train", 4, 4)
        sizes.clear()
        fit(model(), Counting(epochs=1, batch_size=8, batchnorm=False), rows=17)
        assert sizes == [8, 8, 1]

    def test_batchnorm_on_single_values(self) -> None:
        module = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
        with pytest.raises(UsageError, match="one row"):
            fit(Model(Network(module), build_head("linear", 8, 3)), Plain(epochs=1, batch_size=1), rows=3, size=1)

    def test_no_rows(self) -> None:
        with pytest.raises(TrainingError, match="no rows"):
            train(model(), Plain(epochs=1), lambda epoch: [], context(), steps_per_epoch=0)


class TestAccelerate:
    def test_two_precisions_in_one_process(self) -> None:
        kinds: list[torch.dtype] = []

        class Watching(Plain):
            def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
                kinds.append(model(batch.x).dtype)
                return super().loss(model, batch, context)

        for precision in ("bf16", "fp32", "bf16"):
            fit(model(), Watching(epochs=1), rows=8, context=context(8, precision))
        assert kinds == [torch.bfloat16, torch.float32, torch.bfloat16]

    def test_the_callers_accelerator_is_put_back(self) -> None:
        from accelerate import Accelerator

        with accelerated(context(precision="bf16").placement) as ours:
            assert ours.mixed_precision == "bf16"
            theirs = Accelerator(cpu=True, mixed_precision="bf16")
            with accelerated(context(precision="fp32").placement) as inner:
                assert inner.mixed_precision == "no"
            assert theirs.mixed_precision == "bf16"

    def test_the_model_keeps_its_own_forward(self) -> None:
        made = model()
        fit(made, Plain(epochs=1), context=context(22, "bf16"))
        assert "forward" not in vars(made)
        assert made(torch.zeros(1, 3, 8, 8)).dtype == torch.float32
        assert all(p.dtype == torch.float32 for p in made.parameters())

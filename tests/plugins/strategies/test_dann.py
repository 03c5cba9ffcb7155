"""dann: reversal and schedule against formulas and finite differences, what it is told, and what it reports."""

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
from tuning_kit import batch, context, model
from zoo_plugins.strategies.dann.reversal import DomainHead, domain_loss, reverse, schedule
from zoo_plugins.strategies.dann.strategy import DANN

import zoo
from zoo.adapt.heads import build_head
from zoo.adapt.stepper import labelled_share
from zoo.adapt.strategy import Batch, Model
from zoo.adapt.training import train
from zoo.catalog.registry import default
from zoo.catalog.targets import load
from zoo.data import loading
from zoo.data.task import CLASSES
from zoo.errors import UsageError
from zoo.models.network import Network
from zoo.report.card import model_card
from zoo.testing.networks import Tiny


class TestReversal:
    @pytest.mark.parametrize("strength", [0.0, 0.3, 2.0])
    def test_gradients_are_those_of_the_loss_times_minus_strength(self, strength: float) -> None:
        """Against central differences in float64 of the same function without the layer."""
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(4, 3, dtype=torch.float64, generator=generator, requires_grad=True)
        weight = torch.randn(3, 2, dtype=torch.float64, generator=generator)

        def plain(z: Tensor) -> Tensor:
            return ((z.tanh() @ weight) ** 3).sum()

        value = plain(reverse(x, strength))
        assert torch.equal(value.detach(), plain(x).detach())
        (found,) = torch.autograd.grad(value, x)
        expected, step = torch.zeros_like(found), 1e-6
        with torch.no_grad():
            for i in range(x.numel()):
                d = torch.zeros(x.numel(), dtype=torch.float64)
                d[i] = step
                d = d.reshape(x.shape)
                expected.view(-1)[i] = (plain(x + d) - plain(x - d)) / (2 * step)
        torch.testing.assert_close(found, -strength * expected, rtol=1e-6, atol=1e-7)

    def test_the_classifiers_own_gradient_is_not_reversed(self) -> None:
        """The backbone goes up the domain loss that the classifier of domains goes down, each as written out."""
        torch.manual_seed(0)
        features = nn.Linear(3, 4).double()
        domain = DomainHead(4, 5).double()
        x, target = torch.randn(6, 3).double(), torch.arange(6) % 2 == 0
        plain = domain_loss(domain(features(x)), target, 0.5)
        straight = torch.autograd.grad(plain, [*features.parameters(), *domain.parameters()])
        reversed_ = torch.autograd.grad(
            domain_loss(domain(reverse(features(x), 0.7)), target, 0.5), [*features.parameters(), *domain.parameters()]
        )
        for one, other, sign in zip(straight, reversed_, [-0.7] * 2 + [1.0] * 4, strict=True):
            torch.testing.assert_close(other, sign * one)

    def test_schedule(self) -> None:
        assert schedule(0.0) == 0.0
        for p in (0.05, 0.1, 0.5, 0.9, 1.0):
            assert schedule(p) == pytest.approx((1 - math.exp(-10 * p)) / (1 + math.exp(-10 * p)), rel=1e-12)
            assert schedule(p, 3.0) == pytest.approx(math.tanh(1.5 * p), rel=1e-12)

    def test_domains_count_the_same_however_many_rows_they_have(self) -> None:
        scores = torch.tensor([[2.0], [-1.0], [0.5], [3.0], [-2.0]])
        target = torch.tensor([True, False, False, False, False])
        p = 1 / (1 + np.exp(-scores[:, 0].numpy().astype(float)))
        expected = (-np.log(p[0]) - np.log(1 - p[1:]).mean()) / 2
        assert float(domain_loss(scores, target, 0.2)) == pytest.approx(expected, rel=1e-6)
        # In parts, which count by their rows, of whatever domains they are.
        for cut in (1, 3):
            parts = [domain_loss(scores[part], target[part], 0.2) for part in (slice(cut), slice(cut, None))]
            assert float(cut / 5 * parts[0] + (5 - cut) / 5 * parts[1]) == pytest.approx(expected, rel=1e-6)


#: What the strategy is told where seven of twelve rows have labels.
TOLD: dict[str, Any] = {"rows": 12, "targets": np.zeros(7)}


def mixed_batch(progress: float = 0.0) -> Batch:
    """Twelve rows, of which the last five have no label."""
    given = batch()
    y = given.y.clone()
    y[7:] = -1
    return dataclasses.replace(given, y=y, progress=progress)


class TestLoss:
    @pytest.mark.parametrize("progress", [0.0, 0.25, 0.8])
    def test_it_is_the_two_losses_and_lambda(self, progress: float) -> None:
        made = model()
        made.extras["domain"] = DomainHead(8, 6)
        given = mixed_batch(progress)
        strategy = DANN(strength=0.5)
        found = strategy.loss(made, given, context(**TOLD))
        with torch.no_grad():
            features = made.features(given.x)
            p = made.head(features).double().softmax(dim=1).numpy()[:7]
            task = -np.log(p[np.arange(7), given.y[:7].numpy()]).mean()
            d = 1 / (1 + np.exp(-made.extras["domain"](features)[:, 0].double().numpy()))
            domain = (-np.log(1 - d[:7]).mean() - np.log(d[7:]).mean()) / 2
        assert float(found["task"].detach()) == pytest.approx(task, rel=1e-5)
        assert float(found["domain"].detach()) == pytest.approx(domain, rel=1e-5)
        assert float(found["loss"].detach()) == pytest.approx(task + domain, rel=1e-5)
        strength = 0.5 * (2 / (1 + math.exp(-10 * progress)) - 1)
        assert float(found["lambda"]) == pytest.approx(strength, abs=1e-7)
        # The backbone's gradient is the task's minus lambda times the domain's.
        weight = made.backbone.conv.weight
        (all_,) = torch.autograd.grad(found["loss"], weight, retain_graph=True)
        (of_task,) = torch.autograd.grad(found["task"], weight)
        straight = domain_loss(made.extras["domain"](made.features(given.x)), ~given.labelled, 5 / 12)
        (of_domain,) = torch.autograd.grad(straight, weight)
        torch.testing.assert_close(all_, of_task - strength * of_domain, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("labelled", [True, False])
    def test_a_batch_of_one_domain(self, labelled: bool) -> None:
        made = model()
        made.extras["domain"] = DomainHead(8, 6)
        given = mixed_batch(0.5)
        rows = given.labelled == labelled
        found = DANN().loss(made, Batch(given.x[rows], given.y[rows], given.index[rows]), context(**TOLD))
        assert all(value.isfinite() for value in found.values())
        assert (float(found["task"].detach()) > 0) == labelled
        found["loss"].backward()

    def test_parts_of_a_batch_add_up(self) -> None:
        """As `accumulate` and several processes compute them, the rows of one domain in one part."""
        made = model()
        made.extras["domain"] = DomainHead(8, 6)
        given = mixed_batch(0.5)
        whole = DANN().loss(made, given, context(**TOLD))
        total = {"loss": torch.zeros(()), "task": torch.zeros(()), "domain": torch.zeros(())}
        for part in (slice(0, 4), slice(4, 12)):
            y = given.y[part]
            share = labelled_share(y, given.y)
            small = Batch(given.x[part], y, given.index[part], progress=0.5, labelled_share=share)
            found = DANN().loss(made, small, context(**TOLD))
            total = {name: value + len(y) / 12 * found[name].detach() for name, value in total.items()}
        for name, value in total.items():
            torch.testing.assert_close(value, whole[name].detach(), rtol=1e-5, atol=1e-6)

    def test_lambda_follows_the_steps_of_the_fit(self) -> None:
        made, given = model(), batch(CLASSES, 24)
        y = torch.where(torch.arange(24) < 12, given.y, -1)
        seen: list[float] = []

        class Watched(DANN):
            def loss(self, model: Model, batch: Batch, context: Any) -> dict[str, Tensor]:
                found = super().loss(model, batch, context)
                seen.append(float(found["lambda"]))
                return found

        def batches(epoch: int) -> list[loading.Batch]:
            parts = torch.randperm(24, generator=torch.Generator().manual_seed(epoch)).split(8)
            return [loading.Batch(given.x[part], y[part], part) for part in parts]

        told = context(rows=24, target=lambda: None, targets=np.zeros(12))
        history = train(made, Watched(epochs=2), batches, told, steps_per_epoch=3)
        assert seen == pytest.approx([2 / (1 + math.exp(-10 * step / 6)) - 1 for step in range(6)], abs=1e-6)
        assert history[1]["lambda"] == pytest.approx(sum(seen[3:]) / 3, rel=1e-5)


class TestOptions:
    def test_the_spec_tells_the_truth(self) -> None:
        spec = default().strategy("dann")
        assert dict(spec.options) == {field.name: field.default for field in dataclasses.fields(load(spec.make))}

    @pytest.mark.parametrize("option", [{"strength": -0.1}, {"gamma": 0.0}, {"hidden": 0}, {"hidden": 2.5}])
    def test_impossible(self, option: dict) -> None:
        with pytest.raises(UsageError, match=next(iter(option))):
            DANN(**option)

    def test_no_target(self) -> None:
        with pytest.raises(UsageError, match="needs unlabelled target"):
            DANN().prepare(model(), context())

    @pytest.mark.parametrize(
        ("options", "said"),
        [({"freeze": "all"}, True), ({"freeze": "layer1"}, True), ({"freeze": "all", "strength": 0.0}, False),
         ({"freeze": "stem"}, False), ({}, False)],
    )  # fmt: skip
    def test_gradients_that_reach_nothing_are_said(self, options: dict, said: bool) -> None:
        told = context(target=lambda: None, **TOLD)
        DANN(init="random", **options).prepare(model(), told)
        assert any("trains nothing of this backbone" in note for note in told.notes) == said


def domains(rows: int = 80, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(N, 6) rows of two classes. In the source another column gives the class away, in the target it does not."""
    random = np.random.default_rng(seed)
    y = np.arange(2 * rows) % 2
    x = random.normal(size=(2 * rows, 6))
    x[:, 0] += 2.0 * (2 * y - 1)
    x[:rows, 1] += 4.0 * (2 * y[:rows] - 1)
    x[rows:, 1] = random.normal(size=rows) - 4.0
    return x[:rows].astype("f4"), y[:rows], x[rows:].astype("f4"), y[rows:]


class Small(nn.Module):
    """Columns to classes by way of a hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.act, self.head = nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.hidden(x)))


def domain_gap(learner: Any, source: np.ndarray, target: np.ndarray) -> float:
    """Distance of the domains' mean features, in units of the features' spread."""
    with torch.no_grad():
        one, other = (learner.model.features(torch.from_numpy(x)) for x in (source, target))
    spread = torch.cat([one, other]).std(dim=0).clamp_min(1e-6)
    return float(((one.mean(dim=0) - other.mean(dim=0)) / spread).norm())


def test_it_brings_the_domains_together() -> None:
    x, y, target, truth = domains()
    gaps = {}
    for strength in (0.0, 1.0):
        learner = zoo.compose(Small(), "dann", precision="fp32", epochs=30, lr=1e-2, strength=strength)
        learner.fit((x, y), (target[40:], truth[40:]), target[:40])
        gaps[strength] = domain_gap(learner, x, target)
    assert gaps[1.0] < 0.7 * gaps[0.0], gaps


class TestReport:
    def fit(self, **options: Any) -> Any:
        x, y, target, truth = domains()
        learner = zoo.compose(Small(), "dann", precision="fp32", epochs=2, **options)
        return learner.fit((x, y), (target[40:], truth[40:]), target[:40])

    def test_the_source_alone_stands_beside_it(self, tmp_path: Path) -> None:
        """The same figures as those of the linear probe on the same rows."""
        x, y, target, truth = domains()
        learner = self.fit()
        probe = zoo.compose(Small(), "linear-probe", precision="fp32", calibrate=False)
        probe.fit((x, y), (target[40:], truth[40:]))
        found = learner.evaluation.beside["source-only"]
        assert found["accuracy"] == probe.evaluation.accuracy
        assert found["n"] == 40
        assert found["log_loss"] == pytest.approx(probe.evaluation.headline()["log_loss"], rel=1e-4)
        assert learner.summary()["metrics"]["beside"]["source-only"] == found
        assert f"source-only has accuracy {found['accuracy']:.3f} on the same rows" in str(learner.evaluation)
        run = learner.save(tmp_path / "run")
        record = json.loads((run / "run.json").read_text())
        assert record["metrics"]["beside"] == {"source-only": found}
        assert "source-only: accuracy" in model_card(record)
        assert zoo.load(run, backbone=Small()).evaluation == learner.evaluation

    def test_with_a_head_that_starts_elsewhere_too(self) -> None:
        first = self.fit().evaluation.beside["source-only"]
        for options in ({"init": "random"}, {"head": "mlp(4)"}):
            assert self.fit(**options).evaluation.beside["source-only"] == first

    def test_it_warns(self) -> None:
        notes = self.fit().notes
        assert any("unstable and can hurt" in note for note in notes)

    def test_it_says_where_it_hurt(self) -> None:
        learner = self.fit(lr=5.0, clip=None)
        ours, theirs = learner.evaluation.accuracy, learner.evaluation.beside["source-only"]["accuracy"]
        assert any("it did not help" in note for note in learner.notes) == (ours < theirs)
        worse = dataclasses.replace(learner.evaluation, scores={**learner.evaluation.scores, "accuracy": 0.0})
        assert "source-only has accuracy" in worse.warnings()[0]
        better = dataclasses.replace(learner.evaluation, scores={**learner.evaluation.scores, "accuracy": 1.0})
        assert not better.warnings()

    def test_targets_are_refused_as_elsewhere(self) -> None:
        x, y, target, truth = domains()
        learner = zoo.compose(Small(), "dann", precision="fp32", epochs=1)
        with pytest.raises(UsageError, match="needs unlabelled target data"):
            learner.fit((x, y))
        with pytest.raises(UsageError, match="target data has labels"):
            learner.fit((x, y), target=(target, truth))


def test_frozen_batchnorm_and_stages_stay() -> None:
    torch.manual_seed(0)
    made = Model(Network(Tiny()), build_head("linear", 8, 3)).eval()
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    given = batch(CLASSES, 24)
    y = torch.where(torch.arange(24) < 12, given.y, -1)
    rows = [loading.Batch(given.x[part], y[part], part) for part in torch.arange(24).split(8)]
    train(
        made,
        DANN(epochs=2, freeze="stem", init="random"),
        lambda epoch: rows,
        context(rows=24, pretrained=True, target=lambda: None, targets=np.zeros(12)),
        steps_per_epoch=3,
    )
    for name, tensor in made.backbone.state_dict().items():
        stays = name.startswith(("conv.", "norm.")) or "running" in name or "num_batches" in name
        assert torch.equal(tensor, before[f"backbone.{name}"]) == (stays or "classifier" in name), name

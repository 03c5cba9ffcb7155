"""Class weights, mixup and cutmix, against their formulas; and fits that use them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from zoo_plugins.strategies.from_scratch.strategy import FromScratch

import zoo
from zoo.adapt.strategy import Batch, Context, Model
from zoo.adapt.supervised import ClassWeights, mixed, weighted_loss
from zoo.adapt.targets import class_factors, row_weights
from zoo.data.task import CLASSES, MULTI_LABEL, REGRESSION, Task
from zoo.errors import UsageError
from zoo.models.accelerator import Placement
from zoo.models.network import Network
from zoo.testing.networks import Tiny

TASK = Task(CLASSES, ("a", "b", "c"))
LABELS = Task(MULTI_LABEL, ("a", "b", "c"))


def context(task: Task = TASK, **more: Any) -> Context:
    return Context(task=task, placement=Placement(torch.device("cpu"), "fp32", "a test"), **more)


def batch(rows: int = 8, epoch: int = 0, task: Task = TASK, first: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(rows, 3, 8, 8, generator=generator)
    y = torch.arange(rows) % 3 if task.kind == CLASSES else (torch.rand(rows, 3, generator=generator) > 0.5).float()
    return Batch(x, y, torch.arange(first, first + rows), epoch)


class TestClassFactors:
    y = np.array([0] * 6 + [1] * 3 + [2])

    def test_balanced(self) -> None:
        """scikit-learn's N / (C n_c)."""
        from sklearn.utils.class_weight import compute_class_weight

        expected = compute_class_weight("balanced", classes=np.arange(3), y=self.y)
        assert class_factors(self.y, TASK, "balanced").tolist() == pytest.approx(expected.tolist())

    @pytest.mark.parametrize("weight", ["balanced", {"a": 3.0}, {"a": 0.5, "c": 2}])
    def test_as_the_probe_counts_rows(self, weight: Any) -> None:
        labels = F.one_hot(torch.from_numpy(self.y), 3).double()
        rows = row_weights(labels, True, weight, TASK.classes)[:, 0]
        expected = rows / rows.mean()
        torch.testing.assert_close(class_factors(self.y, TASK, weight)[self.y].double(), expected, rtol=1e-6, atol=0)

    @pytest.mark.parametrize("weight", ["balanced", {"a": 3.0}])
    def test_labels(self, weight: Any) -> None:
        y = (np.arange(30)[:, None] % (2, 3, 5) == 0).astype(np.float32)
        labels = torch.from_numpy(y).double()
        rows = row_weights(labels, False, weight, LABELS.classes)
        expected = rows / rows.mean(dim=0)
        factors = class_factors(y, LABELS, weight).double()
        found = torch.where(labels > 0, factors[1], factors[0])
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)

    def test_a_class_without_rows(self) -> None:
        assert class_factors(np.array([0, 0, 1]), TASK, "balanced").isfinite().all()


class TestWeightedLoss:
    outputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = torch.arange(8) % 3
    factors = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)

    @pytest.mark.parametrize("smoothing", [0.0, 0.2])
    def test_classes(self, smoothing: float) -> None:
        each = F.cross_entropy(self.outputs, self.y, reduction="none", label_smoothing=smoothing)
        expected = (each * self.factors[self.y]).mean()
        got = weighted_loss(self.outputs, self.y, TASK, self.factors, label_smoothing=smoothing)
        assert got.item() == pytest.approx(expected.item())

    def test_shares_of_classes(self) -> None:
        """A mixture counts as its parts do."""
        one, other = F.one_hot(self.y, 3).double(), F.one_hot(self.y.roll(1), 3).double()
        parts = [weighted_loss(self.outputs, y, TASK, self.factors, label_smoothing=0.1) for y in (one, other)]
        got = weighted_loss(self.outputs, 0.3 * one + 0.7 * other, TASK, self.factors, label_smoothing=0.1)
        assert got.item() == pytest.approx((0.3 * parts[0] + 0.7 * parts[1]).item())

    def test_labels(self) -> None:
        y = (torch.arange(24).reshape(8, 3) % 2).double()
        factors = torch.tensor([[0.5, 1.0, 2.0], [3.0, 1.0, 0.1]], dtype=torch.float64)
        each = F.binary_cross_entropy_with_logits(self.outputs, y, reduction="none")
        expected = (each * torch.where(y > 0, factors[1], factors[0])).mean()
        assert weighted_loss(self.outputs, y, LABELS, factors).item() == pytest.approx(expected.item())

    @pytest.mark.parametrize("smoothing", [0.0, 0.2])
    def test_gradients(self, smoothing: float) -> None:
        """Against finite differences in float64."""
        outputs = self.outputs.clone().requires_grad_()
        assert torch.autograd.gradcheck(
            lambda z: weighted_loss(z, self.y, TASK, self.factors, label_smoothing=smoothing), (outputs,)
        )


class TestMixed:
    def test_mixup(self) -> None:
        given = batch()
        x, y = mixed(given, context(), mixup=0.4, cutmix=0.0)
        kept = ((x - given.x.roll(1, 0)) / (given.x - given.x.roll(1, 0))).median().item()
        assert 0 < kept < 1
        torch.testing.assert_close(x, kept * given.x + (1 - kept) * given.x.roll(1, 0), rtol=1e-4, atol=1e-4)
        one_hot = F.one_hot(given.y, 3).float()
        torch.testing.assert_close(y, kept * one_hot + (1 - kept) * one_hot.roll(1, 0), rtol=1e-4, atol=1e-4)

    def test_cutmix(self) -> None:
        """Every pixel comes from one of the two, and the targets say how many from which."""
        shares = set()
        for epoch in range(20):
            given = batch(epoch=epoch)
            x, y = mixed(given, context(), mixup=0.0, cutmix=1.0)
            own = (x == given.x).all(dim=1)
            assert ((x == given.x.roll(1, 0)).all(dim=1) | own).all()
            share = own[0].float().mean().item()
            shares.add(round(share, 3))
            one_hot = F.one_hot(given.y, 3).float()
            torch.testing.assert_close(y, share * one_hot + (1 - share) * one_hot.roll(1, 0))
            assert torch.equal(given.x, batch().x)  # the batch itself stays
        assert len(shares) > 8

    def test_both_take_turns(self) -> None:
        kinds = set()
        for epoch in range(20):
            given = batch(epoch=epoch)
            x, _ = mixed(given, context(), mixup=1.0, cutmix=1.0)
            kinds.add(bool(((x == given.x) | (x == given.x.roll(1, 0))).all()))
        assert kinds == {True, False}

    def test_beta(self) -> None:
        """The mean of Beta(a, a) is 1/2 and its variance 1 / (4 (2a + 1))."""
        shares = []
        for epoch in range(800):
            given = Batch(torch.tensor([[1.0], [0.0]]), torch.tensor([0, 1]), torch.arange(2), epoch)
            shares.append(mixed(given, context(), mixup=0.5, cutmix=0.0)[0][0].item())
        assert np.mean(shares) == pytest.approx(0.5, abs=0.04)
        assert np.var(shares) == pytest.approx(1 / 8, abs=0.02)

    def test_a_pure_function_of_seed_epoch_and_rows(self) -> None:
        first = mixed(batch(), context(), mixup=1.0, cutmix=0.0)[0]
        torch.manual_seed(3), np.random.seed(3)
        assert torch.equal(mixed(batch(), context(), mixup=1.0, cutmix=0.0)[0], first)
        for given, told in ((batch(epoch=1), context()), (batch(first=8), context()), (batch(), context(seed=1))):
            assert not torch.equal(mixed(given, told, mixup=1.0, cutmix=0.0)[0], first)

    def test_labels_are_mixed_too(self) -> None:
        given = batch(task=LABELS)
        y = mixed(given, context(LABELS), mixup=1.0, cutmix=0.0)[1]
        assert y.shape == (8, 3)
        assert ((y > 0) & (y < 1)).any()

    @pytest.mark.parametrize("x", [(torch.rand(4, 2), torch.rand(4, 2)), torch.zeros(4, 5, dtype=torch.int64)])
    def test_other_input(self, x: Any) -> None:
        with pytest.raises(UsageError, match="one floating tensor"):
            mixed(Batch(x, torch.zeros(4, dtype=torch.int64), torch.arange(4)), context(), mixup=1.0, cutmix=0.0)

    def test_cutmix_needs_pictures(self) -> None:
        given = Batch(torch.rand(4, 5), torch.zeros(4, dtype=torch.int64), torch.arange(4))
        with pytest.raises(UsageError, match="cutmix is for pictures"):
            mixed(given, context(), mixup=0.0, cutmix=1.0)


class TestOptions:
    @pytest.mark.parametrize(
        "options",
        [{"augment": "flop"}, {"mixup": -0.1}, {"cutmix": -1.0}, {"class_weight": "even"}, {"class_weight": {"a": 0}},
         {"label_smoothing": 1.0}],
    )  # fmt: skip
    @pytest.mark.parametrize("strategy", ["fine-tune", "from-scratch"])
    def test_impossible(self, strategy: str, options: dict[str, Any]) -> None:
        with pytest.raises(UsageError, match=next(iter(options))):
            zoo.compose("source_cnn", strategy, weights=None, **options)

    @pytest.mark.parametrize(
        "options", [{"label_smoothing": 0.1}, {"mixup": 0.2}, {"cutmix": 1.0}, {"class_weight": "balanced"}]
    )
    def test_nothing_for_numbers(self, options: dict[str, Any]) -> None:
        with pytest.raises(UsageError, match=next(iter(options))):
            FromScratch(**options).resolve(context(Task(REGRESSION, ("a",))))

    def test_the_loss_uses_them_all(self) -> None:
        told = context(targets=np.arange(8) % 3)
        strategy = FromScratch(mixup=1.0, class_weight={"a": 5.0}, label_smoothing=0.1)
        model = Model(Network(Tiny()), nn.Linear(8, 3)).eval()
        model.extras.update(strategy.prepare(model, told))
        assert isinstance(model.extras["class_weight"], ClassWeights)
        x, y = mixed(batch(), told, mixup=1.0, cutmix=0.0)
        factors = class_factors(told.targets, TASK, {"a": 5.0})
        expected = weighted_loss(model(x), y, TASK, factors, label_smoothing=0.1)
        assert strategy.loss(model, batch(), told)["loss"].item() == pytest.approx(expected.item())


@pytest.fixture
def skewed() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    y = np.array([0] * 40 + [1] * 16 + [2] * 10)
    x = np.eye(3)[y][:, None, None, :] * 120 + generator.integers(0, 130, (66, 8, 8, 3))
    return x.astype(np.uint8), y


VARIED = {
    "augment": "crop-0.5,trivial",
    "mixup": 0.3,
    "cutmix": 0.5,
    "class_weight": {"0": 0.5},
    "label_smoothing": 0.1,
}


@pytest.mark.usefixtures("tiny_plugin")
class TestFit:
    def compose(self, strategy: str = "from-scratch", **more: Any) -> Any:
        return zoo.compose(
            "tiny", strategy, weights=None, seed=3, precision="fp32", **{"epochs": 3, "batch_size": 8, **more}
        )

    @pytest.mark.parametrize("strategy", ["from-scratch", "fine-tune"])
    def test_each_option_changes_the_student(self, strategy: str, skewed: Any) -> None:
        plain = self.compose(strategy).fit(skewed).model.state_dict()
        for name, value in VARIED.items():
            other = self.compose(strategy, **{name: value}).fit(skewed)
            changed = [key for key, tensor in plain.items() if not torch.equal(tensor, other.model.state_dict()[key])]
            assert changed, name
            assert all(np.isfinite(epoch["loss"]) for epoch in other.history)

    @pytest.mark.parametrize("step", [3, 10])
    def test_a_resumed_fit_is_the_same(self, step: int, skewed: Any, tmp_path: Path, monkeypatch: Any) -> None:
        monkeypatch.setattr("zoo.adapt.checkpoint.Checkpoints.due", lambda self, epoch_ended: True)
        whole = self.compose(**VARIED).fit(skewed)

        def stop(what: str, done: int, total: int) -> None:
            if what == "train" and done == step:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.compose(**VARIED).fit(skewed, resume=tmp_path / "run", progress=stop)
        again = self.compose(**VARIED).fit(skewed, resume=tmp_path / "run")
        assert any("went on" in note for note in again.notes)
        for name, tensor in whole.model.state_dict().items():
            assert torch.equal(tensor, again.model.state_dict()[name]), name

    def test_what_is_saved_has_no_weights_of_classes(self, skewed: Any, tmp_path: Path) -> None:
        from safetensors.torch import load_file

        learner = self.compose(class_weight="balanced", epochs=1).fit(skewed)
        run = learner.save(tmp_path / "run")
        assert not [name for name in load_file(run / "model.safetensors") if "extras" in name]
        assert np.array_equal(zoo.load(run).predict(skewed[0]), learner.predict(skewed[0]))

    def test_a_rare_class_is_found_more_often(self) -> None:
        """Two classes that overlap, one ten times as frequent."""
        generator = np.random.default_rng(0)
        y = np.array([0] * 300 + [1] * 30)
        x = (y + generator.normal(0, 1, 330))[:, None].astype(np.float32)
        rate = {}
        for weight in (None, "balanced"):
            torch.manual_seed(0)
            module = nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 2))
            options = {"class_weight": weight, "epochs": 8, "lr": 2e-2, "precision": "fp32", "init": "random"}
            learner = zoo.compose(module, "fine-tune", **options).fit((x, y))
            rate[weight] = (learner.predict(x[y == 1]) == "1").mean()
        assert rate["balanced"] > rate[None] + 0.3

    def test_ready_input_cannot_be_augmented(self, skewed: Any) -> None:
        x = skewed[0].transpose(0, 3, 1, 2).astype(np.float32)
        with pytest.raises(UsageError, match="augment"):
            self.compose(augment="flip").fit((x, skewed[1]))

"""distillation: its losses against formulas and finite differences, its teachers, and what it is for."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from tuning_kit import TASKS, batch, context, logits, model
from zoo_plugins.strategies.distillation.strategy import Distillation, Projection, soft_distance

import zoo
from zoo.adapt.stepper import labelled_share
from zoo.adapt.strategy import UNLABELLED, Batch
from zoo.adapt.teacher import resolve_teacher
from zoo.adapt.training import train
from zoo.catalog.registry import default
from zoo.data import loading
from zoo.data.open import open_data
from zoo.data.task import CLASSES, MULTI_LABEL, REGRESSION, Task
from zoo.errors import NotFoundError, UsageError
from zoo.models.accelerator import Placement
from zoo.models.network import Network
from zoo.testing.networks import Tiny

CPU = Placement(torch.device("cpu"), "fp32", "a test")


@dataclasses.dataclass
class Said:
    """A teacher's answers, given."""

    logits: Tensor
    features: Tensor
    name: str = "given"

    def soft(self, index: Tensor, epoch: int, temperature: float) -> Tensor:
        return self.logits[index]

    def pooled(self, index: Tensor, epoch: int) -> Tensor:
        return self.features[index]


def said(rows: int = 12, width: int = 5) -> Said:
    return Said(logits(rows, 9), logits(rows, 4, width))


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


class TestDistance:
    @pytest.mark.parametrize("temperature", [1.0, 4.0, 0.5])
    def test_classes(self, temperature: float) -> None:
        student, teacher = logits(), logits(seed=9)
        p, q = softmax(teacher.double().numpy() / temperature), softmax(student.double().numpy() / temperature)
        expected = temperature**2 * (p * np.log(p / q)).sum(axis=1).mean()
        assert soft_distance(student, teacher, temperature, TASKS[CLASSES]).item() == pytest.approx(expected, rel=1e-4)

    @pytest.mark.parametrize("temperature", [1.0, 4.0])
    def test_labels(self, temperature: float) -> None:
        student, teacher = logits(), logits(seed=9)
        p = 1 / (1 + np.exp(-teacher.double().numpy() / temperature))
        q = 1 / (1 + np.exp(-student.double().numpy() / temperature))
        expected = temperature**2 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()
        found = soft_distance(student, teacher, temperature, TASKS[MULTI_LABEL]).item()
        assert found == pytest.approx(expected, rel=1e-4)

    def test_numbers(self) -> None:
        student, teacher = logits(), logits(seed=9)
        expected = ((student - teacher) ** 2).mean().item()
        assert soft_distance(student, teacher, 4.0, TASKS[REGRESSION]).item() == pytest.approx(expected)

    @pytest.mark.parametrize("kind", [CLASSES, MULTI_LABEL, REGRESSION])
    def test_nothing_between_equals(self, kind: str) -> None:
        assert soft_distance(logits(), logits(), 4.0, TASKS[kind]).item() == pytest.approx(0, abs=1e-6)

    @pytest.mark.parametrize("kind", [CLASSES, MULTI_LABEL, REGRESSION])
    def test_gradients(self, kind: str) -> None:
        student, teacher = logits(5).double().requires_grad_(), logits(5, 9).double()
        assert torch.autograd.gradcheck(lambda z: soft_distance(z, teacher, 3.0, TASKS[kind]), (student,))

    def test_the_gradient_keeps_its_size_at_high_temperature(self) -> None:
        """T^2 makes the gradient tend to that of half a squared error of centred logits / C, not to 0."""
        student, teacher = logits().requires_grad_(), logits(seed=9)
        soft_distance(student, teacher, 1000.0, TASKS[CLASSES]).backward()
        gap = student.detach() - teacher
        expected = (gap - gap.mean(dim=1, keepdim=True)) / 3 / len(gap)
        torch.testing.assert_close(student.grad, expected, atol=1e-3, rtol=1e-2)


class TestProjection:
    def test_standardised(self) -> None:
        features = logits(200, 3, 6) * 5 + 100
        features[:, 2] = 7.0
        made = Projection(4, features)
        student = logits(200, 1, 4)
        wanted = (features.double() - features.double().mean(0)) / features.double().std(0, correction=0)
        wanted[:, 2] = 0
        expected = ((made.map(student).double() - wanted) ** 2).mean().item()
        assert made.distance(student, features).item() == pytest.approx(expected, rel=1e-4)

    def test_gradients(self) -> None:
        made, teacher = Projection(4, logits(6, 3, 5)).double(), logits(6, 3, 5).double()
        student = logits(6, 1, 4).double().requires_grad_()
        assert torch.autograd.gradcheck(
            lambda x, w: nn.functional.mse_loss(x @ w.T, teacher), (student, made.map.weight)
        )
        assert torch.autograd.gradcheck(lambda x: made.distance(x, teacher), (student,))


class TestLoss:
    @pytest.mark.parametrize("kind", [CLASSES, MULTI_LABEL, REGRESSION])
    def test_labelled_and_unlabelled_rows(self, kind: str) -> None:
        """Labels count on the rows that have one; the teacher on all."""
        made, given, answers = model(), batch(kind), said()
        y = given.y.clone()
        y[3:9] = UNLABELLED if kind == CLASSES else math.nan
        mixed = Batch(given.x, y, given.index)
        strategy = Distillation(alpha=0.7, temperature=3.0)
        told = context(kind, teacher=answers)
        found = strategy.loss(made, mixed, told)
        outputs = made(given.x).detach()
        known = [0, 1, 2, 9, 10, 11]
        reference = {
            CLASSES: nn.functional.cross_entropy,
            MULTI_LABEL: nn.functional.binary_cross_entropy_with_logits,
            REGRESSION: nn.functional.mse_loss,
        }[kind]
        task = reference(outputs[known], given.y[known])
        distance = soft_distance(outputs, answers.logits, 3.0, TASKS[kind])
        torch.testing.assert_close(found["task"].detach(), task)
        torch.testing.assert_close(found["teacher"].detach(), distance)
        torch.testing.assert_close(found["loss"].detach(), 0.3 * task + 0.7 * distance)

    def test_a_batch_without_labels(self) -> None:
        made, given = model(), batch()
        bare = Batch(given.x, torch.full((12,), UNLABELLED), given.index)
        found = Distillation(alpha=0.5).loss(made, bare, context(teacher=said()))
        assert found["task"].item() == 0
        assert found["loss"].item() == pytest.approx(0.5 * found["teacher"].item())
        found["loss"].backward()

    def test_the_teacher_is_asked_by_row(self) -> None:
        made, given, answers = model(), batch(), said(40)
        index = torch.tensor([5, 39, 0, 7, 7, 12, 31, 2, 3, 4, 30, 9])
        found = Distillation(alpha=1.0).loss(made, Batch(given.x, given.y, index), context(teacher=answers))
        expected = soft_distance(made(given.x), answers.logits[index], 4.0, TASKS[CLASSES])
        torch.testing.assert_close(found["loss"], expected)

    @pytest.mark.parametrize("kind", [CLASSES, MULTI_LABEL, REGRESSION])
    def test_gradients_of_the_whole(self, kind: str) -> None:
        """By the head's weights, against finite differences in float64, unlabelled rows included."""
        made, given = model().double(), batch(kind, 6, torch.float64)
        given.y[2:4] = UNLABELLED if kind == CLASSES else math.nan
        strategy, told = Distillation(alpha=0.6), context(kind, teacher=said(6))

        def loss(weight: Tensor) -> Tensor:
            made.head.weight = None
            made.head.weight = weight
            return strategy.loss(made, given, told)["loss"]

        weight = made.head.weight.detach().clone().requires_grad_()
        del made.head._parameters["weight"]
        assert torch.autograd.gradcheck(loss, (weight,))

    def test_features(self) -> None:
        made, given, answers = model(), batch(), said(12, 5)
        strategy = Distillation(match="features", alpha=0.25, init="random")
        told = context(teacher=answers)
        extras = strategy.prepare(made, told)
        made.extras["projection"] = extras["projection"]
        found = strategy.loss(made, given, told)
        distance = extras["projection"].distance(made.features(given.x), answers.features)
        torch.testing.assert_close(found["teacher"], distance)
        torch.testing.assert_close(found["loss"], 0.75 * found["task"] + 0.25 * distance)

    def test_logits_and_features(self) -> None:
        made, given, answers = model(), batch(), said(12, 5)
        strategy = Distillation(features=0.3, alpha=0.25, temperature=2.0, init="random")
        told = context(teacher=answers)
        made.extras["projection"] = strategy.prepare(made, told)["projection"]
        found = strategy.loss(made, given, told)
        logit = soft_distance(made(given.x), answers.logits, 2.0, TASKS[CLASSES])
        pooled = made.extras["projection"].distance(made.features(given.x), answers.features)
        torch.testing.assert_close(found["teacher"], logit)
        torch.testing.assert_close(found["features"], pooled)
        torch.testing.assert_close(found["loss"], 0.75 * found["task"] + 0.25 * logit + 0.3 * pooled)

    def test_gradients_of_logits_and_features(self) -> None:
        """By the projection and the head, against finite differences in float64."""
        made, given, answers = model().double(), batch(rows=6, dtype=torch.float64), said(6, 5)
        strategy = Distillation(features=0.5, alpha=0.6, init="random")
        told = context(teacher=answers)
        made.extras["projection"] = strategy.prepare(made, told)["projection"].double()
        places = (made.head, made.extras["projection"].map)
        weights = [place.weight.detach().clone().requires_grad_() for place in places]
        for place in places:
            del place._parameters["weight"]

        def loss(*values: Tensor) -> Tensor:
            for place, value in zip(places, values, strict=True):
                place.weight = value
            return strategy.loss(made, given, told)["loss"]

        assert torch.autograd.gradcheck(loss, weights)

    def test_parts_of_a_batch_add_up(self) -> None:
        """However its labels are spread over them."""
        made, given, answers = model(), batch(), said()
        y = given.y.clone()
        y[2:11] = UNLABELLED
        strategy, told = Distillation(alpha=0.4), context(teacher=answers)
        whole = strategy.loss(made, Batch(given.x, y, given.index), told)
        total = dict.fromkeys(whole, 0.0)
        for rows in (slice(0, 5), slice(5, 12)):
            share = labelled_share(y[rows], y)
            part = Batch(given.x[rows], y[rows], given.index[rows], labelled_share=share)
            for name, value in strategy.loss(made, part, told).items():
                total[name] += value.item() * len(y[rows]) / len(y)
        assert total == pytest.approx({name: value.item() for name, value in whole.items()}, rel=1e-5)


class TestOptions:
    @pytest.mark.parametrize(
        "option",
        [
            {"alpha": 1.5},
            {"alpha": -0.1},
            {"temperature": 0.0},
            {"match": "weights"},
            {"init": "warm"},
            {"features": -1.0},
            {"features": 1.0, "match": "features"},
            {"views": 3},
            {"views": 0, "augment": "flip"},
            {"augment": "flop"},
        ],
    )
    def test_impossible(self, option: dict) -> None:
        with pytest.raises(UsageError, match=next(iter(option))):
            Distillation(**option)

    def test_no_teacher(self) -> None:
        with pytest.raises(UsageError, match="needs a teacher"):
            Distillation().prepare(model(), context())
        with pytest.raises(UsageError, match="needs a teacher"):
            resolve_teacher(None, registry=default(), placement=CPU)


def test_a_fit_moves_the_student_towards_the_teacher() -> None:
    made, given = model(), batch(rows=24)
    strategy = Distillation(alpha=1.0, epochs=60, lr=1e-2, init="random", clip=None)
    for match in ("logits", "features"):
        history = train(
            made,
            dataclasses.replace(strategy, match=match),
            lambda epoch: [loading.Batch(given.x, given.y, given.index)],
            context(teacher=said(24), rows=24),
            steps_per_epoch=1,
        )
        assert history[-1]["teacher"] < 0.8 * history[0]["teacher"]
    assert set(made.extras) == {"projection"}


@pytest.fixture
def pictures() -> tuple[np.ndarray, np.ndarray]:
    """(60, 8, 8, 3) uint8 of three classes, told apart by colour."""
    random = np.random.default_rng(1)
    y = np.arange(60) % 3
    x = np.eye(3)[y][:, None, None, :] * 120 + random.integers(0, 130, (60, 8, 8, 3))
    return x.astype(np.uint8), np.asarray(["ant", "bee", "cat"])[y]


def taught(pictures: tuple[np.ndarray, np.ndarray]) -> zoo.Learner:
    return zoo.compose("tiny", "from-scratch", precision="fp32", epochs=12, lr=1e-2).fit(pictures)


def teacher_logits(teacher: Any, data: Any, task: Task | None = None) -> Tensor:
    split = open_data(data).train
    found = resolve_teacher(teacher, registry=default(), placement=CPU)
    return found.on(split, task or split.task).logits


@pytest.mark.usefixtures("tiny_plugin")
class TestTeachers:
    def test_a_learner(self, pictures) -> None:
        learner = taught(pictures)
        torch.testing.assert_close(
            teacher_logits(learner, pictures).softmax(dim=1).numpy(), learner.predict_proba(pictures[0])
        )

    def test_columns_are_matched_by_name(self, pictures) -> None:
        learner = taught(pictures)
        turned = Task(CLASSES, ("cat", "ant", "bee"))
        straight = teacher_logits(learner, pictures)
        assert torch.equal(teacher_logits(learner, pictures, turned), straight[:, [2, 0, 1]])

    def test_a_saved_run(self, pictures, tmp_path: Path) -> None:
        learner = taught(pictures)
        run = learner.save(tmp_path / "run")
        torch.testing.assert_close(teacher_logits(str(run), pictures), teacher_logits(learner, pictures))

    def test_a_backbone_with_its_own_head(self, pictures) -> None:
        learner = taught(pictures)
        learner.publish("tiny.colours")
        torch.testing.assert_close(teacher_logits("tiny.colours", pictures), teacher_logits(learner, pictures))
        assert resolve_teacher("tiny.colours", registry=default(), placement=CPU).notes(TASKS[CLASSES]) == []

    def test_a_module_is_taken_at_its_count(self, pictures) -> None:
        torch.manual_seed(0)
        module = Tiny(num_classes=3)
        x = torch.randn(20, 3, 8, 8)
        data = (x, np.asarray(["ant", "bee", "cat"])[np.arange(20) % 3])
        found = teacher_logits(module, data)
        with torch.no_grad():
            expected = module.eval()(open_data(data).train.samples.take(open_data(data).train.rows))
        torch.testing.assert_close(found, expected)
        made = resolve_teacher(module, registry=default(), placement=CPU)
        assert "ant, bee, cat" in made.notes(Task(CLASSES, ("ant", "bee", "cat")))[0]

    def test_a_module_without_a_classifier(self) -> None:
        module = nn.Sequential(nn.Conv2d(3, 3, 8), nn.Flatten())
        x = torch.randn(20, 3, 8, 8)
        data = (x, np.arange(20) % 3)
        found = resolve_teacher(module, registry=default(), placement=CPU)
        answers = found.on(open_data(data).train, Task(CLASSES, ("0", "1", "2")))
        torch.testing.assert_close(answers.logits, answers.features)
        assert answers.logits.shape == (20, 3)

    def test_the_callers_module_is_left_alone(self) -> None:
        module = Tiny(num_classes=3).train()
        before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        teacher_logits(module, (torch.randn(20, 3, 8, 8), np.arange(20) % 3))
        assert all(child.training for child in module.modules())
        for name, tensor in module.state_dict().items():
            assert torch.equal(tensor, before[name])

    def test_other_names(self, pictures) -> None:
        learner = taught(pictures)
        others = (pictures[0], np.char.add(pictures[1], "s"))
        with pytest.raises(UsageError, match="other classes") as caught:
            zoo.compose("tiny", "distillation", weights=None, teacher=learner).fit(others)
        assert "ant, bee, cat" in caught.value.why
        assert "ants, bees, cats" in caught.value.why
        assert "match=features" in caught.value.hint
        student = zoo.compose("tiny", "distillation", weights=None, teacher=learner, match="features", epochs=1)
        assert student.fit(others).evaluation.n == 12

    def test_another_count(self, pictures) -> None:
        module = Network(Tiny(num_classes=7), preprocessing=default().backbone("tiny").preprocessing)
        with pytest.raises(UsageError, match="other classes"):
            zoo.compose("tiny", "distillation", weights=None, teacher=module).fit(pictures)

    def test_nobody(self, pictures, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError):
            teacher_logits("tiny.nothing", pictures)
        with pytest.raises(NotFoundError, match="no run"):
            teacher_logits(str(tmp_path / "gone"), pictures)
        with pytest.raises(UsageError, match="is no teacher"):
            teacher_logits(7, pictures)
        with pytest.raises(UsageError, match="not fitted"):
            teacher_logits(zoo.compose("tiny", "fine-tune", weights=None), pictures)

    def test_from_end_to_end(self, pictures, tmp_path: Path) -> None:
        """Two labels a class, the teacher on the rest; the projection and the teacher stay behind."""
        teacher = taught(pictures)
        learner = zoo.compose("tiny", "distillation", weights=None, precision="fp32", teacher=teacher, lr=1e-2)
        learner.fit(pictures, target="rest", labels_per_class=2)
        assert learner.record["data"]["rows"] == {"train": 6, "unlabelled": 42, "val": 12}
        assert set(learner.history[0]) >= {"loss", "task", "teacher"}
        assert learner.evaluation.accuracy >= 0.9
        again = zoo.load(learner.save(tmp_path / "student"))
        np.testing.assert_array_equal(again.predict_proba(pictures[0]), learner.predict_proba(pictures[0]))

"""Teachers: their kind of task, no random numbers, and what a record says of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import zoo
from zoo.adapt.teacher import Asked, describe_teacher, mean_logits, resolve_teacher
from zoo.catalog.registry import default
from zoo.catalog.spec import Preprocessing
from zoo.data.augment import augmented, parse
from zoo.data.open import open_data
from zoo.data.preprocess import reader
from zoo.data.task import CLASSES, MULTI_LABEL, REGRESSION, Task
from zoo.errors import IntegrityError, NotFoundError, UsageError
from zoo.models.accelerator import choose
from zoo.models.network import Network
from zoo.report.push import push
from zoo.testing.networks import Tiny

pytestmark = pytest.mark.usefixtures("tiny_plugin")


@pytest.fixture
def pictures() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    y = np.arange(30) % 3
    x = np.eye(3)[y][:, None, None, :] * 120 + random.integers(0, 130, (30, 8, 8, 3))
    return x.astype(np.uint8), y


def compose(strategy: str, **more: object) -> zoo.Learner:
    return zoo.compose("tiny", strategy, precision="fp32", accelerator="cpu", **{"weights": None, **more})


def targets(kind: str, y: np.ndarray) -> np.ndarray:
    return {"classes": y, "multi-label": np.eye(3, dtype=int)[y], "regression": np.eye(3)[y] + 0.5}[kind]


@pytest.mark.parametrize("kind", ["classes", "multi-label", "regression"])
def test_a_named_teacher_knows_its_kind_of_task(kind: str, pictures) -> None:
    x, y = pictures
    compose("linear-probe").fit((x, targets(kind, y))).publish("tiny.mine")
    for teacher in ("tiny.mine", zoo.load_backbone("tiny.mine", accelerator="cpu")):
        student = compose("distillation", teacher=teacher, epochs=1)
        assert student.fit((x, targets(kind, y))).task.kind == kind
        for other in {"classes", "multi-label", "regression"} - {kind}:
            with pytest.raises(UsageError, match="other classes") as caught:
                compose("distillation", teacher=teacher, epochs=1).fit((x, targets(other, y)))
            assert kind in caught.value.why


def test_the_student_does_not_depend_on_how_the_teacher_is_given(pictures, tmp_path: Path) -> None:
    teacher = compose("linear-probe", seed=7).fit(pictures)
    run = teacher.save(tmp_path / "run")
    first, second = (compose("distillation", teacher=given, epochs=1).fit(pictures) for given in (teacher, str(run)))
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name


def test_the_licence_of_who_taught_stays(pictures, tmp_path: Path) -> None:
    compose("linear-probe").fit(pictures).publish("tiny.nc", license="cc-by-nc-4.0")
    student = compose("distillation", teacher="tiny.nc", epochs=1).fit(pictures)
    taught = [{"name": "tiny.nc", "license": "cc-by-nc-4.0"}]
    run = student.save(tmp_path / "run")
    assert json.loads((run / "run.json").read_text())["composition"]["strategy"]["resolved"]["taught_by"] == taught
    card = (run / "README.md").read_text()
    assert 'license: "cc-by-nc-4.0"' in card
    assert "| taught by | tiny.nc, licence cc-by-nc-4.0 |" in card
    assert "taught by tiny.nc: the licence cc-by-nc-4.0 allows no commercial use" in card
    assert "taught by tiny.nc: " in " ".join(push(run, "me/tiny", dry_run=True).notes)
    published = zoo.load(run, accelerator="cpu").publish("tiny.student")
    assert published.license == "cc-by-nc-4.0"
    assert (published.trained_on or "").endswith(", taught by tiny.nc")
    again = compose("distillation", teacher=run, epochs=1).fit(pictures)  # and is handed on
    assert again.record["resolved"]["taught_by"] == taught
    record = json.loads((run / "run.json").read_text())
    record["composition"]["strategy"]["resolved"]["taught_by"] = [{"name": 3}]
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(IntegrityError, match="taught_by"):
        zoo.load(run)


@pytest.mark.parametrize("name", ["runs/nope", "runs/a/b"])
def test_a_run_that_is_not_there_is_said_to_be_one(pictures, name: str) -> None:
    with pytest.raises(NotFoundError, match=f"the teacher is not there: no run at {name}") as caught:
        compose("distillation", teacher=name, epochs=1).fit(pictures)
    assert "no plugin 'runs'" in (caught.value.why or "")
    with pytest.raises(NotFoundError, match="nothere"):
        compose("distillation", teacher="tiny/nothere", epochs=1).fit(pictures)


def test_resolving_draws_no_random_numbers(pictures, tmp_path: Path) -> None:
    learner = compose("fine-tune", head="mlp(4)", epochs=1).fit(pictures)
    run = learner.save(tmp_path / "run")
    compose("linear-probe").fit(pictures).publish("tiny.mine")
    for teacher in (run, learner, "tiny.mine", nn.Linear(2, 2)):
        before = torch.get_rng_state()
        resolve_teacher(teacher, registry=default(), placement=choose("cpu", "fp32"))
        assert torch.equal(torch.get_rng_state(), before), teacher


def test_descriptions(pictures, tmp_path: Path) -> None:
    first, same = (compose("linear-probe", seed=3).fit(pictures) for _ in range(2))
    other = compose("linear-probe", seed=4).fit(pictures)
    told = describe_teacher(first)
    assert (told["learner"], told["backbone"], len(told["state"])) == ("linear-probe", "tiny", 64)
    assert told == describe_teacher(same)
    assert told["state"] != describe_teacher(other)["state"]
    assert json.loads(json.dumps(told)) == describe_teacher(told)
    module = nn.Linear(2, 2)
    assert describe_teacher(module)["module"] == "Linear"
    assert describe_teacher(module) == describe_teacher(module)
    assert describe_teacher(tmp_path) == str(tmp_path)
    assert (describe_teacher("tiny.a"), describe_teacher(None)) == ("tiny.a", None)


def test_a_description_cannot_teach(pictures) -> None:
    told = describe_teacher(compose("linear-probe").fit(pictures))
    with pytest.raises(UsageError, match="only its description was saved"):
        compose("distillation", teacher=told, epochs=1).fit(pictures)


def test_what_a_fit_settled_is_kept(pictures) -> None:
    learner = compose("fine-tune").fit(pictures)
    resolved = learner.record["resolved"]
    assert resolved == {"lr": 1e-3, "epochs": len(learner.history), "init": "random", "batchnorm": "train"}
    assert (
        compose("fine-tune", lr=0.01, epochs=1, init="probe", batchnorm="train").fit(pictures).record["resolved"] == {}
    )
    scratch = compose("from-scratch", recipe="article", epochs=1).fit(pictures).record["resolved"]
    assert (scratch["lr"], scratch["optimizer"], scratch["clip"]) == (0.01, "sgd", None)
    assert set(compose("linear-probe").fit(pictures).record["resolved"]) == {"regularizer", "temperature"}
    fixed = compose("linear-probe", regularizer=0.1, calibrate=False).fit(pictures)
    assert fixed.record["resolved"] == {"regularizer": 0.1}


def test_a_record_describes_a_teacher_that_has_no_name(pictures, tmp_path: Path) -> None:
    teacher = compose("linear-probe").fit(pictures)
    student = compose("distillation", teacher=teacher, epochs=1).fit(pictures)
    run = student.save(tmp_path / "run")
    options = json.loads((run / "run.json").read_text())["composition"]["strategy"]["options"]
    assert options["teacher"] == describe_teacher(teacher)
    again = zoo.load(run, accelerator="cpu")
    np.testing.assert_array_equal(again.predict_proba(pictures[0]), student.predict_proba(pictures[0]))
    with pytest.raises(UsageError, match="only its description was saved"):
        again.fit(pictures)


CPU = choose("cpu", "fp32")
LARGER = Preprocessing(input_size=(3, 12, 12), mean=(0.4,) * 3, std=(0.2,) * 3, interpolation="bilinear", crop_pct=1.0)


class Pooled(Tiny):
    """Eats any size, and counts the rows that pass."""

    def __init__(self) -> None:
        torch.manual_seed(5)
        super().__init__(num_classes=3)
        self.rows: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.rows.append(len(x))
        return super().forward(x)


def network(preprocessing: Preprocessing = LARGER) -> Network:
    return Network(Pooled(), preprocessing=preprocessing)


class TestSeveral:
    @pytest.mark.parametrize("temperature", [1.0, 4.0])
    def test_the_mean_of_softened_classes(self, temperature: float) -> None:
        each = [torch.randn(5, 3, generator=torch.Generator().manual_seed(i)) * 4 for i in range(3)]
        found = mean_logits(each, temperature, Task(CLASSES, ("a", "b", "c")))
        wanted = torch.stack([(one / temperature).softmax(dim=1) for one in each]).mean(dim=0)
        torch.testing.assert_close((found / temperature).softmax(dim=1), wanted)

    def test_the_mean_of_labels_and_of_numbers(self) -> None:
        each = [torch.randn(5, 3, generator=torch.Generator().manual_seed(i)) * 9 for i in range(2)]
        found = mean_logits(each, 2.0, Task(MULTI_LABEL, ("a", "b", "c")))
        wanted = torch.stack([(one / 2).sigmoid() for one in each]).mean(dim=0)
        torch.testing.assert_close((found / 2).sigmoid(), wanted)
        found = mean_logits(each, 2.0, Task(REGRESSION, ("a", "b", "c")))
        torch.testing.assert_close(found, (each[0] + each[1]) / 2)

    def test_sure_teachers_stay_finite(self) -> None:
        sure = [torch.tensor([[900.0, 0.0, -900.0]]), torch.tensor([[800.0, 0.0, -900.0]])]
        for kind in (CLASSES, MULTI_LABEL):
            assert mean_logits(sure, 1.0, Task(kind, ("a", "b", "c"))).isfinite().all()

    def test_they_teach_together(self, pictures, tmp_path: Path) -> None:
        learner = compose("linear-probe", seed=7).fit(pictures)
        run = compose("from-scratch", epochs=1, seed=2).fit(pictures).save(tmp_path / "run")
        split = open_data(pictures).train
        both = resolve_teacher([learner, str(run)], registry=default(), placement=CPU).on(split, split.task)
        apart = [
            resolve_teacher(one, registry=default(), placement=CPU).on(split, split.task) for one in (learner, run)
        ]
        wanted = torch.stack([one.logits.div(3).softmax(dim=1) for one in apart]).mean(dim=0)
        index = torch.tensor([4, 0, 9])
        torch.testing.assert_close(both.soft(index, 0, 3.0).div(3).softmax(dim=1), wanted[index])
        assert torch.equal(both.features, torch.cat([one.features for one in apart], dim=1))
        student = compose("distillation", teacher=[learner, str(run)], features=0.1, epochs=1).fit(pictures)
        saved = student.save(tmp_path / "student")
        told = json.loads((saved / "run.json").read_text())["composition"]["strategy"]["options"]["teacher"]
        assert told == [describe_teacher(learner), str(run)]
        zoo.load(saved, accelerator="cpu")
        with pytest.raises(UsageError, match="list of teachers is empty"):
            compose("distillation", teacher=[], epochs=1).fit(pictures)

    def test_all_must_know_the_classes(self, pictures) -> None:
        learner = compose("linear-probe").fit(pictures)
        other = compose("linear-probe").fit((pictures[0], np.asarray(["x", "y", "z"])[pictures[1]]))
        with pytest.raises(UsageError, match="other classes"):
            compose("distillation", teacher=[learner, other], epochs=1).fit(pictures)


class TestViews:
    def test_the_teacher_sees_what_the_student_sees_in_its_own_way(self, pictures) -> None:
        split, policy = open_data(pictures).train, parse("crop-0.5,flip")
        given = network()
        asked = Asked(policy=policy, seed=3, view=lambda epoch: epoch % 2)
        answers = resolve_teacher(given, registry=default(), placement=CPU).on(split, split.task, asked)
        index = torch.tensor([7, 2, 11])
        for epoch in (0, 1, 2, 3):
            rows = augmented(split, policy, 3, epoch % 2).subset(index.numpy())
            read = reader(policy.seen_by(LARGER))
            x = torch.stack([read(rows.raw(i)) for i in range(3)])
            assert x.shape == (3, 3, 12, 12)
            with torch.no_grad():
                torch.testing.assert_close(answers.soft(index, epoch, 4.0), given.eval()(x))
                torch.testing.assert_close(answers.pooled(index, epoch), given.features(x))
        assert not torch.equal(answers.soft(index, 0, 4.0), answers.soft(index, 1, 4.0))

    def test_each_view_is_asked_for_once(self, pictures) -> None:
        given = network()
        told: dict[str, int] = {}
        for name, cache in (("cached", True), ("in each step", False)):
            options = {"teacher": given, "augment": "flip", "views": 2, "epochs": 6, "batch_size": 8, "cache": cache}
            teachers: list[Pooled] = []
            forward = Pooled.forward

            def counting(self: Pooled, x: torch.Tensor, teachers=teachers, forward=forward) -> torch.Tensor:
                teachers.append(self)
                return forward(self, x)

            Pooled.forward = counting
            try:
                compose("distillation", **options).fit(pictures)
            finally:
                Pooled.forward = forward
            told[name] = len(teachers)
        # 24 rows in passes of 32: once for each view; against three steps in each of six epochs, and the first question
        assert told == {"cached": 2, "in each step": 3 * 6 + 1}

    @pytest.mark.parametrize("kind", ["module", "learner", "list"])
    @pytest.mark.parametrize("augment", [None, "crop-0.6,flip"])
    def test_a_cached_teacher_makes_the_same_student(self, kind: str, augment: str | None, pictures) -> None:
        """To the last bit: labelled and unlabelled rows, logits and features, batches that do not divide."""
        learner = compose("from-scratch", epochs=2, seed=9).fit(pictures)
        teacher = {"module": network(), "learner": learner, "list": [learner, network()]}[kind]
        options = {"teacher": teacher, "features": 0.2, "epochs": 4, "batch_size": 7, "seed": 1, "augment": augment}
        if augment:
            options["views"] = 2
        cached, asked = (
            compose("distillation", cache=cache, **options).fit(pictures, target="rest", labels_per_class=3)
            for cache in (True, False)
        )
        assert [one["loss"] for one in cached.history] == [one["loss"] for one in asked.history]
        for name, tensor in cached.model.state_dict().items():
            assert torch.equal(tensor, asked.model.state_dict()[name]), name

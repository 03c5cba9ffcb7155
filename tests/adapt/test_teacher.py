"""Teachers: their kind of task, no random numbers, and what a record says of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import zoo
from zoo.adapt.teacher import describe_teacher, resolve_teacher
from zoo.catalog.registry import default
from zoo.errors import UsageError
from zoo.models.accelerator import choose

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

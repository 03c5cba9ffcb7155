"""A fit that was broken off goes on, and ends as if it had never been."""

from __future__ import annotations

import json
import math
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import zoo
from zoo.adapt.checkpoint import TENSORS
from zoo.adapt.learner import Learner
from zoo.errors import IntegrityError, TrainingError, UsageError

pytestmark = pytest.mark.usefixtures("tiny_plugin")

STRATEGIES = ("from-scratch", "fine-tune", "distillation", "linear-probe")


@pytest.fixture
def pictures() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    y = np.arange(66) % 3
    x = np.eye(3)[y][:, None, None, :] * 120 + generator.integers(0, 130, (66, 8, 8, 3))
    return x.astype(np.uint8), y


def compose(strategy: str = "from-scratch", **more: Any) -> Learner:
    options: dict[str, Any] = {"seed": 3, "precision": "fp32"}
    if strategy != "linear-probe":
        options |= {"epochs": 4, "batch_size": 8}
    if strategy == "distillation":
        torch.manual_seed(0)
        from zoo.testing.networks import Tiny

        options |= {"teacher": Tiny(num_classes=3).eval(), "match": "features"}
    return zoo.compose("tiny", strategy, weights=None, **{**options, **more})


class Stop(Exception):  # noqa: N818
    """What breaks a fit off."""


def break_off(learner: Learner, data: Any, run: Path, step: int) -> None:
    """Fit until so many steps are done; what is on disk then is all that is left."""

    def stop(what: str, done: int, total: int) -> None:
        if what == "train" and done == step:
            raise KeyboardInterrupt  # not an error, so no last good state is written

    with pytest.raises(KeyboardInterrupt):
        learner.fit(data, resume=run, progress=stop)


def assert_same(one: Learner, other: Learner) -> None:
    state = other.model.state_dict()
    assert set(one.model.state_dict()) == set(state)
    for name, tensor in one.model.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    timed = ("seconds", "rows_per_second")
    for mine, theirs in zip(one.history, other.history, strict=True):
        assert {k: v for k, v in mine.items() if k not in timed} == {k: v for k, v in theirs.items() if k not in timed}
    assert one.evaluation == other.evaluation


@pytest.mark.parametrize("strategy", STRATEGIES[:3])
@pytest.mark.parametrize("step", [3, 7, 16, 28])
def test_it_ends_as_if_it_had_never_been(strategy: str, step: int, pictures, tmp_path: Path) -> None:
    """53 rows in batches of 8: 7 a step, with BatchNorm and dropout at work; the last of one row or more."""
    whole = compose(strategy).fit(pictures)
    break_off(compose(strategy), pictures, tmp_path / "run", step)
    again = compose(strategy).fit(pictures, resume=tmp_path / "run")
    assert_same(whole, again)
    lines = (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == again.history
    assert any("went on" in note for note in again.notes) == (step > 7)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_keeping_checkpoints_changes_nothing(strategy: str, pictures, tmp_path: Path) -> None:
    assert_same(compose(strategy).fit(pictures), compose(strategy).fit(pictures, resume=tmp_path / "run"))


def test_within_an_epoch(pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.adapt.checkpoint.Checkpoints.due", lambda self, epoch_ended: True)
    whole = compose().fit(pictures)
    for step in (2, 9, 13):
        break_off(compose(), pictures, tmp_path / "run", step)
    newest = max((tmp_path / "run" / "checkpoints").iterdir())
    assert newest.name == "step-00000012"
    assert_same(whole, compose().fit(pictures, resume=tmp_path / "run"))


def test_after_the_last_step_of_an_epoch(pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """53 rows in batches of 26: the lone last row has joined the second batch, and nothing of the epoch is left."""
    monkeypatch.setattr("zoo.adapt.checkpoint.Checkpoints.due", lambda self, epoch_ended: not epoch_ended)
    options = {"batch_size": 26, "batchnorm": "train"}
    whole = compose("fine-tune", **options).fit(pictures)
    break_off(compose("fine-tune", **options), pictures, tmp_path / "run", 3)
    newest = max((tmp_path / "run" / "checkpoints").iterdir())
    assert newest.name == "step-00000002"
    assert_same(whole, compose("fine-tune", **options).fit(pictures, resume=tmp_path / "run"))


@pytest.mark.parametrize("options", [{"optimizer": "sgd", "momentum": 0.9}, {"optimizer": "sgd", "momentum": 0.0}, {}])
def test_every_optimizer(options: dict[str, Any], pictures, tmp_path: Path) -> None:
    whole = compose(**options).fit(pictures)
    break_off(compose(**options), pictures, tmp_path / "run", 10)
    assert_same(whole, compose(**options).fit(pictures, resume=tmp_path / "run"))


@pytest.mark.parametrize("step", [9, 14])
def test_gradual_unfreezing(step: int, pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken off in and between epochs that train more and more."""
    monkeypatch.setattr("zoo.adapt.checkpoint.Checkpoints.due", lambda self, epoch_ended: True)
    options = {"unfreeze": "gradual", "ema": 0.9, "layer_decay": 0.5}
    whole = compose("fine-tune", **options).fit(pictures)
    break_off(compose("fine-tune", **options), pictures, tmp_path / "run", step)
    assert_same(whole, compose("fine-tune", **options).fit(pictures, resume=tmp_path / "run"))


def test_random_numbers_of_python_and_numpy_too(pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss that draws from all three, in an order that a resume must not change."""
    from zoo_plugins.strategies.from_scratch.strategy import FromScratch

    loss = FromScratch.loss

    def noisy(self, model, batch, context):
        found = loss(self, model, batch, context)
        found["loss"] = found["loss"] * (1 + random.random() + np.random.rand() + torch.rand(()))
        return found

    monkeypatch.setattr(FromScratch, "loss", noisy)
    random.seed(1), np.random.seed(1)
    whole = compose().fit(pictures)
    kept = random.random(), np.random.rand()
    random.seed(2), np.random.seed(2)
    break_off(compose(), pictures, tmp_path / "run", 10)
    assert_same(whole, compose().fit(pictures, resume=tmp_path / "run"))
    random.seed(1), np.random.seed(1)
    assert kept == (random.random(), np.random.rand()), "the caller's numbers go on as before"


class TestFolder:
    def test_a_run_under_way_cannot_be_loaded(self, pictures, tmp_path: Path) -> None:
        break_off(compose(), pictures, tmp_path / "run", 9)
        assert json.loads((tmp_path / "run" / "run.json").read_text())["state"] == "running"
        with pytest.raises(IntegrityError, match="not finished") as caught:
            zoo.load(tmp_path / "run")
        assert "--resume" in caught.value.hint

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_saving_there_ends_it(self, strategy: str, pictures, tmp_path: Path) -> None:
        learner = compose(strategy).fit(pictures, resume=tmp_path / "run")
        assert learner.save(tmp_path / "run") == tmp_path / "run"
        assert json.loads((tmp_path / "run" / "run.json").read_text())["state"] == "done"
        loaded = zoo.load(tmp_path / "run")
        np.testing.assert_array_equal(loaded.predict_proba(pictures[0]), learner.predict_proba(pictures[0]))
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()}
        steps: list[Any] = []
        again = compose(strategy).fit(
            pictures, resume=tmp_path / "run", progress=lambda what, *_: steps.append(what) if what == "train" else None
        )
        assert not steps
        assert again.evaluation == learner.evaluation
        after = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()}
        assert before == after
        with pytest.raises(UsageError, match="exists already"):
            again.save(tmp_path / "run")

    @pytest.mark.parametrize(
        ("change", "named"),
        [({"seed": 4}, "seed: 3 there, 4 now"), ({"epochs": 5}, "epochs 4 there, 5 now"), ({"lr": 0.5}, "lr")],
    )
    def test_other_choices(self, change: dict[str, Any], named: str, pictures, tmp_path: Path) -> None:
        break_off(compose(), pictures, tmp_path / "run", 9)
        before = sorted(path for path in (tmp_path / "run").rglob("*"))
        with pytest.raises(UsageError, match="begun otherwise") as caught:
            compose(**change).fit(pictures, resume=tmp_path / "run")
        assert named in caught.value.why
        assert before == sorted(path for path in (tmp_path / "run").rglob("*"))

    def test_other_data(self, pictures, tmp_path: Path) -> None:
        break_off(compose(), pictures, tmp_path / "run", 9)
        x, y = pictures
        with pytest.raises(UsageError, match="begun otherwise") as caught:
            compose().fit((x[:-1], y[:-1]), resume=tmp_path / "run")
        assert "data" in caught.value.why
        with pytest.raises(UsageError, match="begun otherwise"):
            compose().fit((x, np.roll(y, 1)), resume=tmp_path / "run")

    def test_something_else_is_there(self, pictures, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "photo.png").write_text("")
        with pytest.raises(UsageError, match="no run"):
            compose().fit(pictures, resume=tmp_path / "mine")
        assert os.listdir(tmp_path / "mine") == ["photo.png"]

    def test_a_failure_before_anything_was_learned_leaves_nothing(self, pictures, tmp_path: Path) -> None:
        with pytest.raises(UsageError):
            compose("fine-tune", freeze="nowhere").fit(pictures, resume=tmp_path / "a" / "run")
        assert not (tmp_path / "a").exists()

    def test_one_process_at_a_time(self, pictures, tmp_path: Path) -> None:
        def again(what: str, *_: int) -> None:
            if what == "train":
                compose().fit(pictures, resume=tmp_path / "run")

        with pytest.raises(UsageError, match="another process"):
            compose().fit(pictures, resume=tmp_path / "run", progress=again)

    def test_a_damaged_checkpoint_is_said_and_the_one_before_it_used(self, pictures, tmp_path: Path) -> None:
        whole = compose().fit(pictures)
        break_off(compose(), pictures, tmp_path / "run", 23)
        newest = max((tmp_path / "run" / "checkpoints").iterdir())
        os.truncate(newest / TENSORS, 100)
        again = compose().fit(pictures, resume=tmp_path / "run")
        assert_same(whole, again)
        assert any(newest.name in note for note in again.notes)


class TestFailures:
    def test_the_last_good_state_is_kept(self, pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A loss that is not finite once, in the midst of an epoch: without it, the fit ends as ever."""
        from zoo_plugins.strategies.from_scratch.strategy import FromScratch

        loss, calls = FromScratch.loss, []

        def spoiled(self, model, batch, context):
            found = loss(self, model, batch, context)
            calls.append(batch)
            return {"loss": found["loss"] * math.nan} if len(calls) == 11 else found

        whole = compose().fit(pictures)
        with monkeypatch.context() as patch:
            patch.setattr(FromScratch, "loss", spoiled)
            with pytest.raises(TrainingError, match="epoch 1, step 10") as caught:
                compose().fit(pictures, resume=tmp_path / "run")
        assert caught.value.exit_code == 7
        assert "step-00000010" in caught.value.__notes__[0]
        assert_same(whole, compose().fit(pictures, resume=tmp_path / "run"))

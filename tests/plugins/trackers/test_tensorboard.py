"""The tensorboard plugin: off unless asked for, and its event files read back."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo

pytestmark = pytest.mark.usefixtures("tiny_plugin")


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    y = np.arange(40) % 2
    return (y[:, None, None, None] * 90 + generator.integers(0, 130, (40, 8, 8, 3))).astype(np.uint8), y


def compose(**more: Any) -> Any:
    return zoo.compose("tiny", "from-scratch", precision="fp32", **{"epochs": 3, "batch_size": 8, **more})


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """By tag: (step, value)."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def assert_tells(folder: Path, history: list[dict[str, Any]]) -> None:
    found = read(folder)
    assert set(found) == set(history[0]) - {"epoch", "epochs"}
    for tag, pairs in found.items():
        assert [step for step, _ in pairs] == list(range(len(history)))
        assert [value for _, value in pairs] == pytest.approx([epoch[tag] for epoch in history], rel=1e-6)


def test_into_the_runs_folder(data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_TENSORBOARD", "1")
    learner = compose().fit(data, resume=tmp_path / "run")
    learner.save(tmp_path / "run")
    assert_tells(tmp_path / "run" / "tensorboard", learner.history)
    assert zoo.load(tmp_path / "run").evaluation == learner.evaluation


def test_a_fit_without_a_folder(data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_TENSORBOARD", "yes")
    histories = [compose(seed=seed).fit(data).history for seed in (0, 1)]
    for number, history in enumerate(histories, start=1):
        assert_tells(tmp_path / "runs" / "tensorboard" / f"tiny-from-scratch-{number}", history)


def test_another_place_and_a_fit_that_goes_on(data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken off after an epoch was told and before it was kept: the epoch is told again, and counts once."""
    monkeypatch.setenv("ZOO_TENSORBOARD", str(tmp_path / "board"))
    from zoo.adapt.checkpoint import Checkpoints

    with monkeypatch.context() as patch:
        writes = []
        write = Checkpoints.write

        def fails(self: Checkpoints, *arguments: Any) -> Any:
            writes.append(True)
            if len(writes) > 1:
                raise KeyboardInterrupt
            return write(self, *arguments)

        patch.setattr(Checkpoints, "write", fails)
        patch.setattr("zoo.adapt.checkpoint.Checkpoints.due", lambda self, epoch_ended: epoch_ended)
        with pytest.raises(KeyboardInterrupt):
            compose().fit(data, resume=tmp_path / "run")
    learner = compose().fit(data, resume=tmp_path / "run")
    assert any("went on" in note for note in learner.notes)
    assert_tells(tmp_path / "board" / "run", learner.history)


@pytest.mark.parametrize("value", [None, "", "0", "off"])
def test_off(value: str | None, data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if value is None:
        monkeypatch.delenv("ZOO_TENSORBOARD", raising=False)
    else:
        monkeypatch.setenv("ZOO_TENSORBOARD", value)
    compose(epochs=1).fit(data, resume="run")
    assert sorted(path.name for path in Path("run").iterdir() if not path.name.startswith(".")) == [
        "checkpoints", "history.jsonl", "run.json",
    ]  # fmt: skip
    assert not Path("runs").exists()


def test_without_the_package(data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """It is said once, and the fit is as ever."""
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: None if name == "tensorboard" else found(name))
    monkeypatch.setenv("ZOO_TENSORBOARD", "1")
    learner = compose().fit(data, resume=tmp_path / "run")
    assert len(learner.history) == 3
    said = capsys.readouterr().err
    assert said.count("tensorboard is not installed") == 1
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_a_list_imports_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys, zoo; zoo.list_strategies(); assert not {'tensorboard', 'torch'} & set(sys.modules)"
    monkeypatch.setenv("ZOO_TENSORBOARD", "1")
    subprocess.run([sys.executable, "-c", code], check=True)

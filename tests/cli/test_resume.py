"""`zoo fit --resume`: what is given must agree with what the run was begun with, and nothing has to be given."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from zoo.adapt.training import _Loop

pytestmark = pytest.mark.usefixtures("tiny_plugin")

FIT = ("-b", "tiny", "-s", "from-scratch", "--set", "epochs=3", "--batch-size", 8, "--seed", 5, "--precision", "fp32")


@pytest.fixture
def broken_off(cli, photos: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Begin a fit with these options, and interrupt it after four steps."""

    def call(*options: Any) -> Any:
        stop = _Loop._stop_if_asked

        def after_four(self: _Loop) -> None:
            self.interrupt.asked = self.stepper.done == 4
            stop(self)

        with monkeypatch.context() as patch:
            patch.setattr(_Loop, "_stop_if_asked", after_four)
            said = cli("fit", photos, *FIT, *options)
        assert said.code == 130, said.err
        return said

    return call


def record(run: str = "run") -> dict[str, Any]:
    return json.loads(Path(run, "run.json").read_text())


def test_it_needs_no_other_flag(cli, broken_off, photos: Path) -> None:
    assert cli("fit", photos, *FIT, "-o", "whole").code == 0
    said = broken_off("-o", "run")
    assert "--resume -o run" in said.err
    assert "step 4 of 9" in said.err.lower()
    assert record()["state"] == "running"
    said = cli("fit", "--resume", "-o", "run", "--json")
    assert said.code == 0, said.err
    assert "went on from its checkpoint after step 4" in said.err
    assert json.loads(said.out)["seed"] == 5
    assert record()["state"] == "done"
    assert Path("run/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()
    assert len(Path("run/history.jsonl").read_text().splitlines()) == 3


def test_done_is_nothing_to_do(cli, broken_off, photos: Path) -> None:
    assert cli("fit", photos, *FIT, "-o", "run").code == 0
    before = Path("run/run.json").read_bytes()
    said = cli("fit", "--resume", "-o", "run", "--json")
    assert said.code == 0
    assert "nothing to do" in said.err
    assert json.loads(said.out)["metrics"] == {
        key: value for key, value in record()["metrics"].items() if key in json.loads(said.out)["metrics"]
    }
    assert cli("fit", photos, *FIT, "-o", "run", "--resume").code == 0
    assert cli("fit", photos, *FIT, "--seed", 6, "-o", "run", "--resume").code == 2
    assert Path("run/run.json").read_bytes() == before


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("--seed", 6), "--seed: 5 there, 6 now"),
        (("--set", "epochs=4"), "epochs"),
        (("--batch-size", 4), "--batch-size: 8 there, 4 now"),
        (("-b", "alexnet"), "--backbone: tiny there, alexnet now"),
        (("-s", "fine-tune"), "from-scratch there, fine_tune/fine-tune now"),
        (("digits",), "DATA: "),
        (("--labels-per-class", 3), "--labels-per-class: None there, 3 now"),
        (("--precision", "bf16"), "--precision: fp32 there, bf16 now"),
        (("--no-embed",), "--no-embed: False there, True now"),
    ],
)
def test_what_is_given_must_agree(cli, broken_off, given: tuple[Any, ...], named: str) -> None:
    broken_off("-o", "run")
    before = {path: path.stat().st_mtime_ns for path in Path("run").rglob("*")}
    said = cli("fit", *given, "--resume", "-o", "run")
    assert said.code == 2, said.err
    assert named in said.err
    assert before == {path: path.stat().st_mtime_ns for path in Path("run").rglob("*")}


def test_what_agrees_may_be_given(cli, broken_off, photos: Path) -> None:
    broken_off("-o", "run")
    again = [option if option != "tiny" else "tiny/tiny" for option in FIT]
    said = cli("fit", os.path.relpath(photos), *again, "-w", "none", "--resume", "-o", "run")
    assert said.code == 0, said.err


def test_the_run_is_found(cli, broken_off, photos: Path) -> None:
    broken_off()
    assert cli("fit", photos, *FIT, "--seed", 6).code == 0
    said = cli("fit", photos, "--resume", "--seed", 5, "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["run"] == os.path.join("runs", "tiny-from-scratch-1")
    said = cli("fit", photos, *FIT, "--resume", "--json")
    assert "nothing to do" in said.err
    broken_off("--seed", 7), broken_off("--seed", 8)
    said = cli("fit", photos, "--resume")
    assert said.code == 2
    assert "several runs" in said.err
    assert "tiny-from-scratch-4" in said.err


def test_no_checkpoint_yet_is_a_start(cli, photos: Path) -> None:
    Path("run").mkdir()
    assert cli("fit", photos, *FIT, "--resume", "-o", "run").code == 0
    assert record()["state"] == "done"
    assert cli("fit", photos, *FIT, "--resume", "-o", "new").code == 0


@pytest.mark.parametrize("options", [(), ("-o", "nowhere")])
def test_nothing_to_go_on_with(cli, options: tuple[str, ...]) -> None:
    said = cli("fit", "--resume", *options)
    assert said.code == 2
    assert os.listdir() == []


def test_a_closed_form_resumes_too(cli, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("zoo.adapt.learner.solve", stop)
        said = cli("fit", photos, "-b", "tiny", "-w", "none", "-s", "linear-probe", "-o", "run")
    assert said.code == 130
    assert "--resume -o run" in said.err
    assert cli("evaluate", "run", photos).code == 5
    assert cli("fit", "--resume", "-o", "run").code == 0
    assert record()["state"] == "done"


def test_an_unfinished_run_is_not_overwritten(cli, broken_off, photos: Path) -> None:
    broken_off("-o", "run")
    said = cli("fit", photos, *FIT, "-o", "run")
    assert said.code == 2
    assert "--resume -o run" in said.err


def test_pretrain_goes_on_and_publishes(cli, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that it was told, and pictures that are changed anew in each epoch."""
    given = ("-b", "tiny", "--publish", "tiny.mine", "--license", "cc0-1.0", "--set", "epochs=2")
    options = (*given, "--set", "augment=crop-0.5,trivial", "--set", "mixup=0.2", "--batch-size", 8)
    stop = _Loop._stop_if_asked

    def after_four(self: _Loop) -> None:
        self.interrupt.asked = self.stepper.done == 4
        stop(self)

    with monkeypatch.context() as patch:
        patch.setattr(_Loop, "_stop_if_asked", after_four)
        said = cli("pretrain", photos, *options, "-o", "my run")
    assert said.code == 130, said.err
    command = re.search(r"Go on with: zoo (.*)", said.err)
    assert command, said.err
    said = cli(*shlex.split(command[1]), "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["published"] == "tiny.mine"
    assert record("my run")["state"] == "done"
    shown = json.loads(cli("show", "tiny.mine", "--json").out)
    assert shown["license"] == "cc0-1.0"
    assert cli("pretrain", photos, *options, "--replace", "-o", "whole").code == 0
    assert Path("my run/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()


def test_pretrain_that_was_stopped_before_it_published(cli, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how = ("-b", "tiny", "--publish", "tiny.mine", "--set", "epochs=1", "-o", "run")
    with monkeypatch.context() as patch:
        patch.setattr("zoo.adapt.learner.evaluate", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        assert cli("pretrain", photos, *how).code == 130
    said = cli("pretrain", photos, *how, "--resume", "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["published"] == "tiny.mine"

"""`zoo fit --processes`: real processes, started, shared, stopped and killed from one command line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from zoo.cli import processes
from zoo.cli.processes import _conclude, _Rank, _Seen, _told, _watch
from zoo.errors import ZooError

FIT = ("-b", "tiny", "-s", "from-scratch", "--batch-size", "8", "--precision", "fp32", "--device", "cpu")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    y = np.arange(60) % 3
    x = np.eye(3)[y][:, None, None, :] * 90 + np.random.default_rng(0).integers(0, 160, (60, 8, 8, 3))
    np.savez(tmp_path / "data.npz", x=x.astype(np.uint8), y=y)
    return tmp_path / "data.npz"


@pytest.fixture
def start(tmp_path: Path, tiny_plugin: str) -> Iterator[Any]:
    """Start `zoo ARGS` in a folder of its own."""
    started: list[subprocess.Popen[str]] = []

    def call(*args: Any) -> subprocess.Popen[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-m", "zoo", *map(str, args)],
            env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield call
    for process in started:
        process.kill()
        process.communicate()


def ranks(process: subprocess.Popen[str]) -> dict[int, psutil.Process]:
    """The processes that it started, by number."""
    found = {}
    for one in psutil.Process(process.pid).children():
        with contextlib.suppress(psutil.Error, OSError):
            found[int(one.environ().get("RANK", -1))] = one
    found.pop(-1, None)  # what is about to become one, or looks something up for the starter
    return found


def wait_for(there: Any, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 120
    while not there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


def test_one_command_line_from_beginning_to_end(start: Any, data: Path, tmp_path: Path) -> None:
    """A rank is killed; it goes on by itself in as many; Ctrl-C; and one process ends it."""
    run = tmp_path / "run"
    began = start("fit", data, *FIT, "--set", "epochs=4000", "--processes", 2, "-o", "run", "--json")
    wait_for(lambda: list(run.glob("checkpoints/step-*")), began)
    both = ranks(began)
    assert set(both) == {0, 1}
    both[1].kill()
    killed = time.monotonic()
    out, err = began.communicate(timeout=60)
    assert time.monotonic() - killed < 30
    assert began.returncode == 7
    said = json.loads(out)["error"]
    assert "process 2 of 2 was killed by SIGKILL" in said["message"]
    assert said["hint"] == "Go on with: zoo fit --resume -o run"
    assert "The last good state is kept in" in err
    assert "Traceback" not in err
    assert not any(one.is_running() for one in both.values())
    step = max(json.loads(one.read_text())["step"] for one in run.glob("checkpoints/step-*/state.json"))

    again = start("fit", "--resume", "-o", "run")
    wait_for(lambda: any(int(one.name[5:]) > step for one in run.glob("checkpoints/step-*")), again)
    both = ranks(again)
    assert set(both) == {0, 1}, "a run goes on in as many processes"
    again.send_signal(signal.SIGINT)
    out, err = again.communicate(timeout=60)
    assert again.returncode == 130
    assert "error[interrupted]" in err
    assert "Go on with: zoo fit --resume -o run" in err
    assert "Traceback" not in err
    assert not any(one.is_running() for one in both.values())
    assert json.loads((run / "run.json").read_text())["state"] == "running"
    left = sorted(path.name for path in run.iterdir() if path.name != "history.jsonl")
    assert left == ["checkpoints", "run.json"]

    # Whoever starts them dies: so do they.
    third = start("fit", "--resume", "-o", "run")
    wait_for(lambda: len(ranks(third)) == 2, third)
    both = ranks(third)
    third.kill()
    psutil.wait_procs(both.values(), timeout=30)
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in both.values())


def test_an_error_of_one_is_the_error_of_all(start: Any, data: Path) -> None:
    wild = ("--set", "lr=1e30", "--set", "clip=null", "--set", "optimizer=sgd")
    failed = start("fit", data, *FIT, *wild, "--set", "epochs=2", "--processes", 2, "-o", "run", "--json")
    out, err = failed.communicate(timeout=100)
    assert failed.returncode == 7
    assert json.loads(out)["error"]["code"] == "training"
    assert "Rows of the batch" in err
    assert err.count("error[") == 1
    assert "Traceback" not in err


def test_starter_and_started_mean_the_same_file() -> None:
    from zoo.adapt import group as groups

    assert processes.MEETING == groups.MEETING


def test_what_can_be_said_before_anything_is_started(
    cli: Any, data: Path, tiny_plugin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_: Any) -> None:
        raise AssertionError("something was started")

    monkeypatch.setattr(processes, "launch", started)
    said = cli("fit", data, "-b", "tiny", "-w", "none", "-s", "linear-probe", "--processes", 2, "-o", "run", "--json")
    assert said.code == 0
    assert "closed form, by one process" in said.err
    assert said.json["processes"] == 1
    assert cli("fit", data, *FIT, "--processes", 0).code == 2
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    said = cli("fit", data, *FIT, "--processes", 3, "--json")
    assert said.code == 2
    assert "torchrun started 2" in said.err


def test_more_processes_than_cores_is_said(
    cli: Any, data: Path, tiny_plugin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(processes, "available", lambda: 1)
    monkeypatch.setattr(processes, "launch", lambda args, count, run: asked.append((args, count, run)))
    said = cli("fit", data, *FIT, "--processes", 2)
    assert said.code == 0
    assert "2 processes share 1 core" in said.err
    args, count, run = asked[0]
    assert count == 2
    assert run == Path("runs") / "tiny-from-scratch-1"
    assert args[0] == ("fit",)
    assert args[1][0] == str(data)


def test_what_a_process_is_told_stands_before_the_end_of_options(
    cli: Any, data: Path, tiny_plugin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(processes, "launch", lambda args, count, run: asked.append(_told(args, 1, run)))
    assert cli("--offline", "fit", *FIT, "--processes", 2, "-o", "fit", "--", data).code == 0
    told = asked[0]
    assert told[:5] == ["--offline", "fit", "--output", "fit", "--quiet"]
    assert told[-2:] == ["--", str(data)]


class Ended:
    """A process that ends when it is asked to, or not before it is killed."""

    def __init__(self, code: int | None, *, deaf: bool = False) -> None:
        self.code, self.deaf, self.calls = code, deaf, []
        self.stdin = self

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        self.calls.append("terminate")
        self.code = self.code if self.deaf else -15

    def kill(self) -> None:
        self.calls.append("kill")
        self.code = -9


def group(tmp_path: Path, *given: Ended) -> list[_Rank]:
    return [_Rank(i, one, tmp_path / f"{i}.json", tmp_path / f"{i}.txt") for i, one in enumerate(given)]  # type: ignore[arg-type]


def test_nobody_is_waited_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE", 0.1)
    monkeypatch.setattr(processes, "LAST", 0.1)
    failed, willing, deaf = Ended(7), Ended(None), Ended(None, deaf=True)
    seen = _watch(group(tmp_path, failed, willing, deaf))
    assert seen.stopped == {1, 2}
    assert willing.calls == ["terminate"]
    assert deaf.calls[-1] == "kill"
    assert not failed.calls


def test_after_ctrl_c_the_leading_one_may_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But when it has ended, nobody is left waiting for it."""
    monkeypatch.setattr(processes, "GRACE", 0.1)
    monkeypatch.setattr(processes, "WRITING", 0.6)
    began, writing, stopped = time.monotonic(), Ended(None), Ended(130)
    _watch(group(tmp_path, writing, stopped))
    assert writing.calls == ["terminate"]
    assert time.monotonic() - began > 0.6
    waiting = Ended(None)
    _watch(group(tmp_path, Ended(130), waiting))
    assert waiting.calls == ["terminate"]


@pytest.mark.parametrize(
    ("codes", "said", "stopped", "code", "message"),
    [
        ((7, 2), {0: "lost", 1: "usage"}, set(), "usage", "of 1"),
        ((3, 7), {0: "not-found", 1: "lost"}, set(), "not-found", "of 0"),
        ((7, -9), {0: "lost"}, set(), "training", "process 2 of 2 was killed by SIGKILL"),
        ((-11, -15), {}, {1}, "training", "process 1 of 2 was killed by SIGSEGV"),
        ((-15, -9), {}, {0}, "training", "process 2 of 2 was killed by SIGKILL"),
        ((7, 1), {0: "lost"}, set(), "training", "process 2 of 2 ended with code 1"),
    ],
)
def test_who_knows_what_went_wrong_says_it(
    tmp_path: Path, codes: tuple[int, ...], said: dict[int, str], stopped: set[int], code: str, message: str
) -> None:
    for number, word in said.items():
        error = {"code": word, "message": f"of {number}", "notes": [f"note {number}"], "exit_code": codes[number]}
        (tmp_path / f"{number}.json").write_text(json.dumps(error))
    with pytest.raises(ZooError) as caught:
        _conclude(group(tmp_path, *map(Ended, codes)), tmp_path / "run", _Seen(stopped=stopped))
    assert caught.value.code == code
    assert message in caught.value.message
    if 0 in said:
        assert "note 0" in caught.value.__notes__  # where the last good state is


def test_the_leading_one_decides(tmp_path: Path) -> None:
    _conclude(group(tmp_path, Ended(0), Ended(-15)), tmp_path, _Seen())
    (tmp_path / "0.json").write_text(json.dumps({"code": "interrupted", "notes": ["kept"]}))
    with pytest.raises(KeyboardInterrupt) as caught:
        _conclude(group(tmp_path, Ended(130), Ended(130)), tmp_path, _Seen())
    assert caught.value.__notes__ == ["kept"]


def test_what_ctrl_c_broke_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "0.json").write_text(json.dumps({"code": "internal", "message": "half imported"}))
    with pytest.raises(KeyboardInterrupt):
        _conclude(group(tmp_path, Ended(1), Ended(130)), tmp_path, _Seen(asked=1))
    with pytest.raises(ZooError, match="half imported"):
        _conclude(group(tmp_path, Ended(1), Ended(130)), tmp_path, _Seen())
    (tmp_path / "0.json").unlink()
    (tmp_path / "1.json").write_text(json.dumps({"code": "disk", "message": "full", "exit_code": 6}))
    with pytest.raises(ZooError, match="full"):
        _conclude(group(tmp_path, Ended(1), Ended(6)), tmp_path, _Seen(asked=1))

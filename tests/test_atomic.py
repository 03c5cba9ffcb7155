"""Writing under a lock: one at a time, the dead block nobody, and nothing is left over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from zoo.atomic import lock_beside, locked, tidy, write_atomically, writing

HOLD = """
import sys, time
from pathlib import Path
from zoo.atomic import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_lock_leaves_no_file(tmp_path: Path) -> None:
    with locked(tmp_path / "l") as waited:
        assert not waited
        assert (tmp_path / "l").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_dead_owner_never_blocks(tmp_path: Path) -> None:
    with holder(tmp_path / "l") as process:
        with pytest.raises(TimeoutError), locked(tmp_path / "l", timeout=0.1):
            pass
        told: list[int] = []

        def waiting() -> None:
            told.append(1)
            process.send_signal(signal.SIGKILL)

        with locked(tmp_path / "l", timeout=30, waiting=waiting) as waited:
            assert waited
            assert told
        assert process.wait() == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_one_at_a_time(tmp_path: Path) -> None:
    """Removing the lock file must not let two in: many threads add one to a number that is read and written slowly."""
    counter = tmp_path / "n"
    counter.write_text("0")

    def add() -> None:
        for _ in range(5):
            with locked(tmp_path / "l"):
                found = int(counter.read_text())
                time.sleep(0.001)
                counter.write_text(str(found + 1))

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.read_text() == "40"


def test_a_writer_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    (tmp_path / ".x.json.0123.part").write_bytes(b"half")
    lock_beside(target).write_bytes(b"")
    with writing(target):
        write_atomically(target, b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_tidy_leaves_what_is_in_use_and_what_is_not_ours(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    for name in ("x.json", ".x.json.0123.part", ".y.json.0123.part", ".x.json.mine"):
        (tmp_path / name).write_bytes(b"1")
    with holder(lock_beside(target)) as process:
        tidy(target)
        assert len(list(tmp_path.iterdir())) == 5
        process.kill()
    tidy(target)
    assert {path.name for path in tmp_path.iterdir()} == {"x.json", ".y.json.0123.part", ".x.json.mine"}
    tidy(tmp_path / "absent" / "x")  # says nothing


def test_a_full_or_broken_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "x.json"
    target.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]

"""The store: a name is a proof, and what is unfinished is never seen."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from zoo.atomic import write_atomically
from zoo.catalog.spec import Weights
from zoo.errors import IntegrityError, NotFoundError
from zoo.settings import Settings
from zoo.weights.remembered import Remembered
from zoo.weights.store import Store

Make = Callable[..., bytes]


def old(path: Path, seconds: float = 3600.0) -> Path:
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def test_add_copies_under_the_hash(settings: Settings, tmp_path: Path, make: Make) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(make())
    store = Store(settings)
    sha256 = store.add(file)
    assert sha256 == hashlib.sha256(make()).hexdigest()
    assert store.path(sha256) == settings.blobs / sha256[:2] / f"{sha256}.safetensors"
    assert store.path(sha256).read_bytes() == make()
    assert store.has(sha256)
    assert store.ls() == [sha256]
    assert store.sha256_of(store.path(sha256)) == sha256
    assert store.sha256_of(file) is None
    assert list(store.parts.iterdir()) == []


def test_add_refuses_another_hash_and_leaves_nothing(settings: Settings, tmp_path: Path, make: Make) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(make())
    store = Store(settings)
    with pytest.raises(IntegrityError):
        store.add(file, expected="0" * 64)
    assert store.ls() == []
    assert list(store.parts.iterdir()) == []


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n", "/" * 64])
def test_only_a_hash_becomes_a_path(name: str, settings: Settings) -> None:
    with pytest.raises(IntegrityError):
        Store(settings).path(name)


def test_verify_finds_damage_and_remove_removes(settings: Settings, tmp_path: Path, make: Make) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(make())
    store = Store(settings)
    sha256 = store.add(file)
    store.verify(sha256)
    with store.path(sha256).open("r+b") as blob:
        blob.seek(-1, os.SEEK_END)
        blob.write(b"\xff")
    with pytest.raises(IntegrityError, match="damaged"):
        store.verify(sha256)
    assert store.remove(sha256)
    assert not store.remove(sha256)
    with pytest.raises(NotFoundError):
        store.verify(sha256)


def test_sweep_takes_orphans_only(settings: Settings, tmp_path: Path, make: Make) -> None:
    store = Store(settings)
    store.parts.mkdir(parents=True)
    (tmp_path / "x").write_bytes(make())
    here = store.add(tmp_path / "x")
    young, aged, noted, made, taken = (f"{digit}" * 64 for digit in "abcde")
    Remembered(settings).note_converted(made, here)
    kept = {f"{young}.part": 3600, f"{young}.etag": 3600, "add-held.part": 0}
    gone = {
        "add-1.part": 0,
        f"{young}.made": 0,
        f"{young}.made.part": 0,
        f"{aged}.part": 8 * 86400,
        f"{noted}.etag": 0,
        f"{here}.part": 0,
        f"{made}.part": 0,
        "anything": 0,
        "add-2.lock": 0,
        f"{taken}.lock": 0,
    }
    for name, age in {**kept, **gone}.items():
        (store.parts / name).write_bytes(b"x")
        old(store.parts / name, age)
    with FileLock(store.lock_of(store.parts / "add-held.part")):
        store.sweep()
        assert {path.name for path in store.parts.iterdir()} == {*kept, "add-held.lock"}
    store.sweep()
    assert {path.name for path in store.parts.iterdir()} == {f"{young}.part", f"{young}.etag"}
    assert store.ls() == [here]


def test_is_pulled(settings: Settings, tmp_path: Path, make: Make) -> None:
    store = Store(settings)
    file = tmp_path / "x.safetensors"
    local = Weights(name="tiny.a", backbone="tiny", source=f"file:{file}")
    assert not store.is_pulled(local)
    file.write_bytes(make())
    assert store.is_pulled(local)
    sha256 = hashlib.sha256(make()).hexdigest()
    pinned = Weights(name="tiny.a", backbone="tiny", source="https://example.org/x.safetensors", sha256=sha256)
    assert not store.is_pulled(pinned)
    store.add(file)
    assert store.is_pulled(pinned)
    (settings.home / "zoo.lock").write_text("nonsense")
    unpinned = Weights(name="tiny.b", backbone="tiny", source="https://example.org/x.safetensors")
    assert not Store(settings).is_pulled(unpinned)


def test_a_hash_is_remembered_until_the_file_changes(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"one")
    old(file)
    remembered = Remembered(settings)
    assert remembered.sha256(file) == hashlib.sha256(b"one").hexdigest()
    found = json.loads(remembered.path.read_text())
    found["files"][str(file)][3] = "f" * 64
    remembered.path.write_text(json.dumps(found))
    assert remembered.sha256(file) == "f" * 64, "the file was not hashed again"
    file.write_bytes(b"two")
    assert remembered.sha256(file) == hashlib.sha256(b"two").hexdigest()


def test_a_file_written_just_now_is_not_remembered(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"one")
    remembered = Remembered(settings)
    remembered.sha256(file)
    stamp = file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert remembered.sha256(file) == hashlib.sha256(b"two").hexdigest()


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"schema": 2}', b'{"schema": 1, "files": 3}', b"\xff\xfe"])
def test_a_damaged_memory_is_started_anew(damage: bytes, settings: Settings, tmp_path: Path) -> None:
    remembered = Remembered(settings)
    remembered.path.write_bytes(damage)
    file = tmp_path / "x"
    file.write_bytes(b"one")
    old(file)
    assert remembered.sha256(file) == hashlib.sha256(b"one").hexdigest()
    assert not remembered.is_finite("0" * 64)
    remembered.note_finite("0" * 64)
    assert remembered.is_finite("0" * 64)
    assert str(file) in json.loads(remembered.path.read_text())["files"]


def test_where_nothing_can_be_written_nothing_is_remembered(settings: Settings, tmp_path: Path) -> None:
    from dataclasses import replace

    (tmp_path / "file").write_text("a file where the home should be")
    file = old_file = tmp_path / "x"
    file.write_bytes(b"one")
    old(old_file)
    remembered = Remembered(replace(settings, home=tmp_path / "file"))
    assert remembered.sha256(file) == hashlib.sha256(b"one").hexdigest()
    remembered.note_finite("0" * 64)
    assert not remembered.is_finite("0" * 64)


def test_what_became_of_a_pickle(settings: Settings) -> None:
    remembered = Remembered(settings)
    remembered.note_converted("a" * 64, "b" * 64)
    assert remembered.converted("a" * 64) == "b" * 64
    assert remembered.converted("a" * 8) == "b" * 64
    assert remembered.converted("c" * 8) is None


@pytest.mark.parametrize("point", ["os.fsync", "os.replace", "os.open", "write"])
def test_a_kill_while_writing_leaves_the_old_file_or_the_new(point: str, tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    write_atomically(target, b"old")
    code = (
        "import os, signal, sys, pathlib\n"
        "from zoo import atomic\n"
        "def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)\n"
        "point = sys.argv[2]\n"
        "if point == 'write':\n"
        "    real = pathlib.Path.open\n"
        "    def opened(self, mode):\n"
        "        file = real(self, mode); file.write(b'ne'); file.flush(); die()\n"
        "    pathlib.Path.open = opened\n"
        "else:\n"
        "    setattr(os, point.partition('.')[2], die)\n"
        "atomic.write_atomically(pathlib.Path(sys.argv[1]), b'new')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target), point], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert target.read_bytes() in (b"old", b"new")
    write_atomically(target, b"newer")
    assert target.read_bytes() == b"newer"

"""kill -9 at every point of a pull and of every write: nothing wrong is seen, the next pull succeeds, nothing stays."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from zoo.settings import Settings
from zoo.testing.hub import FakeHub
from zoo.weights.pull import pull
from zoo.weights.store import Store

Make = Callable[..., bytes]
PROGRAM = Path(__file__).with_name("killing.py")
REPO, FILE = "timm/tiny.a", "model.safetensors"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs fork and SIGKILL")


def test_killed_at_every_call(settings: Settings, hub: FakeHub, make: Make, tmp_path: Path) -> None:
    content = make(size=200_000)
    commit = hub.add(REPO, FILE, content)
    # In memory where that is possible: what is tried here is the order of the calls, not the disk.
    fast = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=fast if os.access(fast, os.W_OK) else tmp_path) as folder:
        kill_everywhere(Path(folder), hub, commit, content)


def kill_everywhere(place: Path, hub: FakeHub, commit: str, content: bytes) -> None:
    (place / "home").mkdir()
    (place / "mine.safetensors").write_bytes(content)
    os.utime(place / "mine.safetensors", (1_000_000_000,) * 2)
    environment = {**os.environ, "ZOO_OFFLINE": "0", "no_proxy": "*"}
    command = [sys.executable, str(PROGRAM), str(place / "home"), hub.url, commit, hashlib.sha256(content).hexdigest()]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=250, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["problems"] == []
    assert sum(found["deaths"].values()) >= 100, found["deaths"]
    assert all(found["deaths"].values()), found["deaths"]


PULL = """
from zoo.catalog.spec import Weights
from zoo.settings import Settings
from zoo.weights.pull import pull
pull(Weights(name="tiny.a", backbone="tiny", source="hf://timm/tiny.a@main/model.safetensors"), settings=Settings())
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize(
    ("call", "number"), [("fsync", 1), ("fsync", 2), ("fsync", 4), ("rename", 1), ("rename", 2), ("flock", 2)]
)
def test_killed_by_the_system(call: str, number: int, settings: Settings, hub: FakeHub, make: Make) -> None:
    """The same by strace, which needs no help of the program's: the process dies as it enters the system call."""
    content = make(size=200_000)
    hub.add(REPO, FILE, content)
    inject = f"inject={call}:signal=KILL:when={number}"
    command = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject, sys.executable, "-c", PULL]
    environment = {**os.environ, "ZOO_HOME": str(settings.home), "ZOO_OFFLINE": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    if "ptrace" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), done.stderr
    for blob in settings.blobs.glob("*/*"):
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.stem
    pull_again = pull(weights(), settings=settings)
    assert pull_again.path.read_bytes() == content
    files = {str(path.relative_to(settings.home)) for path in settings.home.rglob("*") if path.is_file()}
    assert files == {"zoo.lock", str(Store(settings).path(pull_again.sha256).relative_to(settings.home))}


def weights() -> object:
    from zoo.catalog.spec import Weights

    return Weights(name="tiny.a", backbone="tiny", source=f"hf://{REPO}@main/{FILE}")

"""kill -9 in the midst of rm, gc, `cache add` and `pull --to`: nothing wrong is seen, and the next run mends it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from zoo.testing.hub import FakeHub

PROGRAM = Path(__file__).with_name("killing_verbs.py")
FAST = Path("/dev/shm")
#: Each point takes a tenth of a second; with 1 all 270 are tried.
STEP = 4

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs fork and SIGKILL")


def test_killed_on_the_way(hub: FakeHub, make: Callable[..., bytes], tmp_path: Path) -> None:
    hub.add("me/tiny", "model.safetensors", make(0))
    with tempfile.TemporaryDirectory(dir=FAST if os.access(FAST, os.W_OK) else tmp_path) as place:
        folder = Path(place) / "work"
        folder.mkdir()
        (folder / "mine.safetensors").write_bytes(make(1))
        (folder / "orphan.safetensors").write_bytes(make(2))
        (folder / "registry.toml").write_text(
            'schema = 1\n[weights."tiny.hub"]\nbackbone = "tiny"\nsource = "hf://me/tiny@main/model.safetensors"\n'
        )
        environment = {**os.environ, "ZOO_OFFLINE": "0", "no_proxy": "*"}
        command = [sys.executable, str(PROGRAM), str(folder), hub.url, str(STEP)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=250, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["problems"] == []
    assert sum(found["deaths"].values()) >= 200 / STEP, found["deaths"]
    assert all(found["deaths"].values()), found["deaths"]

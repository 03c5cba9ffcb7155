"""kill -9 at every kind of moment: steps, checkpoints half written, the final save; then the run goes on.

One process imports everything once and forks a child for each death. A child counts what it does to the run's folder
(opening, renaming, removing ...) and its steps, and kills itself at a number; another goes on with the run and ends it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = '''
import json, os, shutil, signal, sys
from pathlib import Path

import numpy as np
import torch

import zoo
import accelerate.state, filelock, numpy.ma, safetensors.torch, torch._dynamo  # imported late; here once for all
import zoo.adapt.saved, zoo.adapt.teacher, zoo.data.open, zoo.report.card
from zoo.adapt.compose import compose
from zoo.testing import tiny
from zoo_plugins.strategies.from_scratch import strategy

here = Path(sys.argv[1])
torch.set_num_threads(1)
zoo.register(tiny)
x, y = np.random.default_rng(0).integers(0, 255, (60, 8, 8, 3), dtype=np.uint8), np.arange(60) % 3
EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "shutil.rmtree"}
#: An ear of this process cannot be taken off again; it listens in children only.
listening = [None]


def ear(event, args):
    run = listening[0]
    if run and event in EVENTS and isinstance(args[0], (str, os.PathLike)) and run in os.fspath(args[0]):
        count()


def count(*_):
    global seen
    seen += 1
    if seen == death:
        os.kill(os.getpid(), signal.SIGKILL)


def fit(run):
    """Fit, save, and tell how much was seen."""
    learner = zoo.compose("tiny", "from-scratch", weights=None, precision="fp32", epochs=3, batch_size=16, seed=1)
    learner.fit((x, y), resume=run, progress=lambda what, *_: count() if what == "train" else None)
    if learner.run:
        learner.save(run)


def child(run, at):
    """The exit status of a process that fits, and dies at its event number `at`."""
    global seen, death
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    seen, death = 0, at
    try:
        listening[0] = str(run)
        fit(run)
        (here / "seen").write_text(str(seen))
        os._exit(0)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)


sys.addaudithook(ear)
warm = compose("tiny", "from-scratch", weights=None, precision="fp32", epochs=1)  # what is looked up is looked up once
assert child(here / "whole", 0) == 0
total = int((here / "seen").read_text())
wanted = (here / "whole" / "model.safetensors").read_bytes()
history = [json.loads(line)["loss"] for line in (here / "whole" / "history.jsonl").read_text().splitlines()]
points = sorted({round(1 + i * (total - 1) / (DEATHS - 1)) for i in range(DEATHS)})
deaths = resumed = 0
for at in points:
    run = here / "run"
    shutil.rmtree(run, ignore_errors=True)
    status = child(run, at)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (at, status)
    deaths += 1
    again = child(run, 7) if at % 5 == 0 else 9  # some die a second time, soon after they went on
    assert again == 9 or (os.WIFEXITED(again) and again == 0), again
    resumed += bool(list(run.glob("checkpoints/step-*")))
    assert child(run, 0) == 0, at
    assert (run / "model.safetensors").read_bytes() == wanted, at
    lines = (run / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == history, at
    assert json.loads((run / "run.json").read_text())["state"] == "done", at
    left = sorted(path.name for path in run.iterdir())
    files = ["README.md", "checkpoints", "history.jsonl", "learned.bin", "model.safetensors", "run.json"]
    assert left == files, (at, left)
    left = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert len(left) == 2 and all(name.startswith("step-") for name in left), (at, left)
print(json.dumps({"deaths": deaths, "resumed": resumed, "events": total}))
'''


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="forks after importing torch")
def test_killed_anywhere_and_resumed_is_never_killed(tmp_path: Path, home: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ZOO_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("DEATHS", "36"), str(tmp_path)],
        env=environment, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["deaths"] >= 30
    assert found["resumed"] >= found["deaths"] // 2

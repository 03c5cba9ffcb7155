"""Programs that die: `python killing.py HOME URL COMMIT SHA256` kills itself at every call that touches the disk.

For each job, a forked process runs it and sends itself SIGKILL before its N-th call, for N = 1, 2, ... until it gets
through. After each death what is visible must be right, and the next pull must succeed and leave exactly the files
that an undisturbed one leaves. The last line of the output is JSON: per job the number of deaths, and what went wrong.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from zoo.catalog import ledger
from zoo.catalog.spec import Weights
from zoo.settings import Settings
from zoo.weights import download, part
from zoo.weights.lock import Lock
from zoo.weights.pull import pull
from zoo.weights.remembered import Remembered
from zoo.weights.store import Store

#: The C functions through which Python changes a disk or a lock.
CALLS = {"open", "write", "fsync", "replace", "unlink", "mkdir", "truncate", "flock", "close"}
REPO, FILE = "timm/tiny.a", "model.safetensors"


def die_at(number: int) -> None:
    """From now on, die before the call of that number, whichever thread makes it."""
    left, guard = number, threading.Lock()

    def hook(_: Any, event: str, function: Any) -> None:
        nonlocal left
        if event == "c_call" and function.__name__ in CALLS and isinstance(function.__self__, ModuleType | io.FileIO):
            with guard:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(hook)
    sys.setprofile(hook)


def in_child(job: Callable[[], object], number: int | None = None) -> int:
    """Run a job in a process of its own; how it ended, as `os.waitpid` says."""
    child = os.fork()
    if child == 0:
        try:
            if number is not None:
                die_at(number)
            job()
            sys.setprofile(None)
            os._exit(0)
        except BaseException:
            sys.setprofile(None)
            traceback.print_exc()
            os._exit(1)
    return os.waitpid(child, 0)[1]


class Jobs:
    """What is killed. Each is (what is there before, the job)."""

    def __init__(self, home: Path, commit: str, sha256: str) -> None:
        self.home, self.commit, self.sha256 = home, commit, sha256
        self.settings = Settings(home=home, offline=False)
        self.file = home.parent / "mine.safetensors"
        self.weights = Weights(name="tiny.a", backbone="tiny", source=f"hf://{REPO}@main/{FILE}")
        self.local = Weights(name="tiny.b", backbone="tiny", source=f"file:{self.file}")

    def nothing(self) -> None:
        """An empty home."""

    def pulled(self) -> None:
        pull(self.weights, settings=self.settings)

    def half(self) -> None:
        store = Store(self.settings)
        store.parts.mkdir(parents=True)
        content = self.file.read_bytes()
        (store.parts / f"{self.sha256}.part").write_bytes(content[: len(content) // 2])

    def registered(self) -> None:
        self.pulled()
        self.register()

    def everything(self) -> None:
        self.registered()
        self.remember()

    def pull(self) -> None:
        pull(self.weights, settings=self.settings)

    def update(self) -> None:
        pull(self.weights, settings=self.settings, update=True)

    def lock(self) -> None:
        lock = Lock.of(self.settings)
        lock.write("tiny.c", lock.entries["tiny.a"])

    def register(self) -> None:
        ledger.add_weights(self.settings.user_registry, self.local, replace=True)

    def unregister(self) -> None:
        ledger.remove_weights(self.settings.user_registry, "tiny.b")

    def add(self) -> None:
        Store(self.settings).add(self.file)

    def remember(self) -> None:
        Remembered(self.settings).sha256(self.file)

    def wrong(self) -> list[str]:
        """What is visible and not right."""
        found = []
        for blob in self.settings.blobs.glob("*/*"):
            if hashlib.sha256(blob.read_bytes()).hexdigest() != blob.stem:
                found.append(blob.name)
        for read in (
            lambda: Lock.of(self.settings),
            lambda: self.settings.user_registry.exists() and ledger.read(self.settings.user_registry),
            lambda: Remembered(self.settings).path.exists() and json.loads(Remembered(self.settings).path.read_text()),
        ):
            try:
                read()
            except Exception as error:
                found.append(str(error))
        return found

    def files(self) -> list[str]:
        """Every file of the home."""
        return sorted(str(path.relative_to(self.home)) for path in self.home.rglob("*") if path.is_file())


PLAN = (
    ("pull", "nothing"),
    ("pull", "half"),
    ("pull", "pulled"),
    ("update", "pulled"),
    ("lock", "pulled"),
    ("add", "nothing"),
    ("register", "nothing"),
    ("register", "everything"),
    ("unregister", "everything"),
    ("remember", "registered"),
)


def main(home: Path, commit: str, sha256: str) -> dict[str, Any]:
    """Kill every job of the plan at every point."""
    import filelock  # noqa: F401  (so that no child reads modules from the disk)
    import huggingface_hub.constants  # noqa: F401
    import tomlkit  # noqa: F401
    from huggingface_hub import get_token  # noqa: F401

    jobs = Jobs(home, commit, sha256)
    deaths: dict[str, int] = {}
    problems: list[str] = []
    for name, before in PLAN:
        job, prepare = getattr(jobs, name), getattr(jobs, before)
        number, clean = 0, None
        start = home.with_name("start")
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        assert in_child(prepare) == 0
        shutil.rmtree(start, ignore_errors=True)
        home.rename(start)
        while True:
            shutil.rmtree(home, ignore_errors=True)
            shutil.copytree(start, home)
            end = in_child(job, number or None)
            where = f"{name} after {before}, call {number}"
            if number and end == 0:
                break  # it got through
            if number and not (os.WIFSIGNALED(end) and os.WTERMSIG(end) == signal.SIGKILL):
                problems.append(f"{where}: ended with {end} instead of being killed")
                break
            problems += [f"{where}: {what} is wrong" for what in jobs.wrong()]
            if in_child(jobs.pull):
                problems.append(f"{where}: the next pull failed")
            files = jobs.files()
            if clean is None:
                clean = files
            # The killed job's own result may be there or not; what else is there is an orphan.
            problems += [f"{where}: {left} was left" for left in files if left not in clean]
            problems += [f"{where}: {lost} was lost" for lost in before_is_kept(clean, files, name)]
            number += 1
        deaths[f"{name} after {before}"] = number - 1
    return {"deaths": deaths, "problems": problems}


def before_is_kept(clean: list[str], files: list[str], name: str) -> list[str]:
    """What must be there after the next pull, whenever the job was killed, and is not."""
    made = {"register": ["registry.toml"], "remember": ["hashes.json"]}.get(name, [])
    return [file for file in clean if file not in files and file not in made]


if __name__ == "__main__":
    part.CHUNK = download.CHUNK = 16384
    home = Path(sys.argv[1])
    os.environ["HF_ENDPOINT"] = sys.argv[2]
    os.chdir(home.parent)
    print(json.dumps(main(home, sys.argv[3], sys.argv[4])))

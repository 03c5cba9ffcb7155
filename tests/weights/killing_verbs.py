"""Verbs that die: `python killing_verbs.py FOLDER URL STEP` kills rm, gc, `cache add` and `pull --to`.

Each job runs in a forked process that sends itself SIGKILL before its N-th call that touches the disk, for every
STEP-th N. After each
death what is visible must be right; the job is then run again, and must end as an undisturbed one does.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from killing import in_child

import zoo
from zoo.catalog.registry import Registry
from zoo.catalog.spec import Weights
from zoo.errors import NotFoundError
from zoo.settings import Settings
from zoo.weights import portable
from zoo.weights.add import add
from zoo.weights.batch import chosen, pull_each
from zoo.weights.lock import Lock
from zoo.weights.register import register_file
from zoo.weights.remove import collect, remove
from zoo.weights.source import source_of
from zoo.weights.store import Store


class Verbs:
    """A home with weights of a Hub, weights of one's own and an orphan, and a portable folder beside it."""

    def __init__(self, folder: Path) -> None:
        self.home, self.stick, self.file = folder / "home", folder / "stick", folder / "mine.safetensors"
        self.settings = Settings(home=self.home, offline=False, registry=folder / "registry.toml")

    def registry(self) -> Registry:
        return Registry(settings=self.settings, builtins=False, entry_points=False, plugins=[Tiny()])

    def prepare(self) -> None:
        registry = self.registry()
        register_file(self.file, Weights(name="tiny.mine", backbone="tiny", source="file:"), registry)
        export(registry, self.stick, "tiny.hub", "tiny.mine")
        Store(self.settings).add(self.file.with_name("orphan.safetensors"))
        for path in self.settings.blobs.rglob("*"):
            os.utime(path, (time.time() - 86_400,) * 2)

    def rm(self) -> None:
        registry = self.registry()
        left = [name for name in ("tiny.hub", "tiny.mine") if is_here(name, registry)]
        if left:
            remove(left, registry)

    def gc(self) -> None:
        collect(self.registry())

    def cache_add(self) -> None:
        add(self.stick, self.registry())

    def pull_to(self) -> None:
        export(self.registry(), self.stick, "tiny.hub", "tiny.mine")

    def nowhere(self) -> None:
        """Nothing was pulled, registered or added."""
        self.prepare()
        shutil.rmtree(self.home)
        self.settings.registry.with_name("zoo.lock").unlink()

    def no_stick(self) -> None:
        self.prepare()
        shutil.rmtree(self.stick)

    def wrong(self) -> list[str]:
        """What is visible and not right."""
        found = [
            f"the bytes of {blob.name}"
            for blob in [*self.settings.blobs.glob("*/*"), *self.stick.glob("blobs/[0-9a-f]*")]
            if hashlib.sha256(blob.read_bytes()).hexdigest() != blob.stem
        ]
        try:
            Lock.of(self.settings)
            for weights in self.registry().weights():
                source = source_of(weights)
                if weights.source.startswith("file:") and not source.path.is_file():
                    found.append(f"{weights.name} has a name and no file")
            if (self.stick / portable.MANIFEST).exists():
                found += [f"{one.path} is missing" for one in portable.read(self.stick) if not one.path.is_file()]
        except Exception as error:
            found.append(str(error))
        return found

    def files(self) -> list[str]:
        """Every file of the home and of the portable folder, what is unfinished apart."""
        return sorted(
            str(path.relative_to(self.home.parent))
            for folder in (self.home, self.stick)
            for path in folder.rglob("*")
            if path.is_file() and not path.name.endswith((".part", ".lock")) and path.name != "hashes.json"
        )


class Tiny:
    """A plugin with one backbone."""

    @zoo.hookimpl
    def zoo_backbones(self) -> list[zoo.Backbone]:
        return [zoo.Backbone(name="tiny", family="tiny", build="a.b:c", num_features=1, params=1)]


def is_here(name: str, registry: Registry) -> bool:
    try:
        weights = registry.resolve(name)[1]
    except NotFoundError:
        return False
    return weights is not None and Store(registry.settings).is_pulled(weights)


def export(registry: Registry, folder: Path, *names: str) -> None:
    wanted = chosen(names, registry)
    portable.export(wanted, pull_each(wanted, registry), folder, registry)


PLAN = (("rm", "prepare"), ("gc", "prepare"), ("cache_add", "nowhere"), ("pull_to", "no_stick"))


def main(folder: Path, step: int) -> dict[str, object]:
    """Kill every job of the plan at every `step`-th point."""
    import filelock  # noqa: F401  (so that no child reads modules from the disk)
    import huggingface_hub.constants  # noqa: F401
    import tomlkit  # noqa: F401
    from huggingface_hub import get_token  # noqa: F401

    verbs = Verbs(folder)
    deaths: dict[str, int] = {}
    problems: list[str] = []
    for name, before in PLAN:
        job = getattr(verbs, name)
        work = folder.parent / "start"
        clear(folder)
        assert in_child(getattr(verbs, before)) == 0
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(folder, work)
        clean, number = None, 0
        while True:
            shutil.rmtree(folder)
            shutil.copytree(work, folder)
            os.chdir(folder)
            end = in_child(job, number or None)
            where = f"{name}, call {number}"
            if number and end == 0:
                break  # it got through
            if number and not (os.WIFSIGNALED(end) and os.WTERMSIG(end) == signal.SIGKILL):
                problems.append(f"{where}: ended with {end} instead of being killed")
                break
            problems += [f"{where}: {what}" for what in verbs.wrong()]
            if number and in_child(job):
                problems.append(f"{where}: it failed when run again")
            if name == "rm":  # killed after the name went: the file is an orphan, which a clean-up takes
                for path in verbs.settings.blobs.rglob("*"):
                    os.utime(path, (time.time() - 86_400,) * 2)
                in_child(verbs.gc)
            files = verbs.files()
            clean = clean or files
            problems += [f"{where}: {one} differs" for one in set(files) ^ set(clean)]
            number += step if number else 1
            deaths[name] = deaths.get(name, 0) + 1
        deaths[name] -= 1  # the first run was undisturbed
    return {"deaths": deaths, "problems": problems}


def clear(folder: Path) -> None:
    for path in (folder / "home", folder / "stick"):
        shutil.rmtree(path, ignore_errors=True)
    (folder / "zoo.lock").unlink(missing_ok=True)


if __name__ == "__main__":
    os.environ["HF_ENDPOINT"] = sys.argv[2]
    os.chdir(sys.argv[1])
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[3]))))

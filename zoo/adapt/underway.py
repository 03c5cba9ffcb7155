"""A run under way: its folder from the first step to the last. See docs/formats.md."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from zoo.adapt.checkpoint import FOLDER, Checkpoints
from zoo.adapt.record import DONE, HISTORY, RUN, read_begun
from zoo.atomic import PART, locked, write_atomically
from zoo.errors import UsageError, ZooError
from zoo.weights.files import disk_errors

#: Held by the process that fits.
LOCK: Final = ".lock"
#: What has to be the same for a fit to go on, and what it is called in a message.
_COMPARED: Final = {
    "composition.backbone.name": "backbone",
    "composition.backbone.plugin": "the backbone's plugin",
    "composition.backbone.in_chans": "in_chans",
    "composition.backbone.tap": "tap",
    "composition.backbone.head": "the backbone's classifier",
    "composition.backbone.options": "the backbone's options",
    "composition.weights.name": "weights",
    "composition.weights.sha256": "the weights' sha256",
    "composition.strategy.name": "strategy",
    "composition.strategy.plugin": "the strategy's plugin",
    "composition.strategy.options": "options",
    "task": "task",
    "preprocessing": "preprocessing",
    "assets": "the files that the weights bring",
    "seed": "seed",
    "device": "device",
    "precision": "precision",
    "data.fingerprint": "data",
    "data.split_ids": "rows",
}


@dataclass
class UnderWay:
    """The folder of a run that is being fitted.

    Attributes:
        path: RUN.
        record: what run.json holds.
        checkpoints: of this fit.
        done: whether the fit has ended, so that there is nothing to do.
    """

    path: Path
    record: dict[str, Any]
    checkpoints: Checkpoints
    done: bool = False

    def begin_history(self, epochs: list[dict[str, Any]]) -> None:
        """Write history.jsonl anew: of the epochs that the checkpoint knows."""
        write_history(self.path, epochs)

    def add_epoch(self, epoch: Mapping[str, Any]) -> None:
        """One more line."""
        with disk_errors("write", self.path / HISTORY), (self.path / HISTORY).open("a", encoding="utf-8") as file:
            file.write(json.dumps(epoch) + "\n")


@contextmanager
def under_way(path: Path, beginning: dict[str, Any], *, again: str | None = None) -> Iterator[UnderWay]:
    """Begin a run, or go on with it; only one process at a time.

    A run that fails before it has a checkpoint leaves nothing behind; one that is interrupted can always go on.

    Args:
        path: RUN: nothing, an empty folder, or a run that was begun.
        beginning: what run.json says (`zoo.adapt.describe.begin`).
        again: the command that goes on with it; None = `zoo fit --resume`.

    Raises:
        UsageError: the run there was begun with other choices or data (they are named), something else is there, or
            another process is at it.
        IntegrityError: run.json is damaged.
        DiskError: the folder cannot be written.
    """
    beginning = json.loads(json.dumps(beginning))
    expect_runs_place(path)
    missing = [folder for folder in (path, *path.absolute().parents) if not folder.exists()]
    new = not (path / RUN).is_file()
    with disk_errors("make", path):
        path.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        run = UnderWay(path, beginning, Checkpoints(path / FOLDER, _key(beginning)))
        if (path / RUN).is_file():
            found = read_begun(path)
            _expect_agreement(path, found, beginning)
            run.done = found["state"] == DONE
        if not run.done:
            _sweep(path, run.checkpoints)
            write_record(path, beginning)
        try:
            yield run
        except KeyboardInterrupt as stopped:
            stopped.add_note(f"Go on with: {again or 'zoo fit --resume'} -o {shlex.quote(str(path))}")
            raise
        except Exception:
            if new and not run.checkpoints.places():
                _undo(path, missing)
            raise


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write run.json of a run folder, atomically."""
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with disk_errors("write", path / RUN):
        write_atomically(path / RUN, text.encode())


def write_history(path: Path, epochs: list[dict[str, Any]]) -> None:
    """Write history.jsonl of a run folder, atomically: one line for each epoch."""
    with disk_errors("write", path / HISTORY):
        write_atomically(path / HISTORY, "".join(json.dumps(epoch) + "\n" for epoch in epochs).encode())


def expect_runs_place(path: Path) -> None:
    """Raise `UsageError` where something else than a run, an empty folder or nothing lies at `path`."""
    if not os.path.lexists(path) or (path / RUN).is_file():
        return
    strangers = [name for name in os.listdir(path) if not name.startswith(".")] if path.is_dir() else [path.name]
    if strangers:
        raise UsageError(
            f"{path} is no run that could go on",
            why=f"It has no {RUN}, but holds {strangers[0]!r}." if path.is_dir() else "It is no folder.",
            hint="Choose another folder (-o).",
        )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        with disk_errors("lock", path):
            try:
                stack.enter_context(locked(path / LOCK, timeout=0))
            except TimeoutError as error:
                hint = "Wait for it, or choose another folder (-o)."
                raise UsageError(f"another process is fitting the run {path}", hint=hint) from error
        yield


def _undo(path: Path, made: list[Path]) -> None:
    """Leave the disk as it was found: nothing was learned yet."""
    for name in (RUN, HISTORY):
        (path / name).unlink(missing_ok=True)
    shutil.rmtree(path / FOLDER, ignore_errors=True)
    with contextlib.suppress(OSError):
        (path / LOCK).unlink(missing_ok=True)
        for folder in made:
            folder.rmdir()


def _sweep(path: Path, checkpoints: Checkpoints) -> None:
    """Remove what a killed process left half written."""
    checkpoints.sweep()
    for part in path.glob(f".*{PART}"):
        part.unlink(missing_ok=True)


def _key(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps([_at(record, key) for key in _COMPARED], sort_keys=True).encode()).hexdigest()


def _expect_agreement(path: Path, found: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    different = [f"{name}: {_pair(_at(found, key), _at(now, key))}" for key, name in _COMPARED.items()
                 if _at(found, key) != _at(now, key)]  # fmt: skip
    if different:
        raise UsageError(
            f"the run {path} was begun otherwise, so it cannot go on",
            why="; ".join(different),
            hint="Give what it was begun with (or --resume -o RUN alone), or choose another folder (-o).",
        )


def _pair(there: Any, here: Any) -> str:
    """What differs, in few words."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        keys = [key for key in sorted({*there, *here}) if there.get(key) != here.get(key)]
        return ", ".join(f"{key} {_pair(there.get(key), here.get(key))}" for key in keys)
    return f"{_short(there)} there, {_short(here)} now"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _at(record: Any, key: str) -> Any:
    for part in key.split("."):
        record = record.get(part) if isinstance(record, Mapping) else None
    return record


def unfinished(path: Path) -> str | None:
    """How to go on with what is at `path`, where a run was begun there and has not ended."""
    with contextlib.suppress(ZooError):
        if read_begun(path)["state"] != DONE:
            return f"It is a run that has not ended: go on with --resume -o {path}, or choose another folder."
    return None

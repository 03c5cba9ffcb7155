"""Checkpoints of a fit: whole or not at all, proved before they are used, two kept. See docs/formats.md."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from zoo.atomic import sync_folder
from zoo.errors import DiskError, IntegrityError
from zoo.models.tensors import read_tensors, umask, write_tensors
from zoo.weights.files import hash_file

SCHEMA: Final = 1
FOLDER: Final = "checkpoints"
STATE: Final = "state.json"
TENSORS: Final = "tensors.safetensors"
SUMS: Final = "SHA256SUMS"
#: How many stay.
KEPT: Final = 2
#: Seconds of training after which a long epoch gets a checkpoint in its midst.
EVERY: Final = 300.0
#: Writing may cost this many seconds, and beyond that this share of the time trained.
GRACE: Final = 5.0
SHARE: Final = 0.05

_NAME: Final = re.compile(r"step-(\d{8,})")
_SUM: Final = re.compile(r"([0-9a-f]{64})  (\S+)")


@dataclass(frozen=True)
class Checkpoint:
    """What one holds.

    Attributes:
        path: its folder.
        facts: state.json.
        tensors: by name.
    """

    path: Path
    facts: dict[str, Any]
    tensors: dict[str, Tensor]


@dataclass
class Checkpoints:
    """The checkpoints of one fit, in a folder of their own.

    Args:
        folder: RUN/checkpoints.
        key: of the fit; checkpoints of another are skipped.
        every: seconds between checkpoints within an epoch.

    Attributes:
        skipped: why some checkpoints could not be used, one sentence each.
    """

    folder: Path
    key: str
    every: float = EVERY
    skipped: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._began = self._last = time.monotonic()
        self._spent = 0.0
        self._unusable: set[Path] = set()

    def due(self, *, epoch_ended: bool) -> bool:
        """Whether the time has come: an epoch ended, or `every` seconds passed; but writing must not cost too much."""
        now = time.monotonic()
        if self._spent > GRACE + SHARE * (now - self._began):
            return False
        return epoch_ended or now - self._last >= self.every

    def write(self, step: int, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
        """Write one into a folder beside its place, rename it, and remove all but the newest two.

        Args:
            step: optimizer steps taken; it names the checkpoint.
            facts: what JSON can hold.
            tensors: the rest.

        Raises:
            DiskError: the disk is full, or not ours to write.
        """
        began = time.monotonic()
        place = self.folder / f"step-{step:08}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part = Path(tempfile.mkdtemp(prefix=".part-", dir=self.folder))
            try:
                part.chmod(0o777 & ~umask())
                write_tensors(part / TENSORS, tensors)
                content = {"schema": SCHEMA, "key": self.key, "step": step, **facts}
                _write(part / STATE, json.dumps(content, ensure_ascii=False, allow_nan=False))
                _write(part / SUMS, "".join(f"{hash_file(part / name)}  {name}\n" for name in (STATE, TENSORS)))
                sync_folder(part)
                self._remove(place)
                os.rename(part, place)
                self._unusable.discard(place)
            finally:
                shutil.rmtree(part, ignore_errors=True)
            sync_folder(self.folder)
            self._prune()
        except OSError as error:
            raise DiskError(
                f"no checkpoint can be written in {self.folder}",
                why=error.strerror or str(error),
                hint="Free some space, then go on from the last checkpoint with --resume.",
            ) from error
        self._last = time.monotonic()
        self._spent += self._last - began
        return place

    def newest(self) -> Checkpoint | None:
        """The newest one that is whole and of this fit. What came before it is told in `skipped`.

        All but one of the older ones go: a process that was killed may not have come to that.
        """
        self.skipped.clear()
        for place in (places := self.places()):
            try:
                found = read_checkpoint(place)
            except (IntegrityError, OSError, ValueError) as error:
                why = f"is damaged and was skipped: {error.message if isinstance(error, IntegrityError) else error}"
            else:
                if found.facts["key"] == self.key:
                    for older in places[places.index(place) + KEPT :]:
                        self._remove(older)
                    return found
                why = "is of another fit and was skipped"
            self._unusable.add(place)
            self.skipped.append(f"the checkpoint {place.name} {why}")
        return None

    def places(self) -> list[Path]:
        """Their folders, newest first."""
        found = [path for path in self.folder.glob("step-*") if _NAME.fullmatch(path.name) and path.is_dir()]
        return sorted(found, key=lambda path: int(path.name.removeprefix("step-")), reverse=True)

    def clear(self) -> None:
        """Remove them all, and what a killed process left."""
        for path in [*self.places(), *self.folder.glob(".part-*"), *self.folder.glob(".gone-*")]:
            self._remove(path)

    def sweep(self) -> None:
        """Remove what a killed process left half written or half removed. Nobody else may be writing."""
        for path in [*self.folder.glob(".part-*"), *self.folder.glob(".gone-*")]:
            shutil.rmtree(path, ignore_errors=True)

    def _prune(self) -> None:
        """Keep the newest; what was skipped goes first, so that it never takes the place of a good one."""
        good = [path for path in self.places() if path not in self._unusable]
        for path in [*self._unusable, *good[KEPT:]]:
            self._remove(path)
        self._unusable.clear()

    @staticmethod
    def _remove(path: Path) -> None:
        """Out of sight first, so that a half removed one is never taken for a damaged one."""
        if path.exists():
            gone = Path(tempfile.mkdtemp(prefix=".gone-", dir=path.parent))
            os.rename(path, gone / path.name)
            shutil.rmtree(gone, ignore_errors=True)


def read_checkpoint(place: Path) -> Checkpoint:
    """Read a checkpoint whose every byte was proved first.

    Raises:
        IntegrityError: a file is missing, its sha256 is another, or it is of a newer zoo.
    """
    sums = place / SUMS
    if not sums.is_file():
        raise IntegrityError(f"{sums} is missing")
    lines = [_SUM.fullmatch(line) for line in sums.read_text(encoding="utf-8", errors="replace").splitlines()]
    promised = {line[2]: line[1] for line in lines if line}
    if set(promised) != {STATE, TENSORS} or not all(lines):
        raise IntegrityError(f"{sums} is damaged")
    for name, sha256 in promised.items():
        if not (place / name).is_file():
            raise IntegrityError(f"{place / name} is missing")
        if hash_file(place / name) != sha256:
            raise IntegrityError(f"{place / name} has another sha256 than {SUMS} says")
    facts = json.loads((place / STATE).read_text(encoding="utf-8"))
    if facts.get("schema") != SCHEMA:
        raise IntegrityError(f"{place} has schema {facts.get('schema')}, this zoo reads {SCHEMA}")
    return Checkpoint(place, facts, read_tensors(place / TENSORS))


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())

"""A list of work that processes, on one machine or several, share through a folder. See docs/formats.md.

    DIR/queue.json                     what is being done: whoever comes later must want the same
    DIR/round-0/todo/0003              an item that nobody has begun
    DIR/round-0/claimed/0003@WORKER    one that somebody is at; its time of change is renewed while that process lives
    DIR/round-0/done/0003.json         its result

An item is claimed by renaming its file, which only one process can do. A claim that is not renewed for a while is taken
over, by renaming it again. A result gets its name by a hard link, which only one process can make: whoever was thought
dead and comes back too late is not counted. So every item has one result, whoever is killed, and when. Who cannot do an
item gives it back to the others; where nobody takes it for a while, its result is that it is lacking.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from zoo.atomic import PART, sync_folder
from zoo.errors import DiskError, IntegrityError, UsageError, ZooError
from zoo.weights.files import disk_errors

SCHEMA: Final = 1
HEADER: Final = "queue.json"
#: A claim is renewed so often, in seconds.
BEAT_S = 5.0
#: One that was not renewed for so long, by the clock of the process that looks, is taken over.
STALE_S = 60.0
#: Who waits for others looks so often.
LOOK_S = 0.5
#: An item that nobody is at and this process cannot do is left to others for so many looks.
LEFT_LOOKS = 10
_TODO, _CLAIMED, _DONE = "todo", "claimed", "done"


@dataclass
class Queue:
    """A folder of work; made by `open_queue`.

    Attributes:
        folder: DIR.
        worker: the name of this process among those that share it.
    """

    folder: Path
    worker: str = field(default_factory=lambda: f"{_host()}-{os.getpid()}-{os.urandom(3).hex()}")
    #: Claims of others: their time of change, and when this process first saw it, by its own clock.
    _seen: dict[str, tuple[int, float]] = field(default_factory=dict, repr=False)

    def work(
        self,
        number: int,
        items: Sequence[str],
        do: Callable[[str], Mapping[str, Any] | None],
        waiting: Callable[[list[str]], None] | None = None,
        *,
        again: bool = False,
    ) -> list[dict[str, Any]]:
        """Do what nobody else does of a round, and wait for the rest.

        Args:
            number: of the round; every process comes to the same one with the same items.
            items: what is to be done.
            do: gives the result of one, which JSON can hold; None = this process cannot do it, others may. What it
                raises is raised here, and the item is given back.
            waiting: told, when nothing is left to begin, which items others are at; once for each list.
            again: try once more what was found lacking before; only where no later round rests on it.

        Returns:
            The results, in the order of the items, whoever made them. Of what nobody could do: `by`, and `lacking`.
        """
        place = self.folder / f"round-{number}"
        with disk_errors("use", place):
            _make(place, {f"{_TODO}/{i:04}": item for i, item in enumerate(items)} | {_CLAIMED: None, _DONE: None})
        if again:
            self._reopen(place, len(items))
        told: list[str] = []
        beyond: set[str] = set()  # what this process cannot do
        looks = 0
        while len(done := self._done(place)) < len(items):
            claim = self._claim(place, done, beyond)
            if claim is not None:
                looks = 0
                if not self._do(place, claim, items[int(_number(claim))], do):
                    beyond.add(_number(claim))
                continue
            looks = looks + 1 if self._is_left(place, done, beyond) else 0
            if looks > LEFT_LOOKS:
                self._settle(place, beyond - done)
                continue
            left = [item for i, item in enumerate(items) if f"{i:04}" not in done]
            if waiting is not None and left != told:
                waiting(left)
                told = left
            time.sleep(LOOK_S)
        self._tidy(place)
        try:
            return [_read(place / _DONE / f"{i:04}.json") for i in range(len(items))]
        except ZooError:
            if len(self._done(place)) == len(items):
                raise
        return self.work(number, items, do, waiting)  # somebody tries once more what was lacking

    def _done(self, place: Path) -> set[str]:
        with disk_errors("read", place):
            return {_number(name) for name in os.listdir(place / _DONE) if not name.startswith(".")}

    def _claim(self, place: Path, done: set[str], beyond: set[str]) -> Path | None:
        """An item that is now this process's: one that nobody had, else one of somebody who is gone."""
        with disk_errors("use", place):
            for name in sorted(os.listdir(place / _TODO)):
                if name in beyond:
                    continue
                if (claim := self._take(place, place / _TODO / name)) is not None:
                    return claim
            for name in sorted(os.listdir(place / _CLAIMED)):
                claimed = place / _CLAIMED / name
                if _number(name) in done:
                    continue
                if self._is_stale(claimed) and (claim := self._take(place, claimed)) is not None:
                    if _number(name) not in beyond:
                        return claim
                    self._give_back(place, claim)
        return None

    def _is_left(self, place: Path, done: set[str], beyond: set[str]) -> bool:
        """Whether nobody is at anything, and this process can do nothing of what is left."""
        with disk_errors("read", place):
            todo = set(os.listdir(place / _TODO)) - done
            return bool(todo) and todo <= beyond and all(_number(name) in done for name in os.listdir(place / _CLAIMED))

    def _settle(self, place: Path, left: set[str]) -> None:
        """Publish that what is left is lacking, unless somebody takes it at this moment."""
        with disk_errors("use", place):
            for name in sorted(left):
                if (claim := self._take(place, place / _TODO / name)) is not None:
                    self._publish(place, claim, {"lacking": True})

    def _reopen(self, place: Path, items: int) -> None:
        """Give back what was found lacking, where the round was ended; a rename, so that it is never nowhere."""
        if len(done := self._done(place)) < items:
            return
        with contextlib.suppress(DiskError, FileNotFoundError):  # somebody else does so too
            for number in sorted(done):
                file = place / _DONE / f"{number}.json"
                if _read(file).get("lacking"):
                    os.rename(file, place / _TODO / number)

    def _give_back(self, place: Path, claim: Path) -> None:
        with contextlib.suppress(OSError):  # somebody else has it by now
            os.rename(claim, place / _TODO / _number(claim))

    def _take(self, place: Path, file: Path) -> Path | None:
        mine = place / _CLAIMED / f"{_number(file)}@{self.worker}"
        try:
            os.rename(file, mine)
            os.utime(mine)
        except FileNotFoundError:  # somebody else was faster
            return None
        return mine

    def _is_stale(self, claim: Path) -> bool:
        """Whether it has not been renewed for long. Clocks of several machines differ, so that this one's counts."""
        try:
            changed = claim.stat().st_mtime_ns
        except FileNotFoundError:
            return False
        now = time.monotonic()
        before = self._seen.get(claim.name)
        if before is None or before[0] != changed:
            self._seen[claim.name] = (changed, now)
            return False
        return now - before[1] >= STALE_S

    def _do(self, place: Path, claim: Path, item: str, do: Callable[[str], Mapping[str, Any] | None]) -> bool:
        """Do an item; False = this process cannot, and it was given back."""
        try:
            with _renewed(claim):
                result = do(item)
        except BaseException:
            self._give_back(place, claim)
            raise
        if result is None:
            self._give_back(place, claim)
            return False
        self._publish(place, claim, result)
        return True

    def _publish(self, place: Path, claim: Path, result: Mapping[str, Any]) -> None:
        text = json.dumps({"by": self.worker, **result}, ensure_ascii=False, allow_nan=False)
        with disk_errors("write", place):
            publish_once(place / _DONE / f"{_number(claim)}.json", text.encode())
            claim.unlink(missing_ok=True)

    def _tidy(self, place: Path) -> None:
        """Remove what is left of processes that are gone; all of it is done."""
        with contextlib.suppress(OSError):
            for left in [*(place / _CLAIMED).iterdir(), *(place / _DONE).glob(f".*{PART}")]:
                left.unlink(missing_ok=True)
            _sweep(place)


def open_queue(folder: Path, header: Mapping[str, Any]) -> tuple[Queue, dict[str, Any]]:
    """Begin a queue in a folder, or join the one that is there; the header that counts is the one that is there.

    Raises:
        UsageError: something else lies there.
        IntegrityError: its header is damaged, or of a newer zoo.
        DiskError: the folder cannot be written.
    """
    header = {"schema": SCHEMA, **header}
    text = json.dumps(header, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with disk_errors("make", folder):
        if not (folder / HEADER).is_file():
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not (folder / HEADER).is_file():
                raise UsageError(
                    f"{folder} is no queue, and not empty", hint="Choose a folder that does not exist yet."
                )
            folder.parent.mkdir(parents=True, exist_ok=True)
            _make(folder, {HEADER: text})
        _sweep(folder)
    found = _read(folder / HEADER)
    if found.get("schema") != SCHEMA:
        raise IntegrityError(f"{folder / HEADER} has schema {found.get('schema')!r}, this zoo reads {SCHEMA}")
    return Queue(folder), found


def publish_once(target: Path, content: bytes) -> bool:
    """Give `content` its name unless somebody else did before; whether this process did."""
    part = target.with_name(f".{target.name}.{os.urandom(8).hex()}{PART}")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(part, target)
        except FileExistsError:
            return False
        except FileNotFoundError:  # swept by who saw that all is done
            return False
        except OSError:  # a disk without hard links
            if target.exists():
                return False
            os.replace(part, target)
        sync_folder(target.parent)
        return True
    finally:
        part.unlink(missing_ok=True)


def _make(folder: Path, content: Mapping[str, str | None]) -> None:
    """Make a folder with files (None = a folder) in it, whole or not at all, unless somebody else did before."""
    if _is_made(folder):
        return
    part = folder.with_name(f".{folder.name}.{os.urandom(8).hex()}{PART}")
    try:
        part.mkdir()
        for name, text in content.items():
            path = part / name
            if text is None:
                path.mkdir()
                continue
            path.parent.mkdir(exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        if os.name != "posix" and folder.is_dir():
            folder.rmdir()  # Windows renames onto nothing only
        os.rename(part, folder)
        sync_folder(folder.parent)
    except OSError:
        if not _is_made(folder):  # else somebody else was faster, and swept this one's
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _is_made(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _sweep(folder: Path) -> None:
    """Remove what killed processes left beside a folder that is made."""
    for part in folder.parent.glob(f".{glob.escape(folder.name)}.*{PART}"):
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _renewed(claim: Path) -> Iterator[None]:
    """Renew a claim while the block runs."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_S):
            try:
                os.utime(claim)
            except FileNotFoundError:  # taken over: this process was thought dead
                return
            except OSError:
                continue

    thread = threading.Thread(target=beat, name="zoo-queue", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _read(path: Path) -> dict[str, Any]:
    try:
        with disk_errors("read", path):
            text = path.read_text(encoding="utf-8")
        found = json.loads(text)
        if not isinstance(found, dict):
            raise ValueError("no object")
    except ValueError as error:
        raise IntegrityError(
            f"{path} is damaged", why=str(error), hint="Remove the folder, and begin again."
        ) from error
    return found


def _number(file: Path | str) -> str:
    """0003 of `0003`, `0003@WORKER` and `0003.json`."""
    return Path(file).name.partition("@")[0].partition(".")[0]


def _host() -> str:
    return "".join(letter for letter in socket.gethostname() if letter.isalnum() or letter in "-_.")[:60] or "host"

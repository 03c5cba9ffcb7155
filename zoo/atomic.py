"""Files written whole or not at all, by one process at a time, with nothing left over.

Beside a file `NAME` live, while it is written, `.NAME.lock` and a `.NAME.*.part`. A writer that is killed leaves them;
whoever holds the lock next removes them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from filelock import BaseFileLock

#: The ending of unfinished files.
PART: Final = ".part"
#: Between two looks at a lock that another process holds, in seconds.
_LOOK_S: Final = 2.0


@contextlib.contextmanager
def locked(path: Path, *, timeout: float = -1, waiting: Callable[[], None] | None = None) -> Iterator[bool]:
    """Hold the lock file `path`, which is gone afterwards; gives whether another process had to be waited for.

    A process that dies, by whatever signal, loses its lock at once.

    Args:
        path: the lock file; its folder is there.
        timeout: seconds to wait; negative waits for ever.
        waiting: told every two seconds of waiting.

    Raises:
        TimeoutError: another process holds it.
        OSError: the lock file cannot be made.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    waited, left = False, timeout
    while True:
        try:
            # The first look is short, so that who waits says so early.
            step = _LOOK_S if waited else 0.2
            lock.acquire(timeout=step if timeout < 0 else min(step, left))
            break
        except Timeout:
            waited, left = True, left - step
            if timeout >= 0 and left <= 0:
                raise
            if waiting is not None:
                waiting()
    try:
        yield waited
    finally:
        _forget(lock, path)


def _forget(lock: BaseFileLock, path: Path) -> None:
    # Removed while it is still held. Who waits on the removed file sees, once it has the lock, that no name leads to
    # it, and starts over (filelock looks at the link count). Windows removes the file itself on release.
    with contextlib.suppress(OSError):
        if os.name == "posix":
            path.unlink(missing_ok=True)
    lock.release()


def lock_beside(target: Path) -> Path:
    """The lock file of those who write `target`."""
    return target.with_name(f".{target.name}.lock")


@contextlib.contextmanager
def writing(target: Path, *, timeout: float = -1) -> Iterator[None]:
    """Hold the right to write `target`; what a killed writer left beside it is removed first.

    Raises:
        TimeoutError: another process holds it.
        OSError: the folder cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(lock_beside(target), timeout=timeout):
        for stray in _strays(target):
            stray.unlink(missing_ok=True)
        yield


def tidy(target: Path) -> None:
    """Remove what killed writers left beside `target`, unless somebody writes it now. Never fails."""
    with contextlib.suppress(OSError):
        if lock_beside(target).exists() or _strays(target):
            with writing(target, timeout=0):
                pass


def write_atomically(target: Path, content: bytes) -> None:
    """Write `content` so that readers see the old file or the new one, never a piece."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.urandom(8).hex()}{PART}")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        publish(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def publish(part: Path, target: Path) -> None:
    """Give a finished file, written and synced, its final name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(part, target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut, where the system can (Windows cannot open folders)."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _strays(target: Path) -> list[Path]:
    start = f".{target.name}."
    with os.scandir(target.parent) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(start) and entry.name.endswith(PART)]
    return [target.with_name(name) for name in names]

"""Hashes of files, and the errors that disks give."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from zoo.errors import DiskError
from zoo.settings import elsewhere

CHUNK: Final = 1 << 20

#: Told the number of bytes that were just read or received.
Tick = Callable[[int], None]


@contextlib.contextmanager
def disk_errors(doing: str, path: Path) -> Iterator[None]:
    """Turn what the operating system says while `doing` something to `path` into a `DiskError`."""
    try:
        yield
    except OSError as error:
        raise DiskError(
            f"cannot {doing} {path}",
            why=error.strerror or str(error),
            hint=f"Free some space, check the permissions, or {elsewhere(path)}.",
        ) from error


def hash_file(path: Path, tick: Tick | None = None) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hash_stream(file, tick=tick)


def hash_stream(source: BinaryIO, into: BinaryIO | None = None, tick: Tick | None = None) -> str:
    """The sha256 of what is left of `source`, copied to `into` on the way."""
    digest = hashlib.sha256()
    while chunk := source.read(CHUNK):
        digest.update(chunk)
        if into is not None:
            into.write(chunk)
        if tick is not None:
            tick(len(chunk))
    return digest.hexdigest()

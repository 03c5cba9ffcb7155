"""A file that grows: written, hashed and synced while more arrives, by a thread of its own where it is large."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from queue import Queue
from types import TracebackType
from typing import Any, Final

from zoo.weights.files import CHUNK

#: Chunks that may wait for the disk, and are lost when the process is killed.
_AHEAD: Final = 4
#: Below this size nothing waits: each chunk is on its way to the disk before the next is asked for.
_SMALL: Final = 64 * 2**20
#: The disk is made to work early, so that the last sync finds little left.
_SYNC_EVERY: Final = 64 * 2**20


class Part:
    """An unfinished file at `path`; what it holds already is hashed and kept. A context manager.

    What `write` took is on its way to the disk: it survives the death of this process once it was written, and a
    power cut once `finish` returned.

    Attributes:
        have: bytes it holds, those on their way included.

    Raises:
        OSError: the disk says no; by any method, about any earlier byte.
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self._file = path.open("ab+", buffering=0)
        self._digest = hashlib.sha256()
        self._file.seek(0)
        self.have = 0
        while chunk := self._file.read(CHUNK):
            self._digest.update(chunk)
            self.have += len(chunk)
        self._queue: Queue[bytes | None] = Queue(_AHEAD)
        self._unsynced = 0
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def write(self, chunk: bytes) -> None:
        """Append."""
        self._check()
        if self._thread is None and self.have < _SMALL:
            self._take(chunk)
        else:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True)
                self._thread.start()
            self._queue.put(chunk)
        self.have += len(chunk)

    def restart(self) -> None:
        """Hold nothing."""
        self._drain()
        self._file.truncate(0)
        self._digest = hashlib.sha256()
        self.have = 0

    def finish(self) -> str:
        """Make sure that everything is on the disk; the sha256 of it all."""
        self._drain()
        os.fsync(self._file.fileno())
        return self._digest.hexdigest()

    def __enter__(self) -> Part:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
        self._file.close()

    def _drain(self) -> None:
        self._queue.join()
        self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _take(self, chunk: bytes) -> None:
        _write_all(self._file, chunk)
        self._digest.update(chunk)
        self._unsynced += len(chunk)
        if self._unsynced >= _SYNC_EVERY:
            os.fsync(self._file.fileno())
            self._unsynced = 0

    def _work(self) -> None:
        while (chunk := self._queue.get()) is not None:
            try:
                if self._error is None:
                    self._take(chunk)
            except BaseException as error:
                self._error = error
            finally:
                self._queue.task_done()


def _write_all(file: Any, chunk: bytes) -> None:
    left = memoryview(chunk)
    while left:
        left = left[file.write(left) :]

"""Files that were read once: their sha256, so that an unchanged file need not be read and proved again.

`$ZOO_HOME/samples.sqlite`, one table::

    files(path TEXT PRIMARY KEY, inode, size, mtime_ns, ctime_ns, library TEXT, sha256 BLOB)

A file is known while all of these stay; the time of change (ctime) cannot be set back by anybody. It is a cache: where
it cannot be read or written, files are read.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from zoo.settings import Settings

if TYPE_CHECKING:
    import sqlite3

#: Fewer files are read faster than they are looked up.
LEAST: Final = 64
#: Rows kept; beyond, the table starts anew.
_MOST: Final = 3_000_000
#: A file changed this recently may change again within the same tick of its clock.
_SETTLED_NS: Final = 2_000_000_000
#: Names in one question.
_ASKED: Final = 500
_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, inode INTEGER, size INTEGER, mtime_ns INTEGER, "
    "ctime_ns INTEGER, library TEXT, sha256 BLOB) WITHOUT ROWID"
)

Stamp = tuple[int, int, int, int]


class SeenFiles:
    """What is known of files.

    Args:
        settings: where the table is.
        version: of the library that proves them.
    """

    def __init__(self, settings: Settings, version: str) -> None:
        self.path: Final = settings.home / "samples.sqlite"
        self.version = version

    def known(self, stamps: Mapping[str, Stamp]) -> dict[str, str]:
        """The sha256 of the files, by path, that are unchanged since they were proved readable."""
        found: dict[str, str] = {}
        if not self.path.is_file():
            return found
        names = list(stamps)
        with _forgiving(self.path), self._open() as table:
            for start in range(0, len(names), _ASKED):
                part = names[start : start + _ASKED]
                marks = ",".join("?" * len(part))
                rows = table.execute(f"SELECT * FROM files WHERE path IN ({marks})", part)
                for path, *stamp, library, sha256 in rows:
                    if tuple(stamp) == stamps[path] and library == self.version and len(sha256) == 32:
                        found[path] = bytes(sha256).hex()
        return found

    def note(self, stamps: Mapping[str, Stamp], digests: Mapping[str, str]) -> None:
        """Remember files that were read and are sound; `stamps` are from before they were read."""
        settled = time.time_ns() - _SETTLED_NS
        rows = [
            (path, *stamps[path], self.version, bytes.fromhex(sha256))
            for path, sha256 in digests.items()
            if max(stamps[path][2:]) < settled and stamp_of(path) == stamps[path]
        ]
        if not rows:
            return
        with _forgiving(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._open() as table:
                table.execute(_TABLE)
                if table.execute("SELECT count(*) FROM files").fetchone()[0] + len(rows) > _MOST:
                    table.execute("DELETE FROM files")
                table.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        import sqlite3

        connection = sqlite3.connect(self.path, timeout=5)
        try:
            with connection:  # one transaction
                yield connection
        finally:
            connection.close()


def stamp_of(path: str) -> Stamp | None:
    """(inode, size, mtime_ns, ctime_ns); None where there is no such file."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def stamps_of(paths: Sequence[Path]) -> dict[str, Stamp]:
    """The stamps of those that are there."""
    stamps = ((str(path), stamp_of(str(path))) for path in paths)
    return {path: stamp for path, stamp in stamps if stamp is not None}


@contextlib.contextmanager
def _forgiving(path: Path) -> Iterator[Any]:
    """Trouble with the table costs a reading of the files and no more; a damaged table is removed."""
    import sqlite3

    try:
        yield
    except sqlite3.OperationalError:  # locked, read-only, full
        pass
    except sqlite3.DatabaseError:
        with contextlib.suppress(OSError):
            path.unlink()
    except (OSError, OverflowError, TypeError, UnicodeError):
        pass

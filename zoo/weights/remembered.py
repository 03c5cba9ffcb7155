"""What was once found out about files, so that it need not be found out again.

`$ZOO_HOME/hashes.json`::

    {"schema": 1,
     "files": {"/path/a.safetensors": [inode, size, mtime_ns, "sha256"]},
     "finite": ["sha256 of a file whose every number is finite"],
     "converted": {"sha256 of a pickle": "sha256 of the safetensors file made of it"}}

It is a cache: a damaged file is started anew, and where it cannot be written nothing is remembered.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any, Final

from zoo.atomic import write_atomically, writing
from zoo.errors import DiskError, IntegrityError, NotFoundError
from zoo.settings import Settings
from zoo.weights.files import Tick, hash_file

_MOST: Final = 4096
#: A file changed this recently may change again without a new time stamp.
_SETTLED_NS: Final = 2_000_000_000


class Remembered:
    """Facts about files, kept in `$ZOO_HOME/hashes.json`."""

    def __init__(self, settings: Settings) -> None:
        self.path: Final = settings.home / "hashes.json"

    def sha256(self, file: Path, tick: Tick | None = None) -> str:
        """The file's hash: remembered while its inode, size and modification time stay, else computed now.

        Raises:
            NotFoundError: there is no such file.
            DiskError: it cannot be read.
            IntegrityError: it was changed while it was read.
        """
        file = Path(os.path.abspath(file))
        try:
            before = _stamp(file)
            known = self._read()["files"].get(str(file))
            if known is not None and known[:3] == before:
                return known[3]
            digest = hash_file(file, tick)
            after = _stamp(file)
        except FileNotFoundError as error:
            raise NotFoundError(f"no file {file}", hint="Check the path.") from error
        except OSError as error:
            raise DiskError(f"{file} cannot be read", why=error.strerror) from error
        if before != after:
            raise IntegrityError(f"{file} was changed while it was read", hint="Try again once it is written.")
        if time.time_ns() - after[2] > _SETTLED_NS:
            self._note("files", {str(file): [*after, digest]})
        return digest

    def is_finite(self, sha256: str) -> bool:
        """Whether a file with this hash was seen to hold finite numbers only."""
        return sha256 in self._read()["finite"]

    def note_finite(self, sha256: str) -> None:
        """Remember that a file with this hash holds finite numbers only."""
        self._note("finite", {sha256: True})

    def converted(self, source: str) -> str | None:
        """The hash of the safetensors file made of the pickle whose hash is, or starts with, `source`."""
        found = self._read()["converted"]
        return next((made for pickle, made in found.items() if pickle.startswith(source)), None)

    def conversions(self) -> dict[str, str]:
        """The hash of each pickle that was converted -> the hash of what was made of it."""
        return self._read()["converted"]

    def converted_from(self, made: str) -> str | None:
        """The hash of the pickle that the safetensors file `made` was made of."""
        return next((pickle for pickle, other in self._read()["converted"].items() if other == made), None)

    def note_converted(self, source: str, made: str) -> None:
        """Remember what became of a pickle."""
        self._note("converted", {source: made})

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            found = json.loads(self.path.read_bytes())
            if found["schema"] != 1:
                raise ValueError("another schema")
            files = {str(k): v for k, v in found["files"].items() if _is_entry(v)}
            converted = {str(k): str(v) for k, v in found["converted"].items()}
            return {"files": files, "finite": {str(k): True for k in found["finite"]}, "converted": converted}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {"files": {}, "finite": {}, "converted": {}}

    def _note(self, section: str, entry: dict[str, Any]) -> None:
        # Losing a note costs one more hash, so no trouble with the disk may stop the caller.
        with contextlib.suppress(OSError), writing(self.path, timeout=5):
            facts = self._read()
            facts[section] = dict([*facts[section].items(), *entry.items()][-_MOST:])
            content = {"schema": 1, **facts, "finite": list(facts["finite"])}
            write_atomically(self.path, json.dumps(content, indent=1).encode())


def _stamp(file: Path) -> list[int]:
    found = file.stat()
    return [found.st_ino, found.st_size, found.st_mtime_ns]


def _is_entry(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4
        and all(type(part) is int for part in value[:3])
        and isinstance(value[3], str)
        and len(value[3]) == 64
    )

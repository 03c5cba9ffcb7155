"""What the feature store keeps on disk: listed, and trimmed to a size. Imports no torch."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from zoo.settings import Settings
from zoo.weights.source import SHA256

FACTS: Final = "space.json"
#: An unfinished file this old belongs to nobody.
_STALE_S: Final = 3600
_PART: Final = ".part"


@dataclass(frozen=True, slots=True)
class Kept:
    """Features of one network, read one way.

    Attributes:
        path: their folder.
        nbytes: on disk.
        used: when they were last used, seconds since the epoch.
        facts: what they were made with: backbone, tap, precision ... ; empty where `space.json` is damaged.
    """

    path: Path
    nbytes: int
    used: float
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The space's key."""
        return self.path.name


def kept_features(settings: Settings, *, facts: bool = True) -> list[Kept]:
    """The spaces on disk, the last used first.

    Args:
        facts: read what each was made with too.
    """
    found = []
    for name in _names(settings.features):
        if SHA256.fullmatch(name):
            path = settings.features / name
            nbytes = sum(size for _, size, _ in _files(path))
            found.append(Kept(path, nbytes, _used(path), _facts(path) if facts else {}))
    return sorted(found, key=lambda one: one.used, reverse=True)


def trim_features(
    settings: Settings, limit: int | None = None, *, keep: Collection[str] = (), dry_run: bool = False
) -> list[Kept]:
    """Remove the spaces that were used longest ago until the rest fits, and files that a killed process left.

    Args:
        limit: bytes; None = `settings.features_limit`; 0 removes all.
        keep: keys of spaces that stay in any case.
        dry_run: only say which.

    Returns:
        What was removed.
    """
    limit = settings.features_limit if limit is None else limit
    if not dry_run:
        _sweep(settings.features)
    spaces = kept_features(settings)
    size = sum(one.nbytes for one in spaces)
    removed = []
    for space in reversed(spaces):
        if size <= limit:
            break
        if space.key not in keep and (dry_run or _remove(space.path)):
            removed.append(space)
            size -= space.nbytes
    return removed


def _remove(folder: Path) -> bool:
    # Renamed first: no reader sees half of it, and what others have mapped stays theirs.
    aside = folder.with_name(f".gone-{os.urandom(8).hex()}{_PART}")
    try:
        os.rename(folder, aside)
    except OSError:
        return False
    shutil.rmtree(aside, ignore_errors=True)
    return True


def _sweep(folder: Path) -> None:
    """Remove what killed processes left: unfinished files, and folders on their way out."""
    old = time.time() - _STALE_S
    inner = [folder / name for name in _names(folder) if SHA256.fullmatch(name)]
    for place in (folder, *inner):
        for name in _names(place):
            if name.endswith(_PART):
                path = place / name
                with contextlib.suppress(OSError):
                    if path.is_dir():
                        shutil.rmtree(path, ignore_errors=True)
                    elif path.stat().st_mtime < old:
                        path.unlink()


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _files(folder: Path) -> list[tuple[str, int, float]]:
    """(name, bytes, modification time) of the files in a folder."""
    found = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                status = entry.stat()
                found.append((entry.name, status.st_size, status.st_mtime))
    return found


def _used(folder: Path) -> float:
    for path in (folder / FACTS, folder):
        with contextlib.suppress(OSError):
            return path.stat().st_mtime
    return 0.0


def _facts(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / FACTS).read_bytes())["facts"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}

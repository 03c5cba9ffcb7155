"""The projects and runs whose files name blobs of the store, so that a clean-up made elsewhere keeps them.

`$ZOO_HOME/roots.json`::

    {"schema": 1, "files": ["/project/registry.toml", "/project/zoo.lock"]}

Written by every pull for a lock or a registry file outside `$ZOO_HOME`, and for the run.json of a run that is saved
without its backbone. A file that is gone is forgotten.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from zoo.atomic import write_atomically, writing
from zoo.settings import Settings

NAME: Final = "roots.json"


def known(settings: Settings) -> list[Path]:
    """The files that were noted and still exist, sorted."""
    return sorted(path for path in _read(settings.home / NAME) if path.is_file())


def note(settings: Settings, files: Iterable[Path]) -> None:
    """Remember these files; those of `$ZOO_HOME` itself are never forgotten anyway."""
    home = os.path.abspath(settings.home)
    wanted = {Path(os.path.abspath(file)) for file in files}
    wanted = {file for file in wanted if file.is_file() and str(file.parent) != home}
    path = settings.home / NAME
    if wanted <= _read(path):
        return
    # A store that cannot be written cannot be cleaned either, so nothing is lost where this fails.
    with contextlib.suppress(OSError, TimeoutError), writing(path, timeout=5):
        files = {file for file in _read(path) if file.is_file()} | wanted
        content = {"schema": 1, "files": sorted(map(str, files))}
        write_atomically(path, json.dumps(content, indent=1).encode())


def _read(path: Path) -> set[Path]:
    try:
        found = json.loads(path.read_bytes())
        return {Path(file) for file in found["files"]} if found["schema"] == 1 else set()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()

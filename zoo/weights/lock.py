"""`zoo.lock`: which bytes a weights name meant when it was pulled.

It lies beside the `--registry` file or the project's `registry.toml`, else in `$ZOO_HOME`::

    schema = 1

    [weights."resnet18.tv_in1k"]
    source = "hf://timm/resnet18.tv_in1k@<40 hex>/model.safetensors"
    revision = "<40 hex>"
    file = "model.safetensors"
    sha256 = "<64 hex>"              # of the bytes at the source
    bytes = 46807446
    format = "safetensors"           # or "pickle", then with converted_sha256

Sorted, without times and local paths, so that it can be committed.
"""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from zoo.atomic import write_atomically, writing
from zoo.catalog.spec import Weights
from zoo.errors import IntegrityError, RegistryError
from zoo.settings import Settings
from zoo.weights.files import disk_errors
from zoo.weights.source import COMMIT, SHA256, HubFile, parse, source_of

NAME: Final = "zoo.lock"
SCHEMA: Final = 1
_HEAD: Final = "# Written by `zoo pull`; commit it. `zoo pull --locked` takes exactly these bytes.\n"


@dataclass(frozen=True, slots=True)
class Entry:
    """One pulled set of weights; see the module for the meaning of the fields."""

    source: str
    file: str
    sha256: str
    bytes: int
    format: str = "safetensors"
    revision: str | None = None
    converted_sha256: str | None = None


class Lock:
    """The lock file at `path`, read once; a missing file is an empty lock."""

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self.entries: Final[dict[str, Entry]] = _read(path)

    @classmethod
    def of(cls, settings: Settings) -> Lock:
        """The lock of the topmost project: beside `--registry`, beside `./registry.toml`, else in `$ZOO_HOME`."""
        return cls(place(settings))

    def entry(self, weights: Weights) -> Entry | None:
        """What the lock knows of `weights`; None where it knows nothing or speaks of another source."""
        entry = self.entries.get(weights.name)
        if entry is None:
            return None
        wanted, locked = source_of(weights), parse(entry.source)
        if isinstance(wanted, HubFile) and isinstance(locked, HubFile):
            return entry if wanted.same_file(locked) else None
        return entry if str(wanted) == str(locked) else None

    def write(self, name: str, entry: Entry) -> None:
        """Record one entry; other processes may record theirs at the same time.

        Raises:
            DiskError: the folder cannot be written.
            IntegrityError: the file on disk is damaged; it is left as it is.
        """
        with disk_errors("write", self.path), writing(self.path):
            entries = _read(self.path)
            if entries.get(name) != entry:
                entries[name] = entry
                write_atomically(self.path, _dump(entries).encode())
        self.entries.clear()
        self.entries.update(entries)


def place(settings: Settings) -> Path:
    """Where the lock lies."""
    if settings.registry is not None:
        return settings.registry.absolute().parent / NAME
    project = Path.cwd() / "registry.toml"
    return project.parent / NAME if project.is_file() else settings.home / NAME


def _read(path: Path) -> dict[str, Entry]:
    try:
        with disk_errors("read", path):
            if not path.exists():
                return {}
            found = tomllib.loads(path.read_text(encoding="utf-8"))
        if found.get("schema") != SCHEMA:
            raise ValueError(f"its schema is {found.get('schema')!r}, not {SCHEMA}")
        weights = found.get("weights", {})
        if not isinstance(weights, dict):
            raise ValueError("weights is not a table")
        return {name: _entry(name, table) for name, table in weights.items()}
    except (ValueError, TypeError, RegistryError) as error:
        raise IntegrityError(
            f"{path} is damaged",
            why=str(error).splitlines()[0],
            hint="Restore it from version control, or remove it and run `zoo pull` again.",
        ) from error


def _entry(name: str, table: Any) -> Entry:
    if not isinstance(table, dict):
        raise ValueError(f"{name} is not a table")
    entry = Entry(**table)
    for key, value in asdict(entry).items():
        if key != "bytes" and value is not None and not isinstance(value, str):
            raise ValueError(f"{name}: {key} is not text")
    hashes = (entry.sha256, entry.converted_sha256 or entry.sha256)
    if not all(SHA256.fullmatch(value) for value in hashes):
        raise ValueError(f"{name}: sha256 is not 64 hex digits")
    if entry.revision is not None and not COMMIT.fullmatch(entry.revision):
        raise ValueError(f"{name}: revision is not 40 hex digits")
    if type(entry.bytes) is not int or entry.bytes < 0:
        raise ValueError(f"{name}: bytes is not a size")
    parse(entry.source)
    return entry


def _dump(entries: dict[str, Entry]) -> str:
    import tomlkit

    tables = {
        name: {key: value for key, value in asdict(entry).items() if value is not None}
        for name, entry in sorted(entries.items())
    }
    return _HEAD + tomlkit.dumps({"schema": SCHEMA, "weights": tables})

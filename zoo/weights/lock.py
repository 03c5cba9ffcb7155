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

    [weights."minilm_l6.all_v2".files]
    "tokenizer.json" = "<64 hex>"    # further files of these weights, by their names

Sorted, without times and local paths, so that it can be committed. What it says must agree with itself: the revision
and the file are those of the source, a pickle has a `converted_sha256` and nothing else has one, and two entries for
one source name the same bytes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, NoReturn

from zoo.atomic import write_atomically, writing
from zoo.catalog.ledger import line_of
from zoo.catalog.near import nearest
from zoo.catalog.spec import NAME as ARCH
from zoo.catalog.spec import TAG, Weights
from zoo.errors import IntegrityError, RegistryError
from zoo.settings import Settings
from zoo.weights.files import disk_errors
from zoo.weights.source import (
    ASSET,
    COMMIT,
    SHA256,
    Asset,
    HubFile,
    LocalFile,
    PluginFile,
    WebFile,
    parse,
    source_of,
)

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
    files: Mapping[str, str] | None = None

    @classmethod
    def of(
        cls,
        source: HubFile | WebFile | LocalFile | PluginFile,
        sha256: str,
        size: int,
        made: str | None,
        assets: Iterable[Asset] = (),
    ) -> Entry:
        """The entry for bytes from `source`, its revision resolved.

        Args:
            sha256: of the bytes at the source.
            size: their number.
            made: the sha256 of the safetensors file made of them, if they are a pickle.
            assets: what belongs to them besides.
        """
        return cls(
            source=str(source),
            file=source.file,
            sha256=sha256,
            bytes=size,
            format="pickle" if made else "safetensors",
            revision=source.revision if isinstance(source, HubFile) else None,
            converted_sha256=made,
            files={asset.name: asset.sha256 for asset in assets} or None,
        )

    def is_of(self, weights: Weights) -> bool:
        """Whether it speaks of the source that `weights` name."""
        wanted, locked = source_of(weights), parse(self.source)
        if isinstance(wanted, HubFile) and isinstance(locked, HubFile):
            return wanted.same_file(locked)
        return str(wanted) == str(locked)


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
        return entry if entry is not None and entry.is_of(weights) else None

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
    with disk_errors("read", path):
        if not path.exists():
            return {}
        raw = path.read_bytes()
    try:
        text = raw.decode()
        found = tomllib.loads(text)
    except ValueError as error:
        raise _damaged(path, str(error)) from error
    try:
        return _entries(found)
    except FaultError as fault:
        line = line_of(text, fault.where)
        raise _damaged(f"{path}, line {line}," if line else path, str(fault)) from None


class FaultError(Exception):
    """Something wrong at the keys `where`."""

    def __init__(self, message: str, *where: str) -> None:
        super().__init__(message)
        self.where = where


def _damaged(place: object, why: str) -> IntegrityError:
    return IntegrityError(
        f"{place} is damaged",
        why=why.splitlines()[0],
        hint="Restore it from version control, or remove it and run `zoo pull` again.",
    )


def _entries(found: dict[str, Any]) -> dict[str, Entry]:
    if found.get("schema") != SCHEMA:
        raise FaultError(f"its schema is {found.get('schema')!r}, not {SCHEMA}", "schema")
    if more := [key for key in found if key not in ("schema", "weights")]:
        raise FaultError(f"unknown key {more[0]!r}", more[0])
    tables = found.get("weights", {})
    if not isinstance(tables, dict):
        raise FaultError("weights is not a table", "weights")
    entries = {name: read_entry(name, table) for name, table in tables.items()}
    bytes_of: dict[str, str] = {}
    for name, entry in entries.items():
        if bytes_of.setdefault(entry.source, entry.sha256) != entry.sha256:
            raise FaultError(f"{name}: another entry gives {entry.source} another sha256", "weights", name, "sha256")
    return entries


def read_entry(name: str, table: Any) -> Entry:
    """One entry, checked.

    Raises:
        FaultError: it breaks the schema, or does not agree with itself.
    """

    def refuse(message: str, *key: str) -> NoReturn:
        raise FaultError(f"{name}: {message}", "weights", name, *key)

    arch, _, tag = name.partition(".")
    if not ARCH.fullmatch(arch) or not TAG.fullmatch(tag):
        refuse("it is no name of weights, ARCH.TAG")
    if not isinstance(table, dict):
        refuse("it is not a table")
    known = {field.name: field for field in fields(Entry)}
    for key, value in table.items():
        if key not in known:
            near = nearest(key, known, 1)
            refuse(f"unknown key {key!r}" + (f" (did you mean {near[0]!r}?)" if near else ""), key)
        if key == "files":
            if not isinstance(value, dict) or not all(
                ASSET.fullmatch(file) and isinstance(pin, str) and SHA256.fullmatch(pin) for file, pin in value.items()
            ):
                refuse("files does not map names of files to 64 hex digits", key)
        elif key != "bytes" and not isinstance(value, str):
            refuse(f"{key} is not text", key)
    for key in ("source", "file", "sha256", "bytes"):
        if key not in table:
            refuse(f"{key} is missing")
    entry = Entry(**table)
    for key in ("sha256", "converted_sha256"):
        if (value := getattr(entry, key)) is not None and not SHA256.fullmatch(value):
            refuse(f"{key} is not 64 hex digits", key)
    if type(entry.bytes) is not int or entry.bytes <= 0:
        refuse("bytes is not a size", "bytes")
    if entry.format not in ("safetensors", "pickle"):
        refuse(f"format is {entry.format!r}, neither 'safetensors' nor 'pickle'", "format")
    if (entry.format == "pickle") != (entry.converted_sha256 is not None):
        refuse("converted_sha256 belongs to a pickle, and to nothing else", "format")
    try:
        source = parse(entry.source)
    except RegistryError as error:
        refuse(error.message, "source")
    _expect_source(entry, source, refuse)
    return entry


def _expect_source(entry: Entry, source: HubFile | WebFile | LocalFile | PluginFile, refuse: Any) -> None:
    if isinstance(source, LocalFile):
        refuse("file: sources do not belong here: a registry file pins them", "source")
    if entry.file != source.file:
        refuse(f"file is {entry.file!r}, the source's is {source.file!r}", "file")
    revision = source.revision if isinstance(source, HubFile) else None
    if revision is not None and not COMMIT.fullmatch(revision):
        refuse(f"the source names {revision!r}, not a commit of 40 hex digits", "source")
    if entry.revision != revision:
        refuse(f"revision is {entry.revision!r}, the source's is {revision!r}", "revision")


def _dump(entries: dict[str, Entry]) -> str:
    import tomlkit

    tables = {
        name: {key: value for key, value in asdict(entry).items() if value is not None}
        for name, entry in sorted(entries.items())
    }
    return _HEAD + tomlkit.dumps({"schema": SCHEMA, "weights": tables})

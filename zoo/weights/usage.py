"""Who needs which blob of the store: registry entries, zoo.lock, and the files of other projects."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from zoo.catalog import ledger
from zoo.catalog.spec import Weights
from zoo.errors import IntegrityError, RegistryError, UsageError
from zoo.settings import Settings
from zoo.weights import roots
from zoo.weights.lock import NAME, Lock
from zoo.weights.remembered import Remembered
from zoo.weights.source import LocalFile, assets_of, single, source_of
from zoo.weights.store import Store

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry


#: The record of a run.
RUN: Final = "run.json"


@dataclass(frozen=True, slots=True)
class Use:
    """One reason to keep a blob: a name (or a run), and the file that says so where it is not the registry here."""

    name: str
    where: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.where})" if self.where else self.name


def usage(registry: Registry) -> dict[str, list[Use]]:
    """sha256 of a blob -> who needs it, whether or not the blob is here.

    Read are the registry as it stands, every layer of it that another one hides, zoo.lock here and in `$ZOO_HOME`,
    the lock and registry files of every project that pulled something into this store, and the runs that were saved
    without their backbone.

    Raises:
        IntegrityError: one of the locks is damaged, and nobody knows what it needs.
        RegistryError: one of the registry files is.
    """
    settings = registry.settings
    store = Store(settings)
    found: dict[str, dict[str, Use]] = {}

    def add(sha256: str | None, use: Use) -> None:
        if sha256 is not None:
            found.setdefault(sha256, {}).setdefault(use.name, use)

    for weights in registry.weights():
        add(blob_of(weights, store), Use(weights.name))
        for sha256 in asset_blobs(weights):
            add(sha256, Use(weights.name))
    for weights, path in _hidden(settings):
        add(_named(weights, store), Use(weights.name, str(path)))
        for sha256 in asset_blobs(weights):
            add(sha256, Use(weights.name, str(path)))
    for path in dict.fromkeys(_locks(settings)):
        for name, entry in Lock(path).entries.items():
            add(entry.converted_sha256 or entry.sha256, Use(name, str(path)))
            for sha256 in (entry.files or {}).values():
                add(sha256, Use(name, str(path)))
    for path in roots.known(settings):
        if path.name == RUN:
            add(_of_run(path), Use(str(path)))
    return {sha256: list(uses.values()) for sha256, uses in found.items()}


def _of_run(path: Path) -> str | None:
    """The source weights that a run saved without its backbone needs."""
    try:
        composition = json.loads(path.read_bytes())["composition"]
        weights = composition["weights"]
        return None if composition["embedded"] or weights is None else str(weights["sha256"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(
            f"{path} is damaged",
            why="so it is not known which weights that run needs",
            hint="Restore the run, or remove its folder.",
        ) from error


def asset_blobs(weights: Weights) -> list[str]:
    """The sha256 of each asset of `weights`, whether or not it is here."""
    try:
        return [asset.sha256 for asset in assets_of(weights)] if weights.files else []
    except RegistryError:  # without a hash: nothing that can be pulled
        return []


def blob_of(weights: Weights, store: Store) -> str | None:
    """The blob that `weights` are loaded from, if it is here; for a file of the store, also if it is not."""
    try:
        weights = single(weights)
    except UsageError:  # several shards: nothing that can be pulled
        return None
    if weights.source.startswith("file:"):
        source = source_of(weights)
        return store.sha256_of(source.path) if isinstance(source, LocalFile) else None
    try:
        return store.here(weights)
    except RegistryError:  # a source of no known form: nothing that can be pulled
        return None


def _named(weights: Weights, store: Store) -> str | None:
    """As `blob_of`, for an entry that zoo.lock here need not speak of."""
    if weights.source.startswith("file:"):
        return blob_of(weights, store)
    if (pin := weights.sha256 or weights.sha256_prefix) is None:
        return None
    return Remembered(store.settings).converted(pin) or weights.sha256


def _hidden(settings: Settings) -> Iterator[tuple[Weights, Path]]:
    files: Iterable[Path] = (settings.user_registry, *roots.known(settings))
    for path in files:
        if path.suffix == ".toml" and path.is_file():
            for weights in ledger.read(path).weights.values():
                yield weights, path


def _locks(settings: Settings) -> Iterator[Path]:
    yield Lock.of(settings).path
    yield settings.home / NAME
    yield from (path for path in roots.known(settings) if path.name == NAME)

"""From weights to a verified file on this disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.atomic import tidy
from zoo.catalog.spec import Weights
from zoo.errors import IntegrityError, NotFoundError, RegistryError, UsageError
from zoo.settings import Settings
from zoo.weights.header import read_header
from zoo.weights.lock import Entry, Lock
from zoo.weights.remembered import Remembered
from zoo.weights.source import PICKLES, SHA256, SHA256_PREFIX, HubFile, LocalFile, Source, single, source_of
from zoo.weights.store import Store

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry

#: Told (bytes so far, bytes in all or None) while bytes arrive.
Progress = Callable[[int, "int | None"], None]
#: Told a sentence that the person who waits should read.
Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Pulled:
    """Weights on this disk.

    Attributes:
        name: `arch.tag`.
        path: the safetensors file: a blob of the store, or the `file:` source where it lies.
        sha256: of the file at `path`.
        bytes: its size.
        source: where it came from, with the revision resolved.
        revision: the Hub's commit, if it came from there.
        cached: whether it was here already.
    """

    name: str
    path: Path
    sha256: str
    bytes: int
    source: str
    revision: str | None
    cached: bool


def pull(
    weights: Weights,
    *,
    settings: Settings,
    registry: Registry | None = None,
    locked: bool = False,
    update: bool = False,
    progress: Progress | None = None,
    note: Note | None = None,
) -> Pulled:
    """Bring `weights` to this disk, verified. Pinned (by the registry or `zoo.lock`) and present costs no request.

    Args:
        registry: asked for the plugins that fetch schemes of their own; None = the default one, where it is needed.
        locked: take exactly what `zoo.lock` says, and change nothing in it.
        update: forget what `zoo.lock` says and ask the source again.
        progress: told of the bytes that arrive.
        note: told what is waited for, when nothing arrives. Without it no wait between two attempts is longer than
            ten seconds.

    Raises:
        NotFoundError: the file is nowhere, or not here while offline.
        DownloadError: the network or the server failed.
        IntegrityError: the bytes are not what the registry, the lock or the source promised.
        DiskError: the disk is full, or not ours to write.
    """
    if locked and update:
        raise UsageError("locked and update exclude each other")
    weights = single(weights)
    _check_pins(weights)
    source = source_of(weights)
    if isinstance(source, LocalFile):
        return _local(weights, source, settings)
    store, lock = Store(settings), Lock.of(settings)
    entry = None if update else lock.entry(weights)
    if locked:
        _check_locked(weights, entry, lock)
    if not update and (sha256 := store.held(weights)) is not None:
        _tidy(store, lock)
        return _held(weights, source, store, entry, sha256)
    got = _fetch(weights, source, store, lock, entry, registry, locked, update, progress, note)
    _tidy(store, lock)
    return got


def _tidy(store: Store, lock: Lock) -> None:
    """Remove what processes that were killed left behind."""
    store.sweep()
    for written in (lock.path, store.settings.user_registry, Remembered(store.settings).path):
        tidy(written)


def _local(weights: Weights, source: LocalFile, settings: Settings) -> Pulled:
    path = source.path
    if path.name.endswith(PICKLES):
        raise IntegrityError(
            f"{path} may be a pickle, which can run code when it is opened",
            hint=f"Run `zoo convert {path} {path.with_suffix('.safetensors').name}` and name its output.",
        )
    if not path.is_file():
        raise NotFoundError(f"no file {path}", why=f"the weights {weights.name} are there", hint="Check the path.")
    header = read_header(path)
    sha256 = Remembered(settings).sha256(path)
    _agree(weights, sha256, header.size, str(path))
    return Pulled(weights.name, path, sha256, header.size, str(source), None, cached=True)


def _held(weights: Weights, source: Source, store: Store, entry: Entry | None, sha256: str) -> Pulled:
    path = store.path(sha256)
    resolved, revision = (entry.source, entry.revision) if entry else (str(source), None)
    if revision is None and isinstance(source, HubFile) and source.pinned:
        revision = source.revision
    return Pulled(weights.name, path, sha256, path.stat().st_size, resolved, revision, cached=True)


def _fetch(
    weights: Weights,
    source: Source,
    store: Store,
    lock: Lock,
    entry: Entry | None,
    registry: Registry | None,
    locked: bool,
    update: bool,
    progress: Progress | None,
    note: Note | None,
) -> Pulled:
    from zoo.weights.download import Got, Request, download

    wanted = Request(
        weights,
        # What the lock resolved is what is fetched, unless the registry names something else.
        source=_locked_source(source, entry),
        sha256=weights.sha256 or (entry.sha256 if entry else None),
        prefix=weights.sha256_prefix,
        bytes=weights.bytes or (entry.bytes if entry else None),
    )

    def learn() -> str | None:
        found = None if update else Lock(lock.path).entry(weights)
        return found.sha256 if found is not None and found.sha256.startswith(weights.sha256_prefix or "") else None

    def record(got: Got) -> None:
        if locked:
            if entry is not None and entry.converted_sha256 not in (None, got.converted):
                raise IntegrityError(
                    f"{weights.name} was converted to other bytes than {lock.path} records",
                    why=f"{got.converted}, not {entry.converted_sha256}",
                    hint="Pull it without --locked to record them.",
                )
            return
        lock.write(
            weights.name,
            Entry(
                source=str(got.source),
                file=got.source.file,
                sha256=got.sha256,
                bytes=got.bytes,
                format="pickle" if got.converted else "safetensors",
                revision=got.source.revision if isinstance(got.source, HubFile) else None,
                converted_sha256=got.converted,
            ),
        )

    got = download(wanted, store, registry=registry, progress=progress, note=note, learn=learn, record=record)
    sha256 = got.converted or got.sha256
    path = store.path(sha256)
    revision = got.source.revision if isinstance(got.source, HubFile) else None
    return Pulled(weights.name, path, sha256, path.stat().st_size, str(got.source), revision, cached=not got.fetched)


def _locked_source(source: Source, entry: Entry | None) -> Source:
    if isinstance(source, HubFile) and entry is not None and entry.revision is not None:
        return replace(source, revision=entry.revision)
    return source


def _check_pins(weights: Weights) -> None:
    for key, pattern in (("sha256", SHA256), ("sha256_prefix", SHA256_PREFIX)):
        value = getattr(weights, key)
        if value is not None and not pattern.fullmatch(value):
            raise RegistryError(f"weights {weights.name!r}: {key} must match {pattern.pattern}, not {value[:80]!r}")


def _check_locked(weights: Weights, entry: Entry | None, lock: Lock) -> None:
    hint = f"Run `zoo pull {weights.name}` once without --locked, and keep the lock file."
    if entry is None:
        raise IntegrityError(f"{lock.path} does not know {weights.name} at {weights.source}", hint=hint)
    if weights.sha256 not in (None, entry.sha256) or not entry.sha256.startswith(weights.sha256_prefix or ""):
        raise IntegrityError(
            f"{lock.path} and the registry do not agree on {weights.name}",
            why=f"sha256 {entry.sha256} in the lock, {weights.sha256 or weights.sha256_prefix} in the registry",
            hint=hint,
        )


def _agree(weights: Weights, sha256: str, size: int, where: str) -> None:
    expected = weights.sha256 or weights.sha256_prefix or ""
    if not sha256.startswith(expected):
        raise IntegrityError(
            f"{where} is not the file that {weights.origin or 'the registry'} promises for {weights.name}",
            why=f"its sha256 is {sha256}, {expected} was promised",
            hint="Restore the file, or correct the registry entry.",
        )
    if weights.bytes not in (None, size):
        raise IntegrityError(f"{where} has {size} bytes", why=f"the registry promises {weights.bytes}")

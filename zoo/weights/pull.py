"""From weights to a verified file on this disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from zoo.atomic import tidy
from zoo.catalog.pickles import is_pickle, refusal
from zoo.catalog.spec import Weights
from zoo.errors import DiskError, IntegrityError, NotFoundError, RegistryError, UsageError
from zoo.settings import Settings
from zoo.weights import roots
from zoo.weights.assets import PulledAsset, pull_asset
from zoo.weights.header import read_header
from zoo.weights.lock import Entry, Lock
from zoo.weights.remembered import Remembered
from zoo.weights.source import (
    PICKLES,
    SHA256,
    SHA256_PREFIX,
    HubFile,
    LocalFile,
    Source,
    assets_of,
    single,
    source_of,
)
from zoo.weights.store import Store

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry
    from zoo.weights.download import Got

#: Told (bytes so far, bytes in all or None) while bytes arrive.
Progress = Callable[[int, "int | None"], None]
#: Told a sentence that the person who waits should read.
Note = Callable[[str], None]

#: The keys of a pulled set of weights as plain values.
ROW: Final = ("name", "path", "sha256", "bytes", "source", "revision", "cached")

#: Weights named in an error.
_NAMED: Final = 10


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
        previous: what the lock said before, if an update changed it.
        trusted: whether nothing pinned the bytes before they came.
        assets: what belongs to the weights besides, on this disk.
    """

    name: str
    path: Path
    sha256: str
    bytes: int
    source: str
    revision: str | None
    cached: bool
    previous: Entry | None = None
    trusted: bool = False
    assets: tuple[PulledAsset, ...] = ()

    def row(self) -> dict[str, Any]:
        """As plain values, with the keys of `zoo pull --json`; `files` where there are further ones."""
        files = {"files": [asset.row() for asset in self.assets]} if self.assets else {}
        return {key: getattr(self, key) for key in ROW} | {"path": str(self.path), **files}


def pull(
    weights: Weights,
    *,
    settings: Settings,
    registry: Registry | None = None,
    locked: bool = False,
    update: bool = False,
    asked: bool = False,
    progress: Progress | None = None,
    note: Note | None = None,
) -> Pulled:
    """Bring `weights` to this disk, verified. Pinned (by the registry or `zoo.lock`) and present costs no request.

    Args:
        registry: asked for the plugins that fetch schemes of their own, and for what is here instead of weights that
            are not; None = the default one, where it is needed.
        locked: take exactly what `zoo.lock` or the registry pins, and change nothing in the lock.
        update: forget what `zoo.lock` says of a source that the registry does not pin, and ask the source again.
        asked: whether a person asked for this pull, which is then recorded in `zoo.lock` whatever the registry pins.
        progress: told of the bytes that arrive.
        note: told what is waited for, when nothing arrives; None = `tell`.

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
    source, assets = source_of(weights), assets_of(weights)
    lock = Lock.of(settings)
    if locked and (why := drift(weights, lock)) is not None:
        raise drifted([why], lock)
    if isinstance(source, LocalFile):
        done = _local(weights, source, settings)
    else:
        done = _Pull(weights, source, lock, settings, registry, locked, update, asked, progress, note).run()
    if assets:
        brought = tuple(pull_asset(weights, asset, settings, registry, progress, note) for asset in assets)
        done = replace(done, assets=brought, cached=done.cached and all(one.cached for one in brought))
    if not isinstance(source, LocalFile):
        roots.note(settings, _namers(weights, lock))
        _tidy(settings, lock)
    return done


def _tidy(settings: Settings, lock: Lock) -> None:
    """Remove what processes that were killed left behind."""
    Store(settings).sweep()
    for written in (lock.path, settings.user_registry, Remembered(settings).path, settings.home / roots.NAME):
        tidy(written)


def drift(weights: Weights, lock: Lock) -> str | None:
    """Why `weights` cannot be taken as pinned: nobody pins them, or the registry and the lock do not agree."""
    if weights.source.startswith("file:"):
        if weights.sha256 is None and weights.sha256_prefix is None:
            where = weights.origin or "the registry"
            return f"{weights.name}: only a `sha256` in {where} pins {weights.source}; `zoo pull` shows it"
        return None
    entry = lock.entry(weights)
    if entry is None:
        if weights.sha256 is not None:
            return None
        if (other := lock.entries.get(weights.name)) is not None:
            return f"{weights.name}: {lock.path} has {other.source}, the registry {weights.source}"
        return f"{weights.name}: neither {lock.path} nor the registry pins {weights.source}"
    return _contradiction(weights, entry, lock)


def tell(text: str) -> None:
    """Say something to a person whom nobody else tells: a warning of the logger `zoo`, which Python shows on stderr."""
    import logging

    logging.getLogger("zoo").warning("%s", text)


def drifted(reasons: list[str], lock: Lock) -> IntegrityError:
    """The error for weights that are not what the lock, or the registry, pins; of many, the first are named."""
    names = [reason.partition(":")[0] for reason in reasons]
    more = [f"and {len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return IntegrityError(
        f"{', '.join([*names[:_NAMED], *more])}: not as pinned",
        why="\n".join([*reasons[:_NAMED], *more]),
        hint=f"Run `zoo pull --update {'NAME...' if more else ' '.join(names)}` to pin what is there now, and keep "
        f"{lock.path}.",
    )


def _contradiction(weights: Weights, entry: Entry, lock: Lock) -> str | None:
    promised = weights.sha256 or weights.sha256_prefix or ""
    if not entry.sha256.startswith(promised):
        return f"{weights.name}: sha256 {entry.sha256} in {lock.path}, {promised} in the registry"
    if weights.bytes not in (None, entry.bytes):
        return f"{weights.name}: {entry.bytes} bytes in {lock.path}, {weights.bytes} in the registry"
    for asset in assets_of(weights) if entry.files else ():
        if (pin := (entry.files or {}).get(asset.name)) not in (None, asset.sha256):
            return f"{weights.name}: sha256 {pin} of {asset.name} in {lock.path}, {asset.sha256} in the registry"
    return None


def _namers(weights: Weights, lock: Lock) -> list[Path]:
    """The files that name the bytes of `weights`."""
    origin = Path(weights.origin)
    named = [lock.path] if weights.name in lock.entries else []
    return [*named, origin] if origin.suffix == ".toml" else named


def _local(weights: Weights, source: LocalFile, settings: Settings) -> Pulled:
    path = source.path
    if is_pickle(path.name):
        raise refusal(path)
    if not path.is_file():
        raise NotFoundError(f"no file {path}", why=f"the weights {weights.name} are there", hint="Check the path.")
    header = read_header(path)
    sha256 = Remembered(settings).sha256(path)
    _agree(weights, sha256, header.size, str(path))
    return Pulled(weights.name, path, sha256, header.size, str(source), None, cached=True)


class _Pull:
    """One set of weights that is not a file of this machine."""

    def __init__(
        self,
        weights: Weights,
        source: Source,
        lock: Lock,
        settings: Settings,
        registry: Registry | None,
        locked: bool,
        update: bool,
        asked: bool,
        progress: Progress | None,
        note: Note | None,
    ) -> None:
        self.weights, self.source, self.lock, self.settings = weights, source, lock, settings
        self.registry, self.locked, self.update, self.asked = registry, locked, update, asked
        self.progress, self.note = progress, note or tell
        self.store = Store(settings)
        self.entry = lock.entry(weights)
        #: Bytes that the registry pins are not asked for anew.
        self.fresh = update and weights.sha256 is None
        if update:
            self.entry = None
        elif self.entry is not None and (why := _contradiction(weights, self.entry, lock)) is not None:
            raise drifted([why], lock)

    def run(self) -> Pulled:
        if self.fresh and self.settings.offline:
            raise UsageError(
                f"--update asks the source of {self.weights.name}, and the zoo is offline",
                hint="Leave --update out to use what is here, or connect.",
            )
        store = self.store
        held = None if self.fresh else (store.here if self.settings.offline else store.held)(self.weights)
        if held is not None and self.entry is not None and self.entry.converted_sha256 not in (None, held):
            held = self.entry.converted_sha256 if self.store.has(str(self.entry.converted_sha256)) else None
        unpinned = self.weights.sha256 is None and self.entry is None
        if held is not None:
            settled = self.locked or not (self.asked or unpinned) or self.recorded(held)
            if settled or not self.asked or self.settings.offline:
                return self.held(held)
        return self.fetch()

    def recorded(self, sha256: str) -> bool:
        """Whether the lock has an entry for what is here, after it was written if no request is needed for it."""
        weights, known = self.weights, self.entry or self.store.elsewhere(self.weights)
        if known is not None and sha256 not in (known.sha256, known.converted_sha256):
            known = None
        settled = not isinstance(self.source, HubFile) or self.source.pinned
        try:
            if known is not None:
                if known is not self.entry:
                    self.entry = known
                    self.lock.write(weights.name, known)
            elif weights.sha256 is None or not settled or self.source.file.endswith(PICKLES):
                return False
            else:
                self.record(self.source, weights.sha256, self.store.path(sha256).stat().st_size, None)
        except DiskError:
            pass  # the file is here, and its bytes are known: what cannot be written is not needed
        return True

    def held(self, sha256: str) -> Pulled:
        path, source = self.store.path(sha256), self.source
        entry = self.entry
        resolved, revision = (entry.source, entry.revision) if entry else (str(source), None)
        if revision is None and isinstance(source, HubFile) and source.pinned:
            revision = source.revision
        return Pulled(self.weights.name, path, sha256, path.stat().st_size, resolved, revision, cached=True)

    def fetch(self) -> Pulled:
        from zoo.weights.absent import absent

        before = self.lock.entries.get(self.weights.name)
        try:
            got = self.download()
        except NotFoundError as error:
            if not self.settings.offline:
                raise
            raise absent(self.weights, self.settings, self.registry) from error
        sha256 = got.converted or got.sha256
        path = self.store.path(sha256)
        if not path.is_file():  # a clean-up of another process came in between
            return self.fetch()
        after = self.lock.entries.get(self.weights.name)
        return Pulled(
            self.weights.name,
            path,
            sha256,
            path.stat().st_size,
            str(got.source),
            got.source.revision if isinstance(got.source, HubFile) else None,
            cached=not got.fetched,
            previous=before if self.update and before != after else None,
            trusted=got.fetched and self.weights.sha256 is None and self.entry is None,
        )

    def download(self) -> Got:
        from zoo.weights.download import Request, download

        weights, entry = self.weights, self.entry
        wanted = Request(
            weights,
            # What the lock resolved is what is fetched, unless the registry names something else.
            source=locked_source(self.source, entry),
            sha256=weights.sha256 or (entry.sha256 if entry else None),
            prefix=weights.sha256_prefix,
            bytes=weights.bytes or (entry.bytes if entry else None),
        )
        return download(
            wanted,
            self.store,
            registry=self.registry,
            progress=self.progress,
            note=self.note,
            learn=self.learn,
            record=self.settle,
        )

    def learn(self) -> str | None:
        """What another process recorded meanwhile."""
        found = None if self.update else Lock(self.lock.path).entry(self.weights)
        prefix = self.weights.sha256_prefix or ""
        return found.sha256 if found is not None and found.sha256.startswith(prefix) else None

    def settle(self, got: Got) -> None:
        """Compare what came with the lock, or write it there."""
        if self.entry is not None and self.entry.converted_sha256 not in (None, got.converted):
            raise IntegrityError(
                f"{self.weights.name} was converted to other bytes than {self.lock.path} records",
                why=f"{got.converted}, not {self.entry.converted_sha256}",
                hint=f"Run `zoo pull --update {self.weights.name}` to record them.",
            )
        # What the registry pins needs no lock; a person who pulls it wants it there all the same.
        if not self.locked and (self.asked or self.weights.sha256 is None):
            self.record(got.source, got.sha256, got.bytes, got.converted)

    def record(self, source: Source, sha256: str, size: int, converted: str | None) -> None:
        self.lock.write(self.weights.name, Entry.of(source, sha256, size, converted, assets_of(self.weights)))


def locked_source(source: Source, entry: Entry | None) -> Source:
    """The source at the commit that the lock resolved."""
    if isinstance(source, HubFile) and entry is not None and entry.revision is not None:
        return replace(source, revision=entry.revision)
    return source


def _check_pins(weights: Weights) -> None:
    for key, pattern in (("sha256", SHA256), ("sha256_prefix", SHA256_PREFIX)):
        value = getattr(weights, key)
        if value is not None and not pattern.fullmatch(value):
            raise RegistryError(f"weights {weights.name!r}: {key} must match {pattern.pattern}, not {value[:80]!r}")


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

"""A content-addressed store: `$ZOO_HOME/blobs/sha256/ab/abcd....safetensors`, where a name is a proof.

Assets, the files of weights that hold no tensors, lie beside them as `abcd....asset`.

A blob appears under its name by one rename, after it was hashed and synced; it is never written again, and nothing is
a link. Unfinished files live in `$ZOO_HOME/blobs/parts`: `KEY.part` and what else belongs to `KEY`, under `KEY.lock`.
What nobody holds the lock of is swept, except downloads that can be resumed.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Final

from zoo.atomic import PART, locked, publish
from zoo.catalog.spec import Weights
from zoo.errors import IntegrityError, NotFoundError, ZooError
from zoo.settings import Settings
from zoo.weights import roots
from zoo.weights.files import Tick, disk_errors, hash_stream
from zoo.weights.lock import NAME as LOCK_FILE
from zoo.weights.lock import Entry, Lock
from zoo.weights.remembered import Remembered
from zoo.weights.source import PICKLES, SHA256, Asset, LocalFile, assets_of, single, source_of

SUFFIX: Final = ".safetensors"
ASSET_SUFFIX: Final = ".asset"
#: Of the lock of what is unfinished, and of the note on which version of a file a part is of.
LOCK: Final = ".lock"
NOTE: Final = ".etag"
#: An unfinished download may be resumed for this long.
_RESUMABLE_S: Final = 7 * 24 * 3600


class Store:
    """Blobs by their sha256. Reading needs no right to write.

    What `held` and `is_pulled` need of zoo.lock and hashes.json is read once: make a new store after a pull.
    """

    #: How the blobs' names end.
    suffix: ClassVar[str] = SUFFIX

    def __init__(self, settings: Settings) -> None:
        self.settings: Final = settings
        self.parts: Final = settings.blobs.parent / "parts"
        self._lock: Lock | None = None
        self._others: list[Lock] | None = None
        self._conversions: dict[str, str] | None = None

    def path(self, sha256: str) -> Path:
        """Where the blob with this hash is, or would be."""
        if not SHA256.fullmatch(sha256):
            raise IntegrityError(f"{sha256[:80]!r} is not a sha256 in hex")
        return self.settings.blobs / sha256[:2] / f"{sha256}{self.suffix}"

    def has(self, sha256: str) -> bool:
        """Whether the blob is here."""
        return self.path(sha256).is_file()

    def sha256_of(self, path: Path) -> str | None:
        """The hash of a blob of this store, read off its name; None for any other path."""
        name = path.name.removesuffix(self.suffix)
        if SHA256.fullmatch(name) and os.path.realpath(path) == os.path.realpath(self.path(name)):
            return name
        return None

    def add(self, path: Path, *, expected: str | None = None, tick: Tick | None = None) -> str:
        """Copy a file into the store, hashing on the way, and return its sha256.

        Raises:
            NotFoundError: there is no such file.
            IntegrityError: its hash is not the `expected` one; nothing is added.
            DiskError: the store cannot be written.
        """
        if not path.is_file():
            raise NotFoundError(f"no file {path}", hint="Check the path.")
        with disk_errors("copy into the store", path):
            self.parts.mkdir(parents=True, exist_ok=True)
            part = self.parts / f"add-{os.urandom(8).hex()}{PART}"
            with locked(self.lock_of(part)):
                try:
                    with part.open("xb") as file, path.open("rb") as source:
                        sha256 = hash_stream(source, file, tick)
                        file.flush()
                        os.fsync(file.fileno())
                    if expected not in (None, sha256):
                        raise IntegrityError(f"{path} has the sha256 {sha256}", why=f"{expected} was expected")
                    self.publish(part, sha256)
                finally:
                    part.unlink(missing_ok=True)
        return sha256

    def publish(self, part: Path, sha256: str) -> Path:
        """Give a hashed and synced part its blob's name."""
        target = self.path(sha256)
        publish(part, target)
        return target

    def verify(self, sha256: str) -> None:
        """Hash a blob again.

        Raises:
            IntegrityError: its bytes are not those of its name.
            NotFoundError: it is not here.
        """
        path = self.path(sha256)
        if not path.is_file():
            raise NotFoundError(f"no blob {sha256}", hint="Run `zoo pull` with the name of the weights.")
        with disk_errors("read", path), path.open("rb") as file:
            found = hash_stream(file)
        if found != sha256:
            raise IntegrityError(
                f"{path} was damaged", why=f"its sha256 is {found}", hint="Remove it and pull the weights again."
            )

    def remove(self, sha256: str) -> bool:
        """Remove a blob; whether it was here."""
        path = self.path(sha256)
        with disk_errors("remove", path):
            if not path.is_file():
                return False
            path.unlink()
        return True

    def ls(self) -> list[str]:
        """The hashes of all blobs, sorted."""
        with disk_errors("list", self.settings.blobs):
            names = (path.name.removesuffix(self.suffix) for path in self.settings.blobs.glob(f"??/*{self.suffix}"))
            return sorted(name for name in names if SHA256.fullmatch(name))

    def sweep(self, *, dry_run: bool = False) -> list[Path]:
        """Remove unfinished files that nobody works on; what a download of the last week left stays. Never fails.

        Args:
            dry_run: only say which.
        """
        removed: list[Path] = []
        for key, files in self._unfinished().items():
            with contextlib.suppress(OSError), locked(self.parts / f"{key}{LOCK}", timeout=0):
                for file in files:
                    if not self._resumable(key, file):
                        if not dry_run:
                            file.unlink(missing_ok=True)
                        removed.append(file)
        return removed

    def _unfinished(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(self.parts)):
                files = found.setdefault(name.partition(".")[0], [])
                if not name.endswith(LOCK):
                    files.append(self.parts / name)
        return found

    def _resumable(self, key: str, file: Path) -> bool:
        if not SHA256.fullmatch(key) or file.name not in (key + PART, key + NOTE):
            return False
        if self.has(key) or Remembered(self.settings).converted(key):
            return False
        return file.with_suffix(PART).is_file() and time.time() - file.stat().st_mtime < _RESUMABLE_S

    @staticmethod
    def lock_of(part: Path) -> Path:
        """The file whose lock its writer holds."""
        return part.with_suffix(LOCK)

    def held(self, weights: Weights) -> str | None:
        """The hash of the blob that holds `weights`, if it is here: by the registry's pin, else by `zoo.lock`."""
        if weights.sha256 is None and weights.sha256_prefix is None and weights.name not in self._known().entries:
            return None  # nearly all of 1,800 weights, when `zoo list` asks
        source = source_of(weights)
        if source.file.endswith(PICKLES):
            known = weights.sha256 or weights.sha256_prefix
            made = self._made(known) if known else None
            made = made or self._locked(weights, converted=True)
            return made if made is not None and self.has(made) else None
        sha256 = weights.sha256 or self._locked(weights, converted=False)
        return sha256 if sha256 is not None and self.has(sha256) else None

    def elsewhere(self, weights: Weights) -> Entry | None:
        """What the lock of another project says of `weights`, where their bytes are here."""
        if self._others is None:
            self._others = []
            for path in (self.settings.home / LOCK_FILE, *roots.known(self.settings)):
                if path.name == LOCK_FILE and path != self._known().path:
                    with contextlib.suppress(ZooError):  # the trouble of another project
                        self._others.append(Lock(path))
        for lock in self._others:
            entry = lock.entry(weights) if weights.name in lock.entries else None
            if entry is not None and self._agrees(entry, weights):
                return entry
        return None

    def _agrees(self, entry: Entry, weights: Weights) -> bool:
        promised = weights.sha256 or weights.sha256_prefix or ""
        sound = entry.sha256.startswith(promised) and weights.bytes in (None, entry.bytes)
        return sound and self.has(entry.converted_sha256 or entry.sha256)

    def here(self, weights: Weights) -> str | None:
        """The hash of the blob that `weights` are loaded from without the network: where the lock here knows nothing
        of them, by the lock of another project that pulled into this store."""
        if (held := self.held(weights)) is not None:
            return held
        if self._known().entry(weights) is not None or (entry := self.elsewhere(weights)) is None:
            return None
        return entry.converted_sha256 or entry.sha256

    def is_pulled(self, weights: Weights) -> bool:
        """Whether `weights` can be loaded without the network. No byte is hashed."""
        try:
            if weights.files:
                weights = single(weights)
                if not all(self.has_asset(weights, asset) for asset in assets_of(weights)):
                    return False
            if not weights.source.startswith("file:"):
                return self.here(weights) is not None
            source = source_of(weights)
            return isinstance(source, LocalFile) and source.path.is_file()
        except ZooError:  # a damaged lock, say: then they cannot be loaded
            return False

    def has_asset(self, weights: Weights, asset: Asset) -> bool:
        """Whether an asset of `weights` is here."""
        source = source_of(replace(weights, source=asset.source))
        return source.path.is_file() if isinstance(source, LocalFile) else AssetStore(self.settings).has(asset.sha256)

    def _made(self, pickle: str) -> str | None:
        # Read once: `zoo list` asks for every set of weights that has a published beginning of a hash.
        if self._conversions is None:
            self._conversions = Remembered(self.settings).conversions()
        return next((made for known, made in self._conversions.items() if known.startswith(pickle)), None)

    def _known(self) -> Lock:
        if self._lock is None:
            self._lock = Lock.of(self.settings)
        return self._lock

    def _locked(self, weights: Weights, *, converted: bool) -> str | None:
        entry = self._known().entry(weights)
        if entry is None:
            return None
        return entry.converted_sha256 if converted else entry.sha256


class AssetStore(Store):
    """The assets of the same store: files of any form, by their sha256."""

    suffix = ASSET_SUFFIX

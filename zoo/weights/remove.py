"""Take weights off this disk: one name, or everything that nobody needs."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from zoo.catalog import names
from zoo.catalog.edit import remove_weights
from zoo.catalog.spec import Weights
from zoo.errors import NotFoundError, PluginError, UsageError
from zoo.weights.absent import here, pulled
from zoo.weights.files import disk_errors
from zoo.weights.lock import Lock
from zoo.weights.source import single
from zoo.weights.store import ASSET_SUFFIX, AssetStore, Store
from zoo.weights.usage import Use, asset_blobs, blob_of, usage

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry

#: A blob this young may be about to get its name from another process.
YOUNG_S: Final = 60
#: Where `publish` writes before it adds to the store; older than a day, its writer was killed.
_LEFTOVERS: Final = "publish-*"
_LEFT_S: Final = 24 * 3600


@dataclass(frozen=True, slots=True)
class Removed:
    """What became of one name.

    Attributes:
        name: `arch.tag`.
        sha256: of its blob.
        freed: bytes; 0 where the blob stays.
        kept_for: the other names that need the blob.
        registry: the registry file that the entry was taken out of, or None.
        locked: the lock file that still pins the name, or None.
    """

    name: str
    sha256: str
    freed: int
    kept_for: tuple[str, ...]
    registry: Path | None
    locked: Path | None

    def row(self) -> dict[str, Any]:
        """As plain values."""
        paths = {key: str(value) if (value := getattr(self, key)) else None for key in ("registry", "locked")}
        return {
            "name": self.name,
            "sha256": self.sha256,
            "freed": self.freed,
            "kept_for": list(self.kept_for),
            **paths,
        }


def remove(written: Iterable[str], registry: Registry) -> list[Removed]:
    """Remove the files of weights. Those that `register` or `publish` named lose their entry too.

    Everything is looked up before anything is removed. A blob that another name needs stays.

    Args:
        written: names, or globs over `arch.tag`, which mean what is here.

    Raises:
        NotFoundError: no such weights, or they are not here.
        UsageError: they are a file that is not the store's.
        DiskError: the disk is not ours to write.
    """
    wanted = _chosen(written, registry)
    settings = registry.settings
    store, assets = Store(settings), AssetStore(settings)
    blobs = {name: _blob(weights, store) for name, weights in wanted.items()}
    uses, lock = usage(registry), Lock.of(settings)
    # An asset is needed by names whose tensors are here and stay.
    staying = {use.name for sha256, some in uses.items() if store.has(sha256) for use in some} - set(wanted)
    done: list[Removed] = []
    for name, weights in wanted.items():
        sha256 = blobs[name]
        entry = settings.user_registry if weights.source.startswith("file:") else None
        if entry is not None:
            # The name goes first: killed in between, this leaves a file that nobody needs, never a name without one.
            remove_weights(entry, name)
        others = tuple(dict.fromkeys(str(use) for use in uses.get(sha256, ()) if use.name not in wanted))
        freed = 0
        if not others and store.has(sha256):
            freed = store.path(sha256).stat().st_size
            store.remove(sha256)
        for asset in asset_blobs(weights):
            if assets.has(asset) and not {use.name for use in uses.get(asset, ())} & staying:
                freed += assets.path(asset).stat().st_size
                assets.remove(asset)
        done.append(Removed(name, sha256, freed, others, entry, lock.path if name in lock.entries else None))
    return done


def _chosen(written: Iterable[str], registry: Registry) -> dict[str, Weights]:
    found: dict[str, Weights] = {}
    missing: list[str] = []
    store = Store(registry.settings)
    for name in written:
        if names.is_glob(name):
            matching = here(name, registry)
            missing += [] if matching else [name]
        else:
            weights = registry.resolve(name)[1]
            assert weights is not None  # "default" never means none
            matching = [weights] if store.is_pulled(weights) or _registered(weights, registry) else []
            missing += [] if matching else [weights.name]
        found.update((weights.name, single(weights)) for weights in matching)
    if missing:
        others = [weights.name for weights in pulled(registry)]
        on_disk = f"On this disk: {', '.join(others)}." if others else "No weights are on this disk."
        raise NotFoundError(
            f"{', '.join(missing)}: not on this disk",
            why=f"{on_disk} Nothing was removed.",
            hint="See `zoo cache ls` and `zoo list --pulled`.",
        )
    return found


def _registered(weights: Weights, registry: Registry) -> bool:
    """Whether the user's registry names a blob of the store, be it here or not."""
    own = weights.origin == os.path.abspath(registry.settings.user_registry)
    return own and weights.source.startswith("file:") and blob_of(weights, Store(registry.settings)) is not None


def _blob(weights: Weights, store: Store) -> str:
    sha256 = blob_of(weights, store)
    if sha256 is None:
        raise UsageError(
            f"{weights.name} is {weights.source.removeprefix('file:')}, which is not the store's to remove",
            hint=f"Take its entry out of {weights.origin or 'the registry file'}, and remove the file yourself.",
        )
    if weights.source.startswith("file:") and weights.origin != os.path.abspath(store.settings.user_registry):
        raise UsageError(
            f"{weights.name} is named in {weights.origin}, which is not the user's registry",
            hint="Take its entry out of that file first.",
        )
    return sha256


# -- what nobody needs -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Blob:
    """One file of the store.

    Attributes:
        sha256: of its bytes, as its name says.
        path: where it is.
        bytes: its size.
        uses: who needs it.
        young: whether it is so new that its name may still be on its way.
    """

    sha256: str
    path: Path
    bytes: int
    uses: tuple[Use, ...]
    young: bool

    def row(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "sha256": self.sha256,
            "path": str(self.path),
            "bytes": self.bytes,
            "names": list(dict.fromkeys(use.name for use in self.uses)),
            "used_by": [str(use) for use in self.uses],
            "orphan": not self.uses,
        }


def blobs(registry: Registry) -> list[Blob]:
    """Every file of the store, the largest first."""
    uses = usage(registry)
    found = []
    for store in (Store(registry.settings), AssetStore(registry.settings)):
        for sha256 in store.ls():
            with contextlib.suppress(FileNotFoundError):  # another process may have removed it since
                path = store.path(sha256)
                stat = path.stat()
                young = time.time() - stat.st_mtime < YOUNG_S
                found.append(Blob(sha256, path, stat.st_size, tuple(uses.get(sha256, ())), young))
    return sorted(found, key=lambda blob: (-blob.bytes, blob.sha256))


@dataclass(frozen=True, slots=True)
class Collected:
    """What a clean-up removed, or would remove.

    Attributes:
        blobs: that nobody needed.
        parts: (path, bytes) of unfinished files whose writer has gone.
        young: blobs that nobody needs yet, too new to be judged.
    """

    blobs: tuple[Blob, ...]
    parts: tuple[tuple[Path, int], ...]
    young: tuple[Blob, ...]

    @property
    def freed(self) -> int:
        """Bytes of all that goes."""
        return sum(blob.bytes for blob in self.blobs) + sum(size for _, size in self.parts)


def collect(registry: Registry, *, dry_run: bool = False) -> Collected:
    """Remove the blobs that no registry entry, lock or project needs, and what killed programs left.

    Raises:
        IntegrityError, RegistryError: a file that says what is needed is damaged; nothing is removed then.
        PluginError: nor while a plugin that may say it failed.
        DiskError: the disk is not ours to write.
    """
    store = Store(registry.settings)
    orphans = [blob for blob in blobs(registry) if not blob.uses]
    old = tuple(blob for blob in orphans if not blob.young)
    failed = next((report for report in registry.reports() if report.state == "failed"), None)
    if old and failed is not None:
        raise PluginError(
            f"the plugin {failed.name!r} failed, so it is not known which weights it needs",
            why=f"{failed.problem}\nNothing was removed.",
            hint=f"Mend the plugin, or do without its weights: zoo -p no:{failed.name} cache gc",
        )
    parts = tuple(_stale(store, dry_run=dry_run))
    if not dry_run:
        assets = AssetStore(registry.settings)
        for blob in old:
            (assets if blob.path.suffix == ASSET_SUFFIX else store).remove(blob.sha256)
    return Collected(old, parts, tuple(blob for blob in orphans if blob.young))


def _stale(store: Store, *, dry_run: bool) -> Iterator[tuple[Path, int]]:
    sizes = {path: _size(path) for path in store.parts.glob("*")} if store.parts.is_dir() else {}
    for path in store.sweep(dry_run=dry_run):
        yield path, sizes.get(path, 0)
    for path in sorted(store.settings.home.glob(_LEFTOVERS)):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime >= _LEFT_S:
                size = _size(path)
                if not dry_run:
                    with disk_errors("remove", path):
                        shutil.rmtree(path)
                yield path, size


def _size(path: Path) -> int:
    try:
        if path.is_dir():
            return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return path.stat().st_size
    except OSError:
        return 0

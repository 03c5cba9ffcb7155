"""Bring weights into the store from a portable folder, or from a file that somebody's pin already knows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.catalog.edit import add_weights
from zoo.catalog.spec import Weights
from zoo.errors import IntegrityError, NotFoundError, UsageError
from zoo.settings import Settings
from zoo.weights import portable, roots
from zoo.weights.assets import read_proved
from zoo.weights.convert import convert_into
from zoo.weights.files import Tick, disk_errors, hash_file
from zoo.weights.header import read_header
from zoo.weights.lock import Entry, Lock
from zoo.weights.portable import Carried
from zoo.weights.remembered import Remembered
from zoo.weights.source import PICKLES, HubFile, LocalFile, assets_of, single, source_of
from zoo.weights.store import AssetStore, Store
from zoo.weights.usage import asset_blobs

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry


@dataclass(frozen=True, slots=True)
class Added:
    """One name that can be loaded now.

    Attributes:
        name: `arch.tag`.
        path: its file in the store.
        sha256: of that file.
        bytes: its size.
        cached: whether the file was here already.
        recorded: the file that got an entry: zoo.lock or the user's registry; None where none was needed.
    """

    name: str
    path: Path
    sha256: str
    bytes: int
    cached: bool
    recorded: Path | None

    def row(self) -> dict[str, Any]:
        """As plain values."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {**values, "path": str(self.path), "recorded": str(self.recorded) if self.recorded else None}


def add(path: Path, registry: Registry, *, tick: Tick | None = None) -> list[Added]:
    """Add a portable folder, or one file. No request is sent, and every byte is hashed on the way.

    Everything that can be refused is refused before anything is copied.

    Raises:
        NotFoundError: there is nothing at `path`; it is no portable folder; or nobody's pin knows the file.
        IntegrityError: the folder is damaged, or a name means other bytes here.
        DiskError: the store cannot be written.
    """
    if path.is_dir():
        return _add_folder(path, registry, tick)
    if not path.is_file():
        raise NotFoundError(f"no file or folder {path}", hint="Check the path.")
    return _add_file(path, registry, tick)


# -- a portable folder -------------------------------------------------------------------------------------------------


def _add_folder(folder: Path, registry: Registry, tick: Tick | None) -> list[Added]:
    carried = portable.read(folder)
    settings = registry.settings
    lock = Lock.of(settings)
    known = {one.weights.name: _known(one.weights.name, registry) for one in carried}
    for one in carried:
        _expect_agreement(one, known[one.weights.name], lock)
        if not one.path.is_file():
            raise IntegrityError(
                f"{one.path} is missing",
                why=f"{portable.MANIFEST} names it for {one.weights.name}",
                hint="Copy the whole folder.",
            )
        if (size := one.path.stat().st_size) != one.bytes:
            raise IntegrityError(
                f"{one.path} has {size} bytes, {one.bytes} were promised", hint="Copy the folder again."
            )
        read_header(one.path)
        for sha256, path in one.assets:
            if not path.is_file():
                raise IntegrityError(
                    f"{path} is missing", why=f"{one.weights.name} needs it", hint="Copy the whole folder."
                )
            read_proved(path, sha256)
    mine = [one for one in registry.weights() if one.default and one.origin == str(settings.user_registry)]
    taken = {one.arch for one in mine}
    return [
        _add_one(one, known[one.weights.name], settings, lock, tick, default=one.weights.arch not in taken)
        for one in carried
    ]


def _known(name: str, registry: Registry) -> Weights | None:
    found = next((one for one in registry.weights(name) if one.name == name), None)
    return single(found) if found is not None else None


def _expect_agreement(one: Carried, known: Weights | None, lock: Lock) -> None:
    """Raise `IntegrityError` if the name means other bytes here."""
    name, mine = one.weights.name, lock.entries.get(one.weights.name)
    if mine is not None and one.lock is not None and mine.sha256 != one.lock.sha256:
        raise _other(name, f"{lock.path} pins the sha256 {mine.sha256}, the folder has {one.lock.sha256}")
    if known is None:
        return
    at_source = one.lock.sha256 if one.lock else one.sha256
    if not at_source.startswith(known.sha256 or known.sha256_prefix or ""):
        promised = known.sha256 or known.sha256_prefix
        raise _other(name, f"{known.origin} promises the sha256 {promised}, the folder has {at_source}")
    if one.lock is not None and not one.lock.is_of(known):
        raise _other(name, f"here it comes from {known.source}, in the folder from {one.lock.source}")
    if one.lock is None and not known.source.startswith("file:") and known.sha256 is None:
        raise _other(name, f"here it comes from {known.source}, which nothing pins; in the folder it is a file")


def _other(name: str, why: str) -> IntegrityError:
    return IntegrityError(
        f"{name} means other bytes here than in the folder",
        why=why,
        hint=f"Nothing was added. To take the folder's: `zoo rm {name}`, or take its entry out, then add again.",
    )


def _add_one(
    one: Carried, known: Weights | None, settings: Settings, lock: Lock, tick: Tick | None, *, default: bool
) -> Added:
    store, name = Store(settings), one.weights.name
    cached = store.has(one.sha256)
    if not cached:
        store.add(one.path, expected=one.sha256, tick=tick)
    path = store.path(one.sha256)
    assets = AssetStore(settings)
    for sha256, file in one.assets:
        if not assets.has(sha256):
            assets.add(file, expected=sha256)
    recorded: Path | None = None
    if known is None:
        # Nobody here has the name: the folder's facts go into the user's registry.
        source = f"file:{path}" if one.weights.source.startswith("file:") else one.weights.source
        pin = one.weights.sha256 or (one.lock.sha256 if one.lock else one.sha256)
        # A default travels too, unless the user here has chosen one.
        files = tuple(
            {**file, "source": f"file:{assets.path(file['sha256'])}"} if file["source"].startswith("file:") else file
            for file in one.weights.files
        )
        entry = dataclasses.replace(
            one.weights, source=source, sha256=pin, sha256_prefix=None, default=one.weights.default and default,
            files=files,
        )  # fmt: skip
        add_weights(settings.user_registry, entry)
        recorded = settings.user_registry
    if one.lock is not None:
        if one.lock.converted_sha256 is not None:
            Remembered(settings).note_converted(one.lock.sha256, one.lock.converted_sha256)
        lock.write(name, one.lock)
        roots.note(settings, [lock.path])
        recorded = recorded or lock.path
    return Added(name, path, one.sha256, one.bytes, cached, recorded)


# -- one file ----------------------------------------------------------------------------------------------------------


def _add_file(path: Path, registry: Registry, tick: Tick | None) -> list[Added]:
    with disk_errors("read", path):
        found = hash_file(path, tick)
        size = path.stat().st_size
    settings = registry.settings
    if belonging := [one.name for one in registry.weights() if found in asset_blobs(one)]:
        assets = AssetStore(settings)
        cached = assets.has(found)
        if not cached:
            assets.add(path, expected=found, tick=tick)
        return [Added(name, assets.path(found), found, size, cached, None) for name in belonging]
    store, lock = Store(settings), Lock.of(settings)
    named = list(_pinned(found, size, registry, lock))
    if not named:
        raise NotFoundError(
            f"no weights are pinned to the bytes of {path}",
            why=f"its sha256 is {found}",
            hint=f"Give it a name: zoo register {path} --backbone ARCH --name ARCH.TAG"
            if not path.name.endswith(PICKLES)
            else f"Convert it: zoo convert {path} OUT.safetensors, and register that.",
        )
    pickled = any(source_of(weights).file.endswith(PICKLES) for weights in named)
    made = Remembered(settings).converted(found) if pickled else found
    cached = made is not None and store.has(made)
    if not cached:
        made = convert_into(path, found, store) if pickled else _checked(path, found, store, tick)
    assert made is not None
    blob = store.path(made)
    added = []
    for weights in named:
        recorded = None
        if weights.sha256 is None and weights.name not in lock.entries:
            entry = Entry.of(source_of(weights), found, size, made if pickled else None, assets_of(weights))
            lock.write(weights.name, entry)
            roots.note(settings, [lock.path])
            recorded = lock.path
        added.append(Added(weights.name, blob, made, blob.stat().st_size, cached, recorded))
    return added


def _pinned(found: str, size: int, registry: Registry, lock: Lock) -> Iterator[Weights]:
    """The weights whose pin, published beginning of a hash, or lock entry fits."""
    for weights in registry.weights():
        try:
            weights = single(weights)
            source = source_of(weights)
        except UsageError:  # several shards, or a source of no known form: nothing that can be pulled
            continue
        if isinstance(source, LocalFile) or weights.bytes not in (None, size):
            continue
        entry = lock.entry(weights)
        pin = weights.sha256 or (entry.sha256 if entry else None)
        settled = not isinstance(source, HubFile) or source.pinned
        if pin == found or (
            pin is None and settled and weights.sha256_prefix and found.startswith(weights.sha256_prefix)
        ):
            yield weights


def _checked(path: Path, sha256: str, store: Store, tick: Tick | None) -> str:
    read_header(path)
    return store.add(path, expected=sha256, tick=tick)

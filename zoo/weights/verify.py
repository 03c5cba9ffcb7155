"""Prove again what is on this disk: every byte hashed, every header checked, no number that is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.catalog import names
from zoo.catalog.spec import Weights
from zoo.catalog.tables import counted
from zoo.errors import IntegrityError, NotFoundError, UsageError, ZooError
from zoo.weights.absent import here
from zoo.weights.batch import chosen
from zoo.weights.files import Tick, disk_errors, hash_file
from zoo.weights.header import read_header
from zoo.weights.lock import Lock
from zoo.weights.source import LocalFile, assets_of, single, source_of
from zoo.weights.store import AssetStore, Store
from zoo.weights.usage import Use, blob_of, usage

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry

#: The name of a tensor of the file that holds NaN or infinity, or None.
NotFinite = Callable[[Path], "str | None"]


@dataclass(frozen=True, slots=True)
class Checked:
    """One file, or one name whose file is not here.

    Attributes:
        names: that mean it.
        state: "ok", "damaged" or "absent".
        why: what is wrong, or None.
        path: where it is, or None.
        sha256: what it has to be, or None where nothing pins it.
        bytes: its size.
    """

    names: tuple[str, ...]
    state: str
    why: str | None
    path: Path | None
    sha256: str | None
    bytes: int | None

    def row(self) -> dict[str, Any]:
        """As plain values."""
        values: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        return {**values, "names": list(self.names), "path": str(self.path) if self.path else None}


def verify(
    written: Iterable[str], registry: Registry, not_finite: NotFinite, *, tick: Tick | None = None
) -> list[Checked]:
    """Check the weights that names stand for, and globs among those that are here; without any, everything: the
    store, files that registry entries name, and what zoo.lock promises. Nothing is changed.

    Args:
        not_finite: looks at every number of a sound file; given by whoever may import torch.
        tick: told the bytes that were hashed.

    Raises:
        NotFoundError: a name that nobody has, or a glob that nothing here fits.
        DiskError: a file cannot be read.
    """
    settings = registry.settings
    check = _Check(Store(settings), not_finite, tick)
    if wanted := list(written):
        return [one for weights in _chosen(wanted, registry) for one in check.all_of(single(weights))]
    return list(_everything(registry, check))


def _chosen(written: list[str], registry: Registry) -> list[Weights]:
    found: dict[str, Weights] = {}
    for name in written:
        matching = here(name, registry) if names.is_glob(name) else chosen([name], registry)
        if not matching:
            raise NotFoundError(f"nothing on this disk matches {name!r}", hint="See `zoo list --pulled`.")
        found.update((weights.name, weights) for weights in matching)
    return list(found.values())


def _everything(registry: Registry, check: _Check) -> Iterator[Checked]:
    store, uses = check.store, usage(registry)
    for sha256 in store.ls():
        yield check.blob(sha256, uses.get(sha256, []))
    for sha256 in check.assets.ls():
        yield check.asset_blob(sha256, uses.get(sha256, []))
    local: dict[str, None] = {}
    for weights in registry.weights():
        try:
            known = single(weights)
        except UsageError:  # several shards: nothing that can be pulled
            continue
        if known.source.startswith("file:") and ((sha := blob_of(known, store)) is None or not store.has(sha)):
            local[known.name] = None
            yield from check.all_of(known)
    for name, entry in Lock.of(registry.settings).entries.items():
        if name not in local and not store.has(entry.converted_sha256 or entry.sha256):
            why = f"{Lock.of(registry.settings).path} promises it"
            yield Checked((name,), "absent", why, None, entry.converted_sha256 or entry.sha256, None)
        for file, sha256 in (entry.files or {}).items():
            if name not in local and not check.assets.has(sha256):
                why = f"{Lock.of(registry.settings).path} promises it: {file}"
                yield Checked((name,), "absent", why, None, sha256, None)


class _Check:
    def __init__(self, store: Store, not_finite: NotFinite, tick: Tick | None) -> None:
        self.store, self.not_finite, self.tick = store, not_finite, tick
        self.assets = AssetStore(store.settings)

    def all_of(self, weights: Weights) -> Iterator[Checked]:
        """What one name means: its tensors, then its assets."""
        yield self.weights(weights)
        for asset in assets_of(weights):
            source = source_of(replace(weights, source=asset.source))
            local = isinstance(source, LocalFile)
            path = source.path if isinstance(source, LocalFile) else self.assets.path(asset.sha256)
            if path.is_file():
                yield self.asset((weights.name,), path, asset.sha256)
            else:
                why = f"{weights.origin} names it as {asset.name}" if local else f"{asset.name} was not pulled"
                yield Checked((weights.name,), "absent", why, path if local else None, asset.sha256, None)

    def asset_blob(self, sha256: str, uses: list[Use]) -> Checked:
        """An asset of the store, whose name is its hash."""
        return self.asset(tuple(dict.fromkeys(use.name for use in uses)), self.assets.path(sha256), sha256)

    def asset(self, named: tuple[str, ...], path: Path, pin: str) -> Checked:
        with disk_errors("read", path):
            have, found = path.stat().st_size, hash_file(path, self.tick)
        if found != pin:
            return Checked(named, "damaged", f"its sha256 is {found}", path, pin, have)
        return Checked(named, "ok", None, path, pin, have)

    def weights(self, weights: Weights) -> Checked:
        """What one name means."""
        if (sha256 := blob_of(weights, self.store)) is not None:
            if self.store.has(sha256):
                return self.blob(sha256, [Use(weights.name)])
            where = self.store.path(sha256)
            return Checked((weights.name,), "absent", f"{weights.origin} names it", where, sha256, None)
        source = source_of(weights)
        if not isinstance(source, LocalFile):
            return Checked((weights.name,), "absent", "it was not pulled", None, weights.sha256, None)
        if not source.path.is_file():
            return Checked((weights.name,), "absent", f"{weights.origin} names it", source.path, weights.sha256, None)
        pin = weights.sha256 or weights.sha256_prefix
        return self.file((weights.name,), source.path, pin, weights.bytes)

    def blob(self, sha256: str, uses: list[Use]) -> Checked:
        """A file of the store, whose name is its hash."""
        return self.file(tuple(dict.fromkeys(use.name for use in uses)), self.store.path(sha256), sha256, None)

    def file(self, named: tuple[str, ...], path: Path, pin: str | None, size: int | None) -> Checked:
        with disk_errors("read", path):
            have = path.stat().st_size
        return Checked(named, *self.judged(path, pin, size, have), path, pin, have)

    def judged(self, path: Path, pin: str | None, size: int | None, have: int) -> tuple[str, str | None]:
        with disk_errors("read", path):
            found = hash_file(path, self.tick)
        if not found.startswith(pin or ""):
            return "damaged", f"its sha256 is {found}"
        if size not in (None, have):
            return "damaged", f"it has {have} bytes, {size} were promised"
        try:
            read_header(path)
            named = self.not_finite(path)
        except IntegrityError as error:
            return "damaged", error.why or error.message
        if named is not None:
            return "damaged", f"the tensor {named} holds numbers that are not finite"
        return "ok", None


def verdict(found: list[Checked]) -> ZooError | None:
    """The error that the findings amount to: damaged files weigh more than absent ones; None if all is well."""
    damaged = [one for one in found if one.state == "damaged"]
    absent = [one for one in found if one.state == "absent"]
    error: ZooError | None = None
    if damaged:
        error = IntegrityError(
            f"{counted(len(damaged), 'file is', 'files are')} damaged, of {len(found)}",
            why="\n".join(f"{_label(one)}: {one.path}: {one.why}" for one in damaged),
            hint="Nothing was deleted. Weights from the net: `zoo rm NAME`, then `zoo pull NAME`. A file of your own: "
            "restore it, then `zoo register --replace`.",
        )
    elif absent:
        error = NotFoundError(
            f"{counted(len(absent), 'file is', 'files are')} not here, of {len(found)}",
            why="\n".join(f"{_label(one)}: {one.why}" for one in absent),
            hint=f"Run `zoo pull {' '.join(name for one in absent for name in one.names)}`.",
        )
    if error is not None:
        error.facts = facts(found)
    return error


def facts(found: list[Checked]) -> dict[str, Any]:
    """The findings as plain values."""
    counts = {state: sum(one.state == state for one in found) for state in ("ok", "damaged", "absent")}
    return {**counts, "checked": [one.row() for one in found]}


def _label(one: Checked) -> str:
    return ", ".join(one.names) or "(no name)"

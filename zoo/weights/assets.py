"""Assets: files that belong to weights besides their tensors, as the tokenizer of a text backbone does.

A registry entry lists them under `files`, each with its sha256. They are pulled, verified, locked, carried and
cleaned up with their weights, and read as bytes that were proved.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from zoo.catalog.spec import Weights
from zoo.errors import IntegrityError, NotFoundError
from zoo.settings import Settings
from zoo.weights.files import disk_errors, hash_file
from zoo.weights.source import Asset, LocalFile, source_of
from zoo.weights.store import AssetStore

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry

#: The largest asset that is taken, in bytes: it is held in memory.
MOST: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class PulledAsset:
    """An asset on this disk.

    Attributes:
        name: "tokenizer.json".
        path: where its bytes are.
        sha256: of them.
        bytes: their number.
        cached: whether they were here already.
        role: as the registry says.
    """

    name: str
    path: Path
    sha256: str
    bytes: int
    cached: bool
    role: str

    def row(self) -> dict[str, Any]:
        """As plain values."""
        return {key: getattr(self, key) for key in self.__slots__} | {"path": str(self.path)}


def pull_asset(
    weights: Weights,
    asset: Asset,
    settings: Settings,
    registry: Registry | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> PulledAsset:
    """Bring one asset of `weights` to this disk, by its sha256. One that is here costs no request.

    Raises:
        NotFoundError: it is nowhere, or not here while offline.
        DownloadError: the network or the server failed.
        IntegrityError: the bytes are not those of its sha256.
        DiskError: the disk is full, or not ours to write.
    """
    alone = replace(weights, source=asset.source, sha256=asset.sha256, sha256_prefix=None, bytes=asset.bytes, files=())
    source, store = source_of(alone), AssetStore(settings)
    fetched = False
    if isinstance(source, LocalFile):
        path = source.path
        if not path.is_file():
            raise NotFoundError(
                f"no file {path}", why=f"{weights.name} needs it as {asset.name}", hint="Check the path."
            )
    else:
        path = store.path(asset.sha256)
        if not path.is_file():
            from zoo.weights.download import Request, download

            wanted = Request(alone, source, asset.sha256, None, asset.bytes)
            fetched = download(wanted, store, registry=registry, progress=progress, note=note).fetched
    with disk_errors("read", path):
        size = path.stat().st_size
    if size <= MOST:
        with disk_errors("read", path):
            found = hash_file(path)
    else:
        found = ""
    _expect(path, found, asset.sha256, size)
    return PulledAsset(asset.name, path, asset.sha256, size, not fetched, asset.role)


def _expect(path: Path, found: str, sha256: str, size: int) -> None:
    if size > MOST:
        raise IntegrityError(f"{path} is longer than {MOST} bytes", why="no more are taken")
    if found != sha256:
        raise IntegrityError(
            f"{path} is not the file that was promised",
            why=f"its sha256 is {found}, {sha256} was promised",
            hint="Run `zoo verify`; restore the file, or remove it and pull the weights again.",
        )


def read(assets: Iterable[PulledAsset]) -> dict[str, bytes]:
    """The bytes of assets by name, hashed once more: they are small.

    Raises:
        IntegrityError: they are not what was pulled.
    """
    return {asset.name: read_proved(asset.path, asset.sha256) for asset in assets}


def read_proved(path: Path, sha256: str) -> bytes:
    """The bytes of a file, which must have this hash.

    Raises:
        IntegrityError: they have another, or are too many.
        DiskError: they cannot be read.
    """
    with disk_errors("read", path), path.open("rb") as file:
        content = file.read(MOST + 1)
    _expect(path, hashlib.sha256(content).hexdigest(), sha256, len(content))
    return content

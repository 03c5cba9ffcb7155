"""A folder that carries weights to a machine without network: written by `zoo pull --to`, read by `zoo cache add`.

    DIR/portable.json                     what the files are
    DIR/blobs/<64 hex>.safetensors        the files, by their sha256
    DIR/blobs/<64 hex>.asset              further files of weights, such as a tokenizer

`portable.json`::

    {"schema": 1,
     "weights": {"resnet18.tv_in1k": {
         "sha256": "<64 hex>",            of the file in blobs/
         "bytes": 46807446,
         "registry": {...},               the keys of its registry entry; a file of the publisher's own has the source
                                          "file:blobs/<64 hex>.safetensors", a further one "file:blobs/<64 hex>.asset"
         "lock": {...}}}}                 the keys of its zoo.lock entry; absent for such a file

Nothing in it is believed: names, keys and hashes are checked as those of a registry file and of zoo.lock are, and
every file is hashed on its way into the store.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from zoo.atomic import publish, write_atomically
from zoo.catalog.edit import table_of
from zoo.catalog.schema import FaultError as SchemaFault
from zoo.catalog.schema import read_weights
from zoo.catalog.spec import Weights
from zoo.errors import IntegrityError, NotFoundError, RegistryError, UsageError
from zoo.weights.files import Tick, disk_errors, hash_stream
from zoo.weights.lock import Entry, FaultError, Lock, read_entry
from zoo.weights.source import SHA256, assets_of, single
from zoo.weights.store import ASSET_SUFFIX

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry
    from zoo.weights.pull import Pulled

MANIFEST: Final = "portable.json"
SCHEMA: Final = 1
_BLOBS: Final = "blobs"
#: No sensible manifest is longer; it is read whole.
_MAX_BYTES: Final = 64 * 2**20
_KEYS: Final = {"sha256", "bytes", "registry", "lock"}


@dataclass(frozen=True, slots=True)
class Carried:
    """One set of weights in a portable folder.

    Attributes:
        weights: its registry entry; the source of a file of the publisher's own is the file in the folder.
        path: the file.
        sha256: what its bytes must hash to.
        bytes: what its size must be.
        lock: its entry of zoo.lock, or None.
        assets: (sha256, file) of each further file.
    """

    weights: Weights
    path: Path
    sha256: str
    bytes: int
    lock: Entry | None
    assets: tuple[tuple[str, Path], ...] = ()


def expect_place(folder: Path) -> None:
    """Raise `UsageError` unless `folder` is a portable folder, an empty one, or not there yet."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", hint="Name a new folder.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise UsageError(
            f"{folder} holds other things", why=f"it has no {MANIFEST}", hint="Name a new or an empty folder."
        )
    if (folder / MANIFEST).is_file():
        read(folder)


def export(
    wanted: list[Weights], done: list[Pulled], folder: Path, registry: Registry, *, tick: Tick | None = None
) -> dict[str, Path]:
    """Copy pulled weights into a portable folder, beside what it holds already; name -> where the file is now.

    Raises:
        IntegrityError: a file is not what was pulled any more; its name is not written.
        DiskError: the folder cannot be written.
    """
    lock = Lock.of(registry.settings)
    found = json.loads((folder / MANIFEST).read_bytes())["weights"] if (folder / MANIFEST).is_file() else {}
    paths: dict[str, Path] = {}
    for weights, got in zip(wanted, done, strict=True):
        path = paths[got.name] = folder / _BLOBS / f"{got.sha256}.safetensors"
        _copy(got.path, path, got.sha256, tick)
        for asset in got.assets:
            _copy(asset.path, _place_of(folder, asset.sha256), asset.sha256, tick)
        found[got.name] = _entry(single(weights), got, lock, path, folder)
    content = json.dumps({"schema": SCHEMA, "weights": dict(sorted(found.items()))}, indent=1)
    with disk_errors("write", folder):
        write_atomically(folder / MANIFEST, content.encode())
    return paths


def _place_of(folder: Path, asset: str) -> Path:
    return folder / _BLOBS / f"{asset}{ASSET_SUFFIX}"


def _entry(weights: Weights, got: Pulled, lock: Lock, path: Path, folder: Path) -> dict[str, Any]:
    carried: dict[str, Any] = {"sha256": got.sha256, "bytes": got.bytes}
    if weights.source.startswith("file:"):
        weights = replace(weights, source=f"file:{path.absolute()}", sha256=got.sha256, sha256_prefix=None)
    elif (entry := lock.entry(weights)) is not None:
        carried["lock"] = {key: value for key, value in asdict(entry).items() if value is not None}
    files = tuple(_carried_file(file, folder) for file in weights.files)
    return {**carried, "registry": table_of(replace(weights, files=files), folder.absolute()).unwrap()}


def _carried_file(file: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """A further file's entry; one of the publisher's own lies in the folder from now on."""
    if not file["source"].startswith("file:"):
        return file
    name = file.get("name") or re.split(r"[/:]", file["source"])[-1]
    return {**file, "name": name, "source": f"file:{_place_of(folder.absolute(), file['sha256'])}"}


def _copy(source: Path, target: Path, sha256: str, tick: Tick | None) -> None:
    with disk_errors("copy to", target):
        if target.is_file():
            with target.open("rb") as file:
                if hash_stream(file) == sha256:
                    return
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{os.urandom(8).hex()}.part")
        try:
            with source.open("rb") as file, part.open("xb") as into:
                found = hash_stream(file, into, tick)
                into.flush()
                os.fsync(into.fileno())
            if found != sha256:
                raise IntegrityError(
                    f"{source} was damaged", why=f"its sha256 is {found}", hint="Run `zoo verify`; pull it again."
                )
            publish(part, target)
        finally:
            part.unlink(missing_ok=True)


# -- reading -----------------------------------------------------------------------------------------------------------


def read(folder: Path) -> list[Carried]:
    """What a portable folder says it holds; no file of it is opened.

    Raises:
        NotFoundError: it is no portable folder.
        IntegrityError: its manifest is damaged, or names what must not be named.
    """
    path = folder / MANIFEST
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise ValueError(f"it has {size} bytes; at most {_MAX_BYTES} are read")
        found = json.loads(path.read_bytes())
        if not isinstance(found, dict) or found.get("schema") != SCHEMA:
            raise ValueError(f"it is not of schema {SCHEMA}")
        if not isinstance(found.get("weights"), dict):
            raise ValueError("it has no table of weights")
        return [_carried(name, table, folder) for name, table in found["weights"].items()]
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(
            f"{folder} is no portable folder",
            why=f"it has no {MANIFEST}",
            hint="Make one with `zoo pull NAME --to DIR`, on a machine with network.",
        ) from None
    except (ValueError, FaultError, SchemaFault, RecursionError) as error:
        raise IntegrityError(
            f"{path} is damaged", why=str(error).splitlines()[0], hint="Make the folder again: zoo pull NAME --to DIR."
        ) from error


def _carried(name: str, table: Any, folder: Path) -> Carried:
    if not isinstance(table, dict) or not table.keys() <= _KEYS or not {"sha256", "bytes", "registry"} <= table.keys():
        raise ValueError(f"{name}: it needs sha256, bytes and registry, may have lock, and nothing else")
    sha256, size = table["sha256"], table["bytes"]
    if not isinstance(sha256, str) or not SHA256.fullmatch(sha256):
        raise ValueError(f"{name}: sha256 is not 64 hex digits")
    if type(size) is not int or size <= 0:
        raise ValueError(f"{name}: bytes is not a size")
    weights = read_weights(
        name, table["registry"], folder.absolute(), inside=True, origin=str(folder / MANIFEST), plugin=""
    )
    lock = read_entry(name, table["lock"]) if "lock" in table else None
    promised = (lock.converted_sha256 or lock.sha256) if lock else weights.sha256
    if promised != sha256:
        raise ValueError(f"{name}: sha256 is not that of its {'lock' if lock else 'registry'} entry")
    if lock is not None and not lock.sha256.startswith(weights.sha256 or weights.sha256_prefix or ""):
        raise ValueError(f"{name}: its lock and its registry entry do not agree")
    try:
        assets = tuple((asset.sha256, _place_of(folder, asset.sha256)) for asset in assets_of(weights))
    except RegistryError as error:
        raise ValueError(error.message) from None
    return Carried(single(weights), folder / _BLOBS / f"{sha256}.safetensors", sha256, size, lock, assets)

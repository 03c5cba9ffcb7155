"""Features on disk: a folder of safetensors files, each named by the sha256 of its bytes.

`$ZOO_HOME/features/SPACE/`, where SPACE is the `zoo.adapt.space.space_key` of the network they are of::

    space.json                  {"schema": 1, "facts": {...}}; its modification time is the last use
    <sha256>.safetensors        "features" (n, D) F32 and "rows" (n, 32) U8, the sha256 of each sample
    .merge.lock                 held while small shards are merged

A shard appears under its name by one rename, after it was synced, and is never written again: whoever is killed at
any point leaves whole shards and perhaps a `.part`. Writers need no lock, for equal bytes have equal names; two that
compute the same rows at once keep them twice, and the first found is used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from zoo.adapt.kept import FACTS
from zoo.atomic import write_atomically
from zoo.errors import DiskError, IntegrityError, NotFoundError
from zoo.weights.files import hash_file
from zoo.weights.header import read_header
from zoo.weights.source import SHA256

SCHEMA: Final = 1
SUFFIX: Final = ".safetensors"
#: Bytes of a digest.
DIGEST: Final = 32
#: A shard is written once it would have this many bytes of features ...
SHARD_BYTES: Final = 1 << 25
#: So many shards of less than half that size are merged.
MERGED: Final = 16


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """Features of some rows, mapped from a file that was checked.

    Attributes:
        path: the file.
        rows: (n, 32) uint8, the sha256 of each sample.
        features: (n, D) float32.
    """

    path: Path
    rows: Tensor
    features: Tensor

    @property
    def nbytes(self) -> int:
        """Size of its tensors."""
        return self.rows.nbytes + self.features.nbytes

    def digests(self) -> Iterator[bytes]:
        """The sha256 of each sample."""
        flat = self.rows.numpy().tobytes()
        return (flat[i : i + DIGEST] for i in range(0, len(flat), DIGEST))


class SpaceFolder:
    """The shards of one space.

    Args:
        path: its folder; need not exist.
        facts: what `space.json` says of it.
    """

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self.path: Final = path
        self.facts: Final = facts

    def open(self, known: Collection[Path] = ()) -> tuple[list[Shard], int]:
        """Every sound shard but those `known`, and how many damaged ones were removed.

        Each is hashed whole: a shard whose bytes are not those of its name is never used.
        """
        self.touch()
        shards: list[Shard] = []
        damaged = 0
        for path in (path for path in self._files() if path not in known):
            # Another process merged or removed it, or it is not ours to read.
            with contextlib.suppress(NotFoundError, DiskError):
                try:
                    shards.append(read_shard(path))
                except IntegrityError:
                    damaged += 1
                    with contextlib.suppress(OSError):
                        path.unlink()
        return shards, damaged

    def touch(self) -> None:
        """Note that the space is used now."""
        with contextlib.suppress(OSError):
            os.utime(self.path / FACTS)

    def write(self, digests: Iterable[bytes], features: Tensor) -> Shard:
        """Keep features (n, D) of the samples with these digests; gives them mapped.

        Raises:
            OSError: the disk is full, or not ours to write.
        """
        joined = bytearray(b"".join(digests))
        rows = torch.frombuffer(joined, dtype=torch.uint8).view(-1, DIGEST)
        content = save({"features": features.contiguous(), "rows": rows})
        path = self.path / f"{hashlib.sha256(content).hexdigest()}{SUFFIX}"
        try:
            self._publish(path, content)
        except FileNotFoundError:  # the space was removed to make room, by another process
            self._publish(path, content)
        return read_shard(path, verify=False)

    def _publish(self, path: Path, content: bytes) -> None:
        if not (self.path / FACTS).exists():
            text = json.dumps({"schema": SCHEMA, "facts": self.facts}, indent=1)
            write_atomically(self.path / FACTS, text.encode())
        if not path.exists():
            write_atomically(path, content)

    def merge(self, shards: list[Shard]) -> list[Shard]:
        """Merge small shards where there are many of them; gives the shards that stand in place of `shards`.

        Whatever fails, each row stays in one shard at least.
        """
        small = [shard for shard in shards if shard.features.nbytes < SHARD_BYTES // 2]
        if len(small) < MERGED:
            return shards
        from filelock import FileLock, Timeout

        try:
            with FileLock(self.path / ".merge.lock", timeout=0):
                small = [shard for shard in small if shard.path.exists()]
                merged = [self._join(group) for group in _groups(small)]
                made = {shard.path for shard in merged}
                for shard in small:
                    if shard.path not in made:
                        with contextlib.suppress(OSError):  # Windows keeps a mapped file
                            shard.path.unlink()
        except (OSError, Timeout):
            return shards
        gone = {shard.path for shard in small}
        return [shard for shard in shards if shard.path not in gone] + merged

    def _join(self, group: list[Shard]) -> Shard:
        if len(group) == 1:
            return group[0]
        digests = (digest for shard in group for digest in shard.digests())
        return self.write(digests, torch.cat([shard.features for shard in group]))

    def _files(self) -> list[Path]:
        try:
            names = sorted(os.listdir(self.path))
        except OSError:
            return []
        return [self.path / name for name in names if name.endswith(SUFFIX) and SHA256.fullmatch(name[: -len(SUFFIX)])]


def read_shard(path: Path, *, verify: bool = True) -> Shard:
    """Map a shard.

    Args:
        verify: hash it first; its header is checked in any case.

    Raises:
        IntegrityError: it is damaged.
        NotFoundError: it is gone.
        DiskError: it cannot be read.
    """
    try:
        if verify and hash_file(path) != path.name.removesuffix(SUFFIX):
            raise IntegrityError(f"{path} was damaged")
        tensors = read_header(path).tensors
        found = {name: (info.dtype, len(info.shape)) for name, info in tensors.items()}
        if found != {"features": ("F32", 2), "rows": ("U8", 2)}:
            raise IntegrityError(f"{path} holds no features", why=f"its tensors are {found}")
        if tensors["rows"].shape != (tensors["features"].shape[0], DIGEST):
            raise IntegrityError(f"{path} has other rows than features")
        with safe_open(path, framework="pt") as file:
            return Shard(path, file.get_tensor("rows"), file.get_tensor("features"))
    except FileNotFoundError as error:
        raise NotFoundError(f"no file {path}") from error
    except SafetensorError as error:
        raise IntegrityError(f"{path} cannot be read", why=str(error)) from error
    except OSError as error:
        raise DiskError(f"{path} cannot be read", why=str(error)) from error


def _groups(shards: list[Shard]) -> Iterator[list[Shard]]:
    """In order, each of at most `SHARD_BYTES` and of one width."""
    group: list[Shard] = []
    for shard in shards:
        same = not group or group[0].features.shape[1] == shard.features.shape[1]
        if group and (not same or sum(one.features.nbytes for one in [*group, shard]) > SHARD_BYTES):
            yield group
            group = []
        group.append(shard)
    if group:
        yield group

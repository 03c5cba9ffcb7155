"""The feature store: one forward pass over each sample, shared by everything that asks for features.

A feature is keyed by its *space* (which network, in which state, read where and how: `zoo.adapt.space`) and its *row*
(sha256 of the raw sample), so a data set that grew costs only its new samples and identical samples are computed once.
Nothing about labels enters it. Spaces of named backbones are kept on disk (`zoo.adapt.shards`), those of your own
modules in memory.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from zoo.adapt.extract import chosen_batch, extract, to_device
from zoo.adapt.group import ALONE, Group
from zoo.adapt.kept import kept_features, trim_features
from zoo.adapt.shards import SHARD_BYTES, Shard, SpaceFolder
from zoo.adapt.space import is_private, space_facts, space_key, state_hash, tensor_hashes
from zoo.adapt.table import Table
from zoo.data.dataset import Split
from zoo.models.accelerator import Placement
from zoo.models.network import Network
from zoo.settings import Settings

__all__ = ["FeatureStore", "Space", "extract", "shared_store", "state_hash", "tensor_hashes", "to_device"]

#: A shard is also written once its oldest row has waited this long, so that a kill costs no more.
SHARD_SECONDS: Final = 20.0

Progress = Callable[[int, int], None]


class Space:
    """Features of one network, read one way: the rows at hand, and those on disk.

    Args:
        facts: what the features depend on.
        folder: where rows are kept; None = in memory alone.
        settings: how much may be kept.
        say: told what the user should know.
    """

    def __init__(
        self,
        facts: dict[str, Any],
        folder: SpaceFolder | None,
        settings: Settings | None,
        say: Callable[[str], None],
    ) -> None:
        self.facts: Final = facts
        self.table: Final = Table()
        self._folder = folder
        self._settings = settings
        self._say = say
        self._shards: list[Shard] = []
        #: Rows that wait for their shard: digests, features and the number of their block.
        self._waiting: list[tuple[Sequence[bytes], Tensor, int]] = []
        self._since = 0.0
        self.refresh()

    def refresh(self) -> None:
        """Take up what is on disk and not yet here: other processes write too."""
        if self._folder is None:
            return
        found, damaged = self._folder.open({shard.path for shard in self._shards})
        for shard in found:
            self.table.add(list(shard.digests()), shard.features, mapped=True)
        self._shards += found
        if damaged:
            self._say(f"{damaged} damaged file{'s' * (damaged > 1)} of features removed: they are computed again")

    def add(self, digests: Sequence[bytes], features: Tensor, *, keep: bool = True) -> None:
        """Take up rows that were just computed; `keep` = on disk too, where this space has one."""
        number = self.table.add(digests, features)
        if not keep or self._folder is None:
            return
        self._since = self._since if self._waiting else time.monotonic()
        self._waiting.append((digests, features, number))
        waiting = sum(block.nbytes for _, block, _ in self._waiting)
        if waiting >= SHARD_BYTES or time.monotonic() - self._since > SHARD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait. Where the disk is full or read-only they stay in memory, and that is said."""
        waiting, self._waiting = self._waiting, []
        if not waiting or self._folder is None:
            return
        digests = [digest for part, _, _ in waiting for digest in part]
        features = torch.cat([block for _, block, _ in waiting])
        try:
            if not self._has_room(features.nbytes + 32 * len(digests)):
                return
            shard = self._folder.write(digests, features)
        except OSError as error:
            self._folder = None
            self._say(f"features are kept in memory only: {error.strerror or error} ({error.filename})")
            return
        self.table.add(digests, shard.features, mapped=True, replace=True)
        self.table.drop([number for _, _, number in waiting])
        self._shards.append(shard)

    def close(self) -> None:
        """Write what waits; merge small shards where there are many."""
        self.flush()
        if self._folder is None:
            return
        before = {shard.path for shard in self._shards}
        merged = self._folder.merge(self._shards)
        for shard in merged:
            if shard.path not in before:
                self.table.add(list(shard.digests()), shard.features, mapped=True, replace=True)
        self._shards = merged

    def _has_room(self, nbytes: int) -> bool:
        assert self._folder is not None
        assert self._settings is not None
        limit = self._settings.features_limit
        spaces = kept_features(self._settings, facts=False)
        own = sum(one.nbytes for one in spaces if one.path == self._folder.path)
        if own + nbytes > limit:
            self._folder = None
            self._say(
                f"features beyond {limit / 1e9:.3g} GB are kept in memory only (ZOO_FEATURES_LIMIT allows no more)"
            )
            return False
        if sum(one.nbytes for one in spaces) + nbytes > limit:
            trim_features(self._settings, limit - nbytes, keep={self._folder.path.name})
        return True


class FeatureStore:
    """Features by space and row.

    Args:
        settings: where they are kept on disk, and how much; None = in memory alone.
        limit: bytes kept in memory; the spaces used longest ago go first.
    """

    def __init__(self, settings: Settings | None = None, *, limit: int = 1 << 30) -> None:
        self.settings: Final = settings if settings is not None and settings.features_limit else None
        self.limit: Final = limit
        self._spaces: dict[str, Space] = {}
        self._said: list[str] = []

    def features(
        self,
        network: Network,
        split: Split,
        placement: Placement,
        *,
        batch_size: int | None = None,
        workers: int | None = None,
        keep: bool = True,
        progress: Progress | None = None,
        group: Group = ALONE,
        padded: bool = False,
    ) -> Tensor:
        """Features (N, D) float32 on the CPU, one row per sample of the split, in its order.

        Only samples this store has not seen in this space are computed. A large result is a mapped file: read it in
        chunks of rows, and do not write to it.

        Args:
            batch_size: rows of one forward pass; None = chosen (`zoo.adapt.extract.CPU_BATCH`).
            workers: threads that read samples; None = chosen.
            keep: write new rows to disk; False = remember them in memory alone (predictions of passing samples).
            progress: called with (done, total) of the rows that are computed.
            group: processes that all ask for these features: each computes some batches of what any of them lacks, all
                are given all, and the leading one writes.
            padded: see `zoo.adapt.extract.extract`; such features are a space of their own for each `batch_size`.
        """
        if not len(split):
            return torch.empty((0, network.num_features))
        space = self._space(network, placement, {"rows": batch_size} if padded else {})
        digests = [bytes.fromhex(split.digest(i)) for i in range(len(split))]
        places = space.table.locate(digests)
        if (places < 0).any():
            space.refresh()
            places = space.table.locate(digests)
        missing = group.union(places < 0)
        if missing.any():
            first: dict[bytes, int] = {}
            for i in np.flatnonzero(missing).tolist():
                first.setdefault(digests[i], i)
            rows = split.subset(sorted(first.values()))
            if (order := getattr(network.reader(), "order", None)) is not None:
                rows = rows.subset(order(rows))
            self._compute(space, network, rows, placement, batch_size, workers, keep, progress, group, padded)
            places = space.table.locate(digests)
        result = space.table.gather(places, self.settings.features if self.settings else None)
        self._trim()
        network.note_width(result.shape[1])
        return result

    def said(self) -> list[str]:
        """What the user should know since this was last asked."""
        said, self._said = self._said, []
        return said

    def _space(self, network: Network, placement: Placement, more: dict[str, Any]) -> Space:
        facts = space_facts(network, placement) | more
        key = space_key(facts)
        space = self._spaces.pop(key, None)
        if space is None:
            folder = None
            if self.settings is not None and not is_private(facts):
                folder = SpaceFolder(self.settings.features / key, facts)
            space = Space(facts, folder, self.settings, self._said.append)
        self._spaces[key] = space
        return space

    def _compute(
        self,
        space: Space,
        network: Network,
        rows: Split,
        placement: Placement,
        batch_size: int | None,
        workers: int | None,
        keep: bool,
        progress: Progress | None,
        group: Group,
        padded: bool,
    ) -> None:
        done = 0
        total, parts = len(rows), list[Tensor]()
        whole = batch_size or chosen_batch(network, placement)  # the batches of one process, to the last bit
        idle = group.repeats(total, whole=whole)
        try:
            key = space_key(space.facts)
            own = rows.subset(range(0 if idle else total)[group.part(total, whole=whole)])
            passes = extract(network, own, placement, batch_size=batch_size, workers=workers, key=key, padded=padded)
            for found in passes:
                if group.together:
                    parts.append(found)
                else:
                    digests = [bytes.fromhex(rows.digest(i)) for i in range(done, done + len(found))]
                    space.add(digests, found, keep=keep)
                done += len(found)
                if progress:
                    progress(done, len(own))
            if group.together:
                found = group.gather(torch.cat(parts) if parts else torch.empty(0), total, whole)
                space.add([bytes.fromhex(digest) for digest in rows.digests()], found, keep=keep and group.leads)
        finally:
            if group.leads:
                space.close()

    def _trim(self) -> None:
        size = sum(space.table.nbytes for space in self._spaces.values())
        while size > self.limit and len(self._spaces) > 1:
            size -= self._spaces.pop(next(iter(self._spaces))).table.nbytes


def shared_store(settings: Settings | None = None) -> FeatureStore:
    """The store that learners of this process share unless they are given one."""
    settings = settings or Settings()
    return _store_at(settings.home, settings.features_limit)


@functools.cache
def _store_at(home: Path, limit: int) -> FeatureStore:
    return FeatureStore(Settings(home=home, features_limit=limit))

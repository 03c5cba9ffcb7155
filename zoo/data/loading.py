"""Batches in order, read ahead by threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from zoo.data.dataset import Samples, Split
from zoo.data.preprocess import Reader, ready
from zoo.errors import DataError, UsageError, ZooError

#: Batches read ahead of the one in use.
_AHEAD: Final = 2
#: Largest size at which `hold` keeps what was read, in bytes.
HOLD_LIMIT: Final = 1 << 29


@dataclass(frozen=True, slots=True)
class Batch:
    """What a step sees.

    Attributes:
        x: (B, ...), or a tuple of such tensors.
        y: targets (see `zoo.data.task`), or None.
        index: int64 (B,), positions in the split.
        whole: of a part of a batch: that batch, without its input.
    """

    x: Tensor | tuple[Tensor, ...]
    y: Tensor | None
    index: Tensor
    whole: Batch | None = None

    def __len__(self) -> int:
        return len(self.index)


def batches(
    split: Split,
    reader: Reader,
    batch_size: int,
    *,
    shuffle_seed: int | None = None,
    workers: int | None = None,
    drop_last: bool = False,
) -> Batches:
    """Batches of a split, in order, or in the order of a seeded permutation. They do not depend on `workers`.

    Args:
        split: what to read.
        reader: raw sample -> tensor.
        batch_size: of every batch but the last.
        shuffle_seed: None = in order; else the order is `torch.randperm` of a generator with this seed, so give
            another seed each epoch.
        workers: threads that decode and resize; None = one a core, at most 8, for files, none for what is in memory.
        drop_last: leave an incomplete last batch out.

    Raises:
        UsageError: a batch size below one.
        DataError: while iterating: a sample that cannot be read (named), or samples of unequal shape.
    """
    if batch_size < 1:
        raise UsageError(f"a batch of {batch_size} samples", hint="Give a batch size of at least 1.")
    return Batches(split, reader, batch_size, shuffle_seed, workers, drop_last)


@dataclass(frozen=True, eq=False)
class Batches:
    """See `batches`. Can be iterated again and again, with the same result.

    Threads, not processes: Pillow and NumPy let go of the interpreter while they decode, resize and scale, so reading
    overlaps with the forward pass either way. 244 photos of 256 px, read once on 2 cores: 0.35 s without workers, and
    as much from a `DataLoader` with 2 forked processes; but 3.1 s from its fork server and 4.1 s spawned (the default
    on macOS and Windows), because each process imports torch.
    """

    split: Split
    reader: Reader
    batch_size: int
    shuffle_seed: int | None = None
    workers: int | None = None
    drop_last: bool = False
    start: int = 0
    cut: Callable[[int], slice] | None = None
    joins: bool = False

    def __len__(self) -> int:
        whole, left = divmod(len(self.split), self.batch_size)
        lone = self.joins and left == 1 < self.batch_size and whole > 0
        return max(0, whole + (1 if left and not (self.drop_last or lone) else 0) - self.start)

    def starting_at(self, start: int) -> Batches:
        """The same batches without the first `start`, which are not read."""
        return replace(self, start=start)

    def joined(self) -> Batches:
        """The same batches, but a last one of one row is joined to the one before it."""
        return replace(self, joins=True)

    def parts(self, cut: Callable[[int], slice]) -> Batches:
        """A part of each batch; the rest is not read.

        Args:
            cut: rows of a batch -> which of them.
        """
        return replace(self, cut=cut)

    def __iter__(self) -> Iterator[Batch]:
        parts = list(self._order().split(self.batch_size)) if len(self.split) else []
        if self.drop_last and parts and len(parts[-1]) < self.batch_size:
            del parts[-1]
        if self.joins and len(parts) > 1 and len(parts[-1]) == 1 < len(parts[-2]):
            parts[-2:] = [torch.cat(parts[-2:])]
        del parts[: self.start]
        workers = _default_workers(self.split) if self.workers is None else self.workers
        if workers == 0 or not parts:
            return (self._part(part, self._batch(self._mine(part))) for part in parts)
        return self._read_ahead(parts, workers)

    def _order(self) -> Tensor:
        if self.shuffle_seed is None:
            return torch.arange(len(self.split))
        return torch.randperm(len(self.split), generator=torch.Generator().manual_seed(self.shuffle_seed))

    def _mine(self, index: Tensor) -> Tensor:
        return index if self.cut is None else index[self.cut(len(index))]

    def _part(self, index: Tensor, batch: Batch) -> Batch:
        return batch if self.cut is None else replace(batch, whole=Batch((), self._targets(index), index))

    def _batch(self, index: Tensor) -> Batch:
        whole = self.split.samples.take(self.split.rows[index.numpy()])
        if whole is not None:
            x = tuple(ready(part) for part in whole) if isinstance(whole, tuple) else ready(whole)
            return Batch(x, self._targets(index), index)
        return self._collate(index, [read(self.split, self.reader, i) for i in index.tolist()])

    def _read_ahead(self, parts: list[Tensor], workers: int) -> Iterator[Batch]:
        pool = ThreadPoolExecutor(workers, thread_name_prefix="zoo-read")
        waiting: deque[tuple[Tensor, list[Future[Any]]]] = deque()
        try:
            for part in parts:
                futures = [pool.submit(read, self.split, self.reader, index) for index in self._mine(part).tolist()]
                waiting.append((part, futures))
                if len(waiting) > _AHEAD:
                    yield self._finish(*waiting.popleft())
            while waiting:
                yield self._finish(*waiting.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _finish(self, index: Tensor, futures: list[Future[Any]]) -> Batch:
        return self._part(index, self._collate(self._mine(index), [future.result() for future in futures]))

    def _collate(self, index: Tensor, items: list[Any]) -> Batch:
        first = items[0]
        try:
            x = (
                tuple(torch.stack(part) for part in zip(*items, strict=True))
                if isinstance(first, tuple)
                else (torch.stack(items))
            )
        except (RuntimeError, ValueError, TypeError) as error:
            shapes = {_shape(item): self.split.location(i) for i, item in zip(index.tolist(), items, strict=True)}
            raise DataError(
                "the samples of a batch differ in shape",
                why="; ".join(f"{where} is {shape}" for shape, where in list(shapes.items())[:3]),
                hint="Floating input passes unchanged, so all of it must have one shape.",
            ) from error
        return Batch(x, self._targets(index), index)

    def _targets(self, index: Tensor) -> Tensor | None:
        return None if self.split.targets is None else torch.from_numpy(self.split.targets[index.numpy()])


def read(split: Split, reader: Reader, index: int) -> Tensor | tuple[Tensor, ...]:
    """Read one sample.

    Raises:
        DataError: it cannot be read; the message names it.
    """
    try:
        return reader(split.raw(index, reader.shorter))
    except DataError as error:
        raise DataError(f"{split.location(index)}: {error.message}", why=error.why, hint=error.hint) from error
    except (ZooError, MemoryError):
        raise
    except Exception as error:
        raise DataError(
            f"cannot read {split.location(index)}",
            why=f"{type(error).__name__}: {error}",
            hint="Mend or remove it, or leave unreadable files out with --skip-bad (skip_bad=True in Python).",
        ) from error


def hold(split: Split, reader: Reader, *, limit: int = HOLD_LIMIT, workers: int | None = None) -> Split:
    """Read a split once and keep the tensors, so that every later epoch only gathers rows.

    Args:
        limit: bytes; a split that needs more is returned as it is.

    Returns:
        A split with the same rows, targets, digests and locations, whose raw samples are ready for the network.

    Raises:
        DataError: a sample that cannot be read, or samples of unequal shape; named.
    """
    if not len(split) or split.samples.take(split.rows[:1]) is not None:
        return split
    first = read(split, reader, 0)
    parts = first if isinstance(first, tuple) else (first,)
    if sum(part.numel() * part.element_size() for part in parts) * len(split) > limit:
        return split
    kept = tuple(torch.empty((len(split), *part.shape), dtype=part.dtype) for part in parts)
    for batch in batches(split, reader, 64, workers=workers):
        for store, part in zip(kept, batch.x if isinstance(batch.x, tuple) else (batch.x,), strict=True):
            if part.shape[1:] != store.shape[1:]:  # assigning would broadcast it
                raise DataError(
                    "the samples of a split differ in shape",
                    why=f"{split.location(int(batch.index[0]))} is {tuple(part.shape[1:])}; "
                    f"{split.location(0)} is {tuple(store.shape[1:])}",
                    hint="Floating input passes unchanged, so all of it must have one shape.",
                )
            store[batch.index] = part
    samples = HeldSamples(split, kept if isinstance(first, tuple) else kept[0])
    return Split(split.name, samples, np.arange(len(split)), split.targets, split.task)


class HeldSamples(Samples):
    """Samples already read; they remember where they came from."""

    def __init__(self, source: Split, values: Tensor | tuple[Tensor, ...]) -> None:
        self.kind = source.samples.kind
        self._source = source
        self._values = values

    def __len__(self) -> int:
        return len(self._source)

    def raw(self, row: int, shorter: int | None = None) -> Any:
        return tuple(part[row] for part in self._values) if isinstance(self._values, tuple) else self._values[row]

    def digest(self, row: int) -> str:
        return self._source.digest(row)

    def location(self, row: int) -> str:
        return self._source.location(row)

    def path(self, row: int) -> Path | None:
        return self._source.samples.path(int(self._source.rows[row]))

    def take(self, rows: np.ndarray) -> Any:
        index = torch.from_numpy(rows)
        return tuple(part[index] for part in self._values) if isinstance(self._values, tuple) else self._values[index]


def _default_workers(split: Split) -> int:
    cores = (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
    return max(1, min(8, cores)) if split.samples.encoded else 0


def _shape(item: Any) -> Any:
    return tuple(_shape(part) for part in item) if isinstance(item, tuple) else tuple(item.shape)

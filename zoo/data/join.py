"""Two splits as one: labelled rows, then rows without labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.dataset import Samples, Split


class JoinedSamples(Samples):
    """The samples of one split, then those of another."""

    def __init__(self, first: Split, second: Split) -> None:
        self.parts = (first, second)
        self.kind = first.samples.kind
        self.encoded = first.samples.encoded or second.samples.encoded

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def raw(self, row: int, shorter: int | None = None) -> Any:
        split, index = self._find(row)
        return split.raw(index, shorter)

    def digest(self, row: int) -> str:
        split, index = self._find(row)
        return split.digest(index)

    def location(self, row: int) -> str:
        split, index = self._find(row)
        return split.location(index)

    def path(self, row: int) -> Path | None:
        split, index = self._find(row)
        return split.samples.path(int(split.rows[index]))

    def _find(self, row: int) -> tuple[Split, int]:
        first, second = self.parts
        return (first, row) if row < len(first) else (second, row - len(first))


def join(first: Split, second: Split, targets: np.ndarray) -> Split:
    """`first`, then `second` with these targets (one per row of `second`)."""
    assert first.targets is not None
    together = np.concatenate([first.targets, targets.astype(first.targets.dtype)])
    if first.samples is second.samples:
        return replace(
            first, rows=np.concatenate([first.rows, second.rows]), targets=together, groups=None, group_names=()
        )
    return Split(first.name, JoinedSamples(first, second), np.arange(len(together)), together, first.task)


def together(splits: Sequence[Split]) -> Split:
    """All rows of some splits, one after the other, without targets."""
    whole = splits[0].unlabelled()
    for split in splits[1:]:
        samples = JoinedSamples(whole, split)
        whole = Split(whole.name, samples, np.arange(len(samples)))
    return whole

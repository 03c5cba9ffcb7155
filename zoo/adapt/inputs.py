"""Batches of inputs, without targets, for strategies that look at more than features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from zoo.adapt.extract import chosen_batch, to_device
from zoo.data.dataset import Split
from zoo.data.loading import batches, hold
from zoo.data.preprocess import Reader
from zoo.models.accelerator import Placement
from zoo.models.network import Network


@dataclass(frozen=True)
class Inputs:
    """What a network eats, batch by batch, on its device. Can be iterated again and again.

    Attributes:
        split: the rows; read once where they fit into memory.
        read: raw sample -> tensor.
        placement: where to.
        batch_size: rows a batch.
    """

    split: Split
    read: Reader
    placement: Placement
    batch_size: int

    @classmethod
    def of(
        cls, network: Network, split: Split, placement: Placement, *, batch_size: int | None, most: int | None = None
    ) -> Inputs:
        """Inputs for a network of at most so many rows of a split.

        Args:
            batch_size: None = chosen by the size of a sample.
            most: None = all; of more rows, those with the least hashes, so that their order chooses nothing.
        """
        if most is not None and len(split) > most:
            digests = split.digests()
            split = split.subset(sorted(sorted(range(len(split)), key=digests.__getitem__)[:most]))
        read = network.reader()
        return cls(hold(split.unlabelled(), read), read, placement, batch_size or chosen_batch(network, placement))

    def __iter__(self) -> Iterator[Any]:
        return (to_device(batch.x, self.placement) for batch in batches(self.split, self.read, self.batch_size))

"""Features of many rows, in blocks: in memory, or mapped from files. Gathered in any order."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

#: A result of more bytes than this is a mapped file, so that no process needs memory for it.
MAPPED: Final = 1 << 28
#: Rows copied at a time.
_CHUNK: Final = 1 << 13
_SHIFT: Final = 40
_ROW: Final = (1 << _SHIFT) - 1
_ABSENT: Final = -1


class Table:
    """Rows of features (D,) float32 by the sha256 of their sample."""

    def __init__(self) -> None:
        #: A block that was replaced is None.
        self._blocks: list[Tensor | None] = []
        #: Blocks that a file stands behind cost no memory.
        self._mapped: set[int] = set()
        self._index: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._index)

    @property
    def nbytes(self) -> int:
        """Memory that the rows take, those mapped from files left out."""
        return sum(b.nbytes for i, b in enumerate(self._blocks) if b is not None and i not in self._mapped)

    def add(self, digests: Sequence[bytes], block: Tensor, *, mapped: bool = False, replace: bool = False) -> int:
        """Take up features (n, D) of the samples with these digests; gives the block's number.

        Args:
            mapped: a file stands behind them.
            replace: in place of rows that are here already; else those stay.
        """
        number = len(self._blocks)
        self._blocks.append(block)
        if mapped:
            self._mapped.add(number)
        new = {digest: (number << _SHIFT) + row for row, digest in enumerate(digests)}
        if replace:
            self._index.update(new)
        else:
            for digest, place in new.items():
                self._index.setdefault(digest, place)
        return number

    def drop(self, numbers: Sequence[int]) -> None:
        """Let go of blocks whose rows were replaced."""
        for number in numbers:
            self._blocks[number] = None

    def locate(self, digests: Sequence[bytes]) -> np.ndarray:
        """Where each row is, (N,) int64; negative where it is not here."""
        return np.fromiter((self._index.get(digest, _ABSENT) for digest in digests), np.int64, len(digests))

    def gather(self, places: np.ndarray, folder: Path | None = None) -> Tensor:
        """Features (N, D) of the rows at these places, in their order.

        A large result is no copy where the rows lie in one block in order, else a mapped file that has no name, in
        `folder` or among the temporary files.
        """
        numbers, rows = places >> _SHIFT, places & _ROW
        first = self._block(int(numbers[0]))
        nbytes = len(places) * first.shape[1] * first.element_size()
        if nbytes > MAPPED and bool((numbers == numbers[0]).all() and (np.diff(rows) == 1).all()):
            return first[int(rows[0]) : int(rows[0]) + len(rows)]
        shape = (len(places), first.shape[1])
        result = torch.empty(shape) if nbytes <= MAPPED else scratch(shape, folder)
        for start in range(0, len(places), _CHUNK):
            part, chunk = numbers[start : start + _CHUNK], rows[start : start + _CHUNK]
            for number in np.unique(part):
                where = np.flatnonzero(part == number)
                result[torch.from_numpy(start + where)] = self._block(int(number))[torch.from_numpy(chunk[where])]
        return result

    def _block(self, number: int) -> Tensor:
        block = self._blocks[number]
        assert block is not None, "a row points to a block that was let go"
        return block


def scratch(shape: tuple[int, int], folder: Path | None) -> Tensor:
    """Zeros (N, D) float32 backed by a file without a name; in memory where no disk has the room."""
    size = shape[0] * shape[1]
    for place in (folder, Path(tempfile.gettempdir())):
        if place is None:
            continue
        path = place / f".{os.urandom(8).hex()}.part"
        try:
            place.mkdir(parents=True, exist_ok=True)
            _reserve(path, size * 4)
            return torch.from_file(str(path), shared=True, size=size, dtype=torch.float32).view(shape)
        except (OSError, RuntimeError):
            continue
        finally:
            with contextlib.suppress(OSError):  # Windows keeps it until the next clean-up
                path.unlink()
    return torch.zeros(shape)


def _reserve(path: Path, size: int) -> None:
    """Make a file of `size` bytes that the disk has the room for: writing to a mapped hole of a full disk kills."""
    with path.open("xb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
            return
        zeros = bytes(1 << 20)
        for start in range(0, size, len(zeros)):
            file.write(zeros[: size - start])

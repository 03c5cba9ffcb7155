"""Which samples a fit learned from, small enough to be kept with the run. See docs/formats.md."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from zoo.atomic import write_atomically
from zoo.data.dataset import Split
from zoo.errors import IntegrityError
from zoo.weights.files import disk_errors

#: The file in a run's folder.
LEARNED: Final = "learned.bin"
#: Bytes of a sha256 that are kept: of a million samples none is taken for another of a million, but once in 10^7 times.
KEPT: Final = 8
_TYPE: Final = np.dtype(">u8")


@dataclass(frozen=True, eq=False)
class Learned:
    """The samples of a fit's training rows.

    Attributes:
        heads: the first `KEPT` bytes of each one's sha256 as a number, ascending, each once.
    """

    heads: np.ndarray

    @classmethod
    def of(cls, digests: Iterable[str]) -> Learned:
        """From the digests of samples, in hex."""
        return cls(np.unique(_heads(digests)))

    def count(self, split: Split) -> int:
        """How many rows of a split are among them."""
        return int(np.isin(_heads(split.digests()), self.heads).sum())

    def write(self, run: Path) -> None:
        """Write the file of a run's folder, atomically."""
        with disk_errors("write", run / LEARNED):
            write_atomically(run / LEARNED, self.heads.astype(_TYPE).tobytes())


def read_learned(run: Path) -> Learned | None:
    """What the file of a run's folder says; None where there is none.

    Raises:
        IntegrityError: it is damaged.
        DiskError: it cannot be read.
    """
    path = run / LEARNED
    if not path.is_file():
        return None
    with disk_errors("read", path):
        content = path.read_bytes()
    if len(content) % KEPT:
        raise IntegrityError(f"{path} is damaged", why=f"It is not whole numbers of {KEPT} bytes.")
    return Learned(np.frombuffer(content, _TYPE).astype(np.uint64))


def _heads(digests: Iterable[str]) -> np.ndarray:
    return np.array([int(digest[: 2 * KEPT], 16) for digest in digests], dtype=np.uint64)

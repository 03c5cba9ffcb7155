"""An opened data set: samples, their targets, and the named splits that divide them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from zoo.data.task import Task
from zoo.errors import DataError

TRAIN: Final = "train"
VAL: Final = "val"
TEST: Final = "test"

#: Kinds of samples in words.
KINDS: Final = {
    "image": "pictures",
    "audio": "recordings",
    "text": "texts",
    "table": "rows of a table",
    "tensor": "tensors that are ready for it",
}
#: What a backbone of a kind is given: recordings are pictures too, once they are log-mel spectrograms, and what is
#: ready passes every reader. A network without a reader says itself what it misses.
_EATEN: Final = {
    "image": ("image", "audio", "tensor"),
    "audio": ("audio", "tensor"),
    "text": ("text", "tensor"),
    "table": ("table", "tensor"),
    "tensor": ("image", "audio", "tensor"),
}


class Samples:
    """Raw samples by row. One subclass for each place that samples come from."""

    #: Whether a raw sample has to be decoded, so that reading ahead in threads pays.
    encoded: bool = False
    #: What raw samples are: "image" (pictures and raw arrays), "audio", "text", "table", or "tensor" (floating arrays:
    #: what is ready for a network).
    kind: str = "image"
    #: People's words for one, and for several.
    noun: str = "sample"
    nouns: str = "samples"

    def __len__(self) -> int:
        raise TypeError(f"{type(self).__name__} must say its length")

    def raw(self, row: int, shorter: int | None = None) -> Any:
        """The sample as it is: an upright RGB or L picture, a uint8 (H, W[, C]) array, a `Sound`, a `str`, a row of a
        table (mapping of column -> str, int, float, bool or None), or a float array or tensor.

        Args:
            row: 0-based.
            shorter: the shorter side a picture will be resized to, so that a far larger one can be decoded cheaply.
        """
        raise TypeError(f"{type(self).__name__} must give raw samples")

    def digest(self, row: int) -> str:
        """sha256 of the raw sample, in hex."""
        raise TypeError(f"{type(self).__name__} must give digests")

    def location(self, row: int) -> str:
        """Where the sample is, for people."""
        return f"sample {row}"

    def path(self, row: int) -> Path | None:
        """The sample's file, where it has one of its own."""
        return None

    def named(self, row: int) -> str | None:
        """What people find the sample by: its file, its row in a table; None = only its number is known."""
        path = self.path(row)
        return None if path is None else str(path)

    def verify(self) -> list[tuple[int, Unreadable]]:
        """Rows that cannot be read: row, where and why. What lies in memory can be."""
        return []

    def take(self, rows: np.ndarray) -> Any:
        """Many raw samples as one array or tensor where that costs no decoding, else None."""
        return None


def eats(kind: str | None, found: str | None) -> bool:
    """Whether a backbone of a kind takes samples of a kind; of kinds that nobody here knows it may."""
    return kind not in _EATEN or found not in KINDS or found in _EATEN[kind]


def expect_kind(found: str | None, kind: str | None, where: str) -> None:
    """Raise `DataError` where samples of one kind are for a backbone of another.

    Args:
        found: of the samples.
        kind: of the backbone; None, or one that nobody here knows = anything goes.
        where: what holds the samples, for the message.
    """
    if not eats(kind, found):
        raise DataError(
            f"{where} holds {KINDS[str(found)]}, but the backbone takes {KINDS[str(kind)]}",
            hint=f"Choose a backbone for them: zoo list --input {found}.",
        )


@dataclass(frozen=True, eq=False)
class Split:
    """Some rows of some samples, with their targets.

    Attributes:
        name: "train", "val", "test", or what `choose` made of them.
        samples: where raw samples come from.
        rows: int64 (N,), rows of `samples`.
        targets: encoded targets of these rows (see `zoo.data.task.infer_task`), or None.
        task: what the targets mean, or None.
        groups: int64 (N,): rows of one number belong together (a speaker, a patient), and are never divided; or None.
        group_names: what the column says for each number: groups of two data sets are the same where their names are.
    """

    name: str
    samples: Samples
    rows: np.ndarray
    targets: np.ndarray | None = None
    task: Task | None = None
    groups: np.ndarray | None = None
    group_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def raw(self, index: int, shorter: int | None = None) -> Any:
        """The raw sample at a position of this split; see `Samples.raw`."""
        return self.samples.raw(int(self.rows[index]), shorter)

    def digest(self, index: int) -> str:
        """sha256 of the raw sample, in hex: of a file's bytes, or of an array's type, shape and bytes."""
        return self.samples.digest(int(self.rows[index]))

    def digests(self) -> list[str]:
        """`digest` of every sample, in order."""
        return [self.samples.digest(int(row)) for row in self.rows]

    def location(self, index: int) -> str:
        """A file's path or a row's number, for messages."""
        return self.samples.location(int(self.rows[index]))

    def named(self, index: int) -> str | None:
        """What people find the sample by; see `Samples.named`."""
        return self.samples.named(int(self.rows[index]))

    @property
    def paths(self) -> list[Path | None]:
        """Each sample's file, or None where it has none."""
        return [self.samples.path(int(row)) for row in self.rows]

    def groups_named(self) -> set[str]:
        """Names of the groups that these rows are of; empty without groups."""
        return set() if self.groups is None else {self.group_names[code] for code in np.unique(self.groups)}

    def subset(self, indices: Sequence[int] | np.ndarray) -> Split:
        """The samples at these positions, in this order."""
        chosen = np.asarray(indices, dtype=np.int64)
        targets, groups = (None if part is None else part[chosen] for part in (self.targets, self.groups))
        return replace(self, rows=self.rows[chosen], targets=targets, groups=groups)

    def renamed(self, name: str) -> Split:
        """The same samples under another name."""
        return replace(self, name=name)

    def unlabelled(self) -> Split:
        """The same samples without their targets."""
        return replace(self, targets=None, task=None)


@dataclass(frozen=True)
class Unreadable:
    """A file that could not be read, and why."""

    location: str
    reason: str


@dataclass(frozen=True, eq=False)
class Data:
    """An opened data set.

    Attributes:
        name: short, for people and folder names.
        task: what the targets mean; None where there are no targets.
        splits: by name. Data without splits have one, "train".
        path: the folder or manifest it was read from, absolute, or None.
        source: what to give `open_data` to get it again (a path or a built-in name), or None.
        divided: whether the source itself named its splits.
        notes: what a person should know: samples left out, one file under two labels.
        skipped: unreadable files left out on demand.
    """

    name: str
    task: Task | None
    splits: Mapping[str, Split]
    path: Path | None = None
    source: str | None = None
    divided: bool = False
    notes: tuple[str, ...] = ()
    skipped: tuple[Unreadable, ...] = ()
    _fingerprint: list[str] = field(default_factory=list, repr=False)

    def __len__(self) -> int:
        return sum(len(split) for split in self.splits.values())

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in the order of the head's outputs; empty without targets."""
        return self.task.classes if self.task else ()

    @property
    def train(self) -> Split:
        """What may be fitted.

        Raises:
            DataError: there is no such split.
        """
        if TRAIN not in self.splits:
            raise DataError(
                f"{self.name} has no split named train",
                why=f"It has: {', '.join(self.splits)}.",
                hint="Add a train split, or use this data for evaluation only.",
            )
        return self.splits[TRAIN]

    @property
    def held_out(self) -> Split:
        """What an evaluation uses: test, else val; data without splits whole, under the name "all"."""
        for name in (TEST, VAL):
            if name in self.splits:
                return self.splits[name]
        whole = next(iter(self.splits.values()))
        return whole if self.divided else whole.renamed("all")

    def fingerprint(self) -> str:
        """sha256 over the classes and the ordered (split, digest, target) rows: the data's identity."""
        if not self._fingerprint:
            from zoo.data.fingerprint import of_splits

            self._fingerprint.append(of_splits(self.splits, self.task))
        return self._fingerprint[0]

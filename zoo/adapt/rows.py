"""The rows of one fit: what is learned from, what is reported on, and which have no label."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from torch import Tensor

from zoo.adapt.strategy import UNLABELLED
from zoo.data import loading
from zoo.data.augment import Policy, augmented
from zoo.data.dataset import TEST, TRAIN, VAL, Data, Split
from zoo.data.join import join
from zoo.data.open import has_column, label_in, open_data
from zoo.data.preprocess import Reader
from zoo.data.split import Chosen, choose, divide
from zoo.data.task import CLASSES, REGRESSION, Task
from zoo.errors import DataError, NotFoundError, UsageError

SPLITS: Final = (TRAIN, VAL, TEST)


@dataclass(frozen=True)
class Rows:
    """What one fit sees.

    Attributes:
        data: the training data set, as opened.
        task: kind and classes.
        train: labelled rows.
        all: `train`, then the unlabelled rows (their targets are `UNLABELLED` or NaN).
        report: rows that nothing was chosen on.
        report_name: "val" or "test".
        notes: sentences the user should read.
        inner: labelled rows that choices are made on (see `hold_out`), and that are not learned from.
        own_numbers: whether the data have no labels; targets are zeros until `with_own_numbers` gives each row its own.
    """

    data: Data
    task: Task
    train: Split
    all: Split
    report: Split
    report_name: str
    notes: tuple[str, ...] = ()
    inner: Split | None = None
    own_numbers: bool = False

    @property
    def unlabelled(self) -> Split:
        """The rows without a label."""
        return self.all.subset(range(len(self.train), len(self.all)))

    def hold_out(self, seed: int) -> Rows:
        """The same, with a stratified fifth of the labelled rows as the inner split."""
        kept, held = divide(self.train, seed)
        rest = range(len(self.train), len(self.all))
        return replace(
            self,
            train=self.train.subset(kept),
            all=self.all.subset([*kept.tolist(), *rest]),
            inner=self.train.subset(held).renamed("inner"),
        )

    def with_own_numbers(self, read: Reader) -> Rows:
        """The same; data without labels with the numbers that each row becomes as its targets.

        Raises:
            UsageError: a sample becomes something else than a row of numbers.
        """
        if not self.own_numbers:
            return self
        train, report = _numbers_of(self.train, read), _numbers_of(self.report, read)
        names = getattr(read, "names", None) or tuple(map(str, range(train.shape[1])))
        task = Task(REGRESSION, tuple(names))
        none = _no_labels(task, len(self.all) - len(self.train))
        return replace(
            self,
            task=task,
            train=replace(self.train, targets=train, task=task),
            all=replace(self.all, targets=np.concatenate([train, none]), task=task),
            report=replace(self.report, targets=report, task=task),
        )

    def steps(self, batch_size: int) -> int:
        """Batches of one epoch."""
        return math.ceil(len(self.all) / batch_size)

    def epochs(
        self,
        read: Reader,
        batch_size: int,
        seed: int,
        policy: Policy | None = None,
        kept: Split | None = None,
        view: Callable[[int], int] = int,
    ) -> Callable[[int], Iterable[loading.Batch]]:
        """Epoch -> its batches, in an order that is a pure function of seed and epoch.

        Samples that fit into memory are read once, now; with a `policy` they are read, and changed by it, in each
        epoch, as `view` of the epoch says. `kept` stands in their place where it is given.
        """
        if policy is not None:
            return lambda epoch: loading.batches(
                augmented(self.all, policy, seed, view(epoch)), read, batch_size, shuffle_seed=(seed << 20) + epoch
            )
        held = kept or loading.hold(self.all, read)
        return lambda epoch: loading.batches(held, read, batch_size, shuffle_seed=(seed << 20) + epoch)

    def describe(self) -> dict[str, Any]:
        """What `run.json` keeps: where the data was, its kind and fingerprint, and how many rows each part had."""
        return {
            "name": self.data.name,
            "path": str(self.data.path) if self.data.path else None,
            "kind": self.train.samples.kind,
            "fingerprint": self.data.fingerprint(),
            "rows": {
                "train": len(self.train),
                "unlabelled": len(self.all) - len(self.train),
                self.report_name: len(self.report),
                **({"inner": len(self.inner)} if self.inner else {}),
            },
            "split_ids": {"train": split_id(self.train), self.report_name: split_id(self.report)},
        }


def split_id(split: Split) -> str:
    """sha256 over the ordered digests of the samples: two splits are the same rows if and only if their ids are."""
    return hashlib.sha256("".join(split.digests()).encode()).hexdigest()


def gather(
    train: Any,
    val: Any,
    target: Any,
    *,
    needs: frozenset[str],
    labels_per_class: int | None,
    ignore_target_labels: bool,
    skip_bad: bool,
    seed: int,
    kind: str | None = None,
    label: str | None = None,
    group_by: str | None = None,
    self_supervised: bool = False,
) -> Rows:
    """Open the data, set the reported split aside, then the labels, then add the unlabelled rows.

    Args:
        self_supervised: data without labels will do.

    Raises:
        DataError: the data cannot be learned from.
        UsageError: a target that the strategy cannot use, lacks, or that has labels.
    """
    if target is not None and not needs & {"target", "unlabelled"}:
        raise UsageError("this strategy has no use for unlabelled target data", hint="Leave `target` out.")
    if target is None and "target" in needs:
        raise UsageError(
            "this strategy needs unlabelled target data", hint="Give it: fit(train, target=...), or --target DATA."
        )
    data = _opened(train, kind, label, skip_bad, group_by, self_supervised)
    own_numbers = data.task is None and self_supervised
    notes = [*data.notes]
    if val is not None and not (isinstance(val, str) and (val in data.splits or val in SPLITS)):
        val = _reported(val, data, skip_bad, kind, label, group_by)
        notes += val.notes
    if own_numbers:
        notes.append("there are no labels: the figures say how well the numbers of a row can be read off its features")
    chosen = choose(
        _placeholders(data) if own_numbers else data,
        _placeholders(val) if own_numbers and isinstance(val, Data) else val,
        labels_per_class=labels_per_class,
        seed=seed,
    )
    notes += _overlap(chosen, given=isinstance(val, Data))
    if group_by is not None:
        notes += _groups_apart(chosen, group_by)
    everything, task = chosen.train, chosen.train.task
    assert task is not None
    if target is not None:
        rest = isinstance(target, str) and target == "rest"
        unlabelled = chosen.rest
        if not rest:
            column = group_by if group_by is not None and has_column(target, group_by) else None
            given = _unlabelled(target, ignore_target_labels, skip_bad, kind, label, column)
            unlabelled, said = _new_to(chosen, given)
            notes += said
            if group_by is not None:
                notes += _target_apart(chosen, unlabelled, group_by)
        if not len(unlabelled) and rest:
            raise UsageError("there are no rows without labels", hint="target='rest' goes with labels_per_class.")
        if not len(unlabelled):
            raise UsageError(
                "all target rows are also in train, val or test, and none is left to adapt to",
                why="The rows that a run is judged by stay unseen, without their labels too.",
                hint="Give other rows of that domain as target, or report on other ones.",
            )
        if "target" in needs and not isinstance(val, Data):
            notes.append(
                f"the {len(chosen.report)} reported rows come from the labelled data, not from the target: labelled "
                "rows of the target's domain (val=, --val, or evaluate) say how well the target is predicted"
            )
        everything = join(chosen.train, unlabelled, _no_labels(task, len(unlabelled)))
    return Rows(
        data,
        task,
        chosen.train,
        everything,
        chosen.report,
        chosen.report_name,
        tuple(notes),
        own_numbers=own_numbers,
    )


def _opened(
    train: Any, kind: str | None, label: str | None, skip_bad: bool, group_by: str | None, self_supervised: bool
) -> Data:
    try:
        return open_data(train, kind=kind, label=label, skip_bad=skip_bad, group_by=group_by)
    except (DataError, UsageError):
        if not self_supervised or label is not None:
            raise
        found = open_data(train, kind=kind, skip_bad=skip_bad, group_by=group_by, labelled=False)
        if found.task is not None:  # labels were not what was wrong
            raise
        return found


def _placeholders(data: Data) -> Data:
    """Data without labels that can be divided: every target is 0."""
    task = Task(REGRESSION, ("row",))
    splits = {
        name: replace(split, targets=np.zeros((len(split), 1), dtype=np.float32), task=task)
        for name, split in data.splits.items()
    }
    return replace(data, splits=splits, task=task)


def _numbers_of(split: Split, read: Reader) -> np.ndarray:
    """(N, D) float32: what each row becomes."""
    parts = [batch.x for batch in loading.batches(split, read, 512)]
    if not all(isinstance(part, Tensor) and part.ndim == 2 and part.is_floating_point() for part in parts):
        raise UsageError(
            "without labels only rows of numbers can be learned from", hint="Give labels, or rows of a table."
        )
    return np.concatenate([np.asarray(part) for part in parts])


def _reported(val: Any, data: Data, skip_bad: bool, kind: str | None, label: str | None, group_by: str | None) -> Data:
    if group_by is not None and not has_column(val, group_by):
        group_by = None
    try:
        return open_data(
            val,
            kind=kind,
            label=label_in(val, label),
            labelled=data.task is not None,
            task_classes=data.task,
            skip_bad=skip_bad,
            group_by=group_by,
        )
    except NotFoundError as error:
        error.add_note(f"It was asked for as the reported split; {data.name} has: {', '.join(data.splits)}.")
        raise


def _unlabelled(
    target: Any, ignore_labels: bool, skip_bad: bool, kind: str | None, label: str | None, group_by: str | None
) -> Split:
    """The training rows of a target, without labels; a target that has some is accepted only when told so."""
    label = label_in(target, label)
    data = open_data(target, kind=kind, label=label, skip_bad=skip_bad, labelled=False, group_by=group_by)
    if isinstance(target, (str, os.PathLike)):
        with contextlib.suppress(DataError):  # a folder of loose pictures is no labelled one
            data = open_data(target, kind=kind, label=label, skip_bad=skip_bad, group_by=group_by)
    if data.task is not None and not ignore_labels:
        raise UsageError(
            "the target data has labels, and a target must have none",
            hint="Give samples only, or say ignore_target_labels=True (--ignore-target-labels).",
        )
    name = TRAIN if TRAIN in data.splits else next(iter(data.splits))
    return data.splits[name].unlabelled()


def _new_to(chosen: Chosen, unlabelled: Split) -> tuple[Split, list[str]]:
    """The rows that no part of this run holds: what is reported must stay unseen, and train is there already."""
    parts = [part for part in (chosen.train, chosen.report, chosen.test) if part is not None]
    seen = {digest for part in parts for digest in part.digests()}
    new = [i for i, digest in enumerate(unlabelled.digests()) if digest not in seen]
    left = len(unlabelled) - len(new)
    said = [f"{left} of {len(unlabelled)} target rows are also in train, val or test, and are left out"] if left else []
    return unlabelled.subset(new), said


def _overlap(chosen: Chosen, *, given: bool) -> list[str]:
    """A warning where reported rows are learned from too.

    Raises:
        DataError: all of them are, in data that were given to report on.
    """
    learned = set(chosen.train.digests())
    both = sum(digest in learned for digest in chosen.report.digests())
    if given and both and both == len(chosen.report):
        raise DataError(
            f"all {both} reported rows are also learned from, so the report would mean nothing",
            hint="Report on other rows: leave val out, or give data that train does not hold.",
        )
    if not both:
        return []
    return [f"{both} of {len(chosen.report)} reported rows are also learned from: the reported figure is too good"]


def _groups_apart(chosen: Chosen, column: str) -> list[str]:
    """A warning where the groups of the reported rows are not known.

    Raises:
        DataError: a group has rows in train and among those reported.
    """
    if chosen.report.groups is None:
        return [
            f"nothing proves that the reported rows are of other groups than those learned from: they have no column "
            f"{column!r}"
        ]
    reported = chosen.report.groups_named()
    if both := sorted((chosen.train.groups_named() | chosen.rest.groups_named()) & reported):
        raise DataError(
            f"{len(both)} of {len(reported)} reported groups are also learned from: {', '.join(map(repr, both[:5]))}",
            why="Rows of one group must not be learned from and judged by.",
            hint="Report on rows of other groups, or leave --group-by out.",
        )
    return []


def _target_apart(chosen: Chosen, unlabelled: Split, column: str) -> list[str]:
    """A warning where the groups of the target rows are not known.

    Raises:
        DataError: a group has rows in the target and among those reported.
    """
    reported = chosen.report.groups_named()
    if unlabelled.groups is None or not reported:
        return [f"nothing proves that the target rows are of other groups than those reported: no column {column!r}"]
    if both := sorted(unlabelled.groups_named() & reported):
        raise DataError(
            f"{len(both)} of {len(reported)} reported groups are also in the target: {', '.join(map(repr, both[:5]))}",
            why="What is reported on a group that was adapted to says nothing of other groups.",
            hint="Leave their rows out of the target, report on rows of other groups, or leave --group-by out.",
        )
    return []


def _no_labels(task: Task, n: int) -> np.ndarray:
    if task.kind == CLASSES:
        return np.full(n, UNLABELLED, dtype=np.int64)
    return np.full((n, task.outputs), np.nan, dtype=np.float32)

"""Samples, labels and split names into `Data`: the checks that every source shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from zoo.catalog.tables import counted
from zoo.data.dataset import TEST, TRAIN, VAL, Data, Samples, Split, Unreadable
from zoo.data.files import refuse_unreadable
from zoo.data.task import CLASSES, Task, encode, infer_task, multi_hot
from zoo.errors import DataError

#: Other words for the three splits.
SPLIT_NAMES: Final = {
    "train": TRAIN, "training": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "dev": VAL, "test": TEST,
    "testing": TEST,
}  # fmt: skip
_ORDER: Final = (TRAIN, VAL, TEST)


@dataclass(frozen=True)
class Known:
    """What is known of the targets before they are read.

    Attributes:
        task: the task of a fitted learner; its kind and classes must be met.
        classes: names alone, e.g. of a Hugging Face `ClassLabel`.
    """

    task: Task | None = None
    classes: tuple[str, ...] | None = None

    @property
    def names(self) -> tuple[str, ...] | None:
        """The class names known, if any."""
        return self.task.classes if self.task else self.classes


@dataclass(frozen=True, eq=False)
class Rows:
    """What a source read, before any check.

    Attributes:
        name: of the data set.
        samples: all samples; encoded ones are verified here.
        labels: one a sample (see `infer_task`; a list of lists of names is multi-label), or None.
        splits: a split name for each sample, or None.
        classes: names in the order of the outputs, where the source itself says so.
        path: of the folder or manifest.
        source: what to open again.
        notes: so far.
        groups: what each sample belongs to (a speaker, a patient), or None.
    """

    name: str
    samples: Samples
    labels: Any = None
    splits: Sequence[str] | None = None
    classes: tuple[str, ...] | None = None
    path: Path | None = None
    source: str | None = None
    notes: tuple[str, ...] = ()
    groups: Sequence[Any] | None = None


def assemble(rows: Rows, known: Known, *, skip_bad: bool = False, labelled: bool = True) -> Data:
    """Check the rows and make `Data` of them.

    Args:
        rows: what a source read.
        known: of the targets.
        skip_bad: leave unreadable samples out, with a note.
        labelled: whether the rows are to be learned from, so that their classes must be several and in train, and
            their groups several and whole.

    Raises:
        DataError: no samples, unreadable files, labels that do not fit, only one class, or a class that only val or
            test has.
    """
    if len(rows.samples) == 0:
        raise DataError(f"{rows.name} is empty: it has no samples", hint="Give at least two samples of each class.")
    if rows.labels is not None and len(rows.labels) != len(rows.samples):
        raise DataError(
            f"{len(rows.samples)} samples, but {len(rows.labels)} labels",
            hint="Give one label for each sample, in the same order.",
        )
    task, targets = _targets(rows, known)
    groups, group_names = _groups(rows, fitted=known.task is not None or not labelled)
    kept, skipped = _readable(rows.samples, skip_bad)
    names = None if rows.splits is None else np.asarray(rows.splits)
    splits = {}
    for name in (TRAIN,) if names is None else [n for n in _ORDER if n in set(rows.splits or ())]:
        chosen = kept if names is None else kept[names[kept] == name]
        if not len(chosen):
            raise DataError(f"no sample of split {name} can be read", hint="Mend or remove the unreadable files.")
        parts = (None if part is None else part[chosen] for part in (targets, groups))
        encoded, belonging = parts
        splits[name] = Split(name, rows.samples, chosen, encoded, task, belonging, group_names)
    if task is not None and targets is not None:
        _refuse_lost(task, targets, kept)
        if labelled and known.task is None:
            _check_classes(rows.name, task, splits)
    notes = (*rows.notes, *_skip_note(skipped, rows.samples.nouns), *_conflicts(rows.samples, splits, targets, task))
    return Data(
        rows.name,
        task,
        splits,
        path=rows.path,
        source=rows.source,
        divided=names is not None,
        notes=notes,
        skipped=tuple(skipped),
    )


def _groups(rows: Rows, *, fitted: bool) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Number of each sample's group, and the groups' names.

    Raises:
        DataError: a sample without a group; or, where a task is yet to be learned from the data, a group that two
            splits of the source share, or fewer than two groups.
    """
    if rows.groups is None:
        return None, ()
    if len(rows.groups) != len(rows.samples):
        raise DataError(f"{len(rows.samples)} samples, but {len(rows.groups)} groups", hint="Give one for each sample.")
    names = [str(group) for group in rows.groups]
    if "" in names or None in list(rows.groups):
        where = names.index("") if "" in names else list(rows.groups).index(None)
        raise DataError(f"{rows.samples.location(where)} belongs to no group", hint="Fill the column, or leave it out.")
    known, codes = np.unique(np.asarray(names), return_inverse=True)
    if len(known) < 2 and not fitted:
        raise DataError(f"all samples belong to one group, {names[0]!r}", hint="Leave --group-by out.")
    if rows.splits is not None and not fitted:
        inside: dict[str, str] = {}
        for name, split in zip(names, rows.splits, strict=True):
            if inside.setdefault(name, split) != split:
                raise DataError(
                    f"group {name!r} is in {inside[name]} and in {split}",
                    why="Rows of one group must not be learned from and judged by.",
                    hint="Drop the split column: groups are then divided whole; or leave --group-by out.",
                )
    return codes.astype(np.int64), tuple(known.tolist())


def _targets(rows: Rows, known: Known) -> tuple[Task | None, np.ndarray | None]:
    if rows.labels is None:
        return None, None
    classes = known.classes or rows.classes
    if _are_label_sets(rows.labels):
        task, targets = multi_hot(rows.labels, known.names or classes)
        if known.task and known.task.kind != task.kind:
            raise DataError(f"the targets are {task.kind}, but {known.task.kind} is what was learned")
        return task, targets
    if known.task is not None:
        labels = rows.labels
        if rows.classes and np.asarray(labels).dtype.kind in "iu":
            # Indices into the source's own names mean something else in the learner's order.
            _, codes = infer_task(labels, rows.classes)
            labels = np.asarray(rows.classes)[codes]
        return known.task, encode(labels, known.task)
    return infer_task(rows.labels, classes)


def retarget(data: Data, known: Known) -> Data:
    """Open data again for a known task: the same samples, targets in that task's own order of classes.

    Raises:
        DataError: a label, or a kind of target, that the task does not know.
    """
    if known.task is None or data.task is None or data.task == known.task:
        return data
    splits = {}
    for name, split in data.splits.items():
        targets = split.targets
        if targets is not None:
            labels = np.asarray(data.task.classes)[targets] if data.task.kind == CLASSES else targets
            targets = encode(labels, known.task)
        splits[name] = replace(split, targets=targets, task=known.task)
    return replace(data, task=known.task, splits=splits, _fingerprint=[])


def _are_label_sets(labels: Any) -> bool:
    if not isinstance(labels, list) or not all(isinstance(one, (list, tuple)) for one in labels):
        return False
    names = [name for one in labels for name in one]
    return bool(names) and all(isinstance(name, str) for name in names)


def _readable(samples: Samples, skip_bad: bool) -> tuple[np.ndarray, list[Unreadable]]:
    """The rows that can be read, and what cannot."""
    bad = samples.verify()
    skipped = [unreadable for _, unreadable in bad]
    if not skip_bad or len(bad) == len(samples):
        refuse_unreadable(skipped, len(samples), samples.nouns)
    return np.setdiff1d(np.arange(len(samples)), [row for row, _ in bad]).astype(np.int64), skipped


def _refuse_lost(task: Task, targets: np.ndarray, kept: np.ndarray) -> None:
    if task.kind != CLASSES:
        return
    lost = np.setdiff1d(targets, targets[kept])
    if len(lost):
        names = ", ".join(repr(task.classes[code]) for code in lost[:5])
        raise DataError(f"class {names} has no sample that can be read", hint="Mend its files, or remove the class.")


def _check_classes(name: str, task: Task, splits: dict[str, Split]) -> None:
    if task.kind != CLASSES:
        return
    present = {split: set(part.targets.tolist()) for split, part in splits.items() if part.targets is not None}
    if TRAIN in present:
        for split, seen in present.items():
            missing = [task.classes[code] for code in sorted(seen - present[TRAIN])]
            if missing:
                raise DataError(
                    f"{name}: class {', '.join(map(repr, missing[:5]))} is in {split}, but train has no sample of it",
                    hint=f"Add samples of it to train, or take it out of {split}.",
                )
    everywhere = set().union(*present.values())
    if len(everywhere) < 2:
        only = task.classes[next(iter(everywhere))]
        raise DataError(f"{name} has only one class, {only!r}", hint="Learning needs samples of at least two classes.")


def _skip_note(skipped: list[Unreadable], nouns: str) -> list[str]:
    if not skipped:
        return []
    listed = ", ".join(Path(one.location).name for one in skipped[:10])
    return [f"{len(skipped)} unreadable {nouns} left out: {listed}{', ...' if len(skipped) > 10 else ''}"]


def _conflicts(samples: Samples, splits: dict[str, Split], targets: np.ndarray | None, task: Task | None) -> list[str]:
    """A note where the same content stands under different labels."""
    if samples.named(0) is None or targets is None or task is None or task.kind != CLASSES:
        return []
    first: dict[str, int] = {}
    found = []
    for row in (int(row) for split in splits.values() for row in split.rows):
        other = first.setdefault(samples.digest(row), row)
        if targets[other] != targets[row]:
            labels = [task.classes[targets[other]], task.classes[targets[row]]]
            found.append(f"{samples.location(other)} ({labels[0]}) and {samples.location(row)} ({labels[1]})")
    if not found:
        return []
    noun, nouns = ("file", "files") if samples.path(0) else (samples.noun, samples.nouns)
    has = counted(len(found), f"{noun} has", f"{nouns} have")
    return [f"{has} the content of one with another label: {'; '.join(found[:3])}"]

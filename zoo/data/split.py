"""Which rows are fitted, which are reported, which are left: seeded and stratified."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Final

import numpy as np

from zoo.data.dataset import TEST, TRAIN, VAL, Data, Split
from zoo.data.task import CLASSES, Task
from zoo.errors import DataError, UsageError

#: Share of train that is reported where the data bring no val.
HELD_OUT: Final = 0.2


@dataclass(frozen=True, eq=False)
class Chosen:
    """The parts of one run; no row is in two of them.

    Attributes:
        train: what is fitted, labels and all.
        report: what the run's metrics are measured on; it chooses nothing.
        report_name: "val" (also where it was set aside from train) or "test".
        rest: rows of train that `labels_per_class` set aside: unlabelled use only.
        test: left for `evaluate`; None where there is none, or where it is reported.
    """

    train: Split
    report: Split
    report_name: str
    rest: Split
    test: Split | None


def choose(
    data: Data,
    val: str | Data | Split | None = None,
    *,
    labels_per_class: int | None = None,
    seed: int = 0,
) -> Chosen:
    """Divide data for one run.

    Args:
        data: with a train split.
        val: the split to report on: None = val, else a stratified 20 % of train; "test" = report on test and fit all
            of train; a split's name; or data of their own, of which the held-out split is used.
        labels_per_class: keep so many labelled rows of each class, after the reported split was set aside.
        seed: of every random choice.

    Raises:
        DataError: no train split, no targets, or a class with fewer than `labels_per_class` rows.
        UsageError: no such split, or train itself.
    """
    train = data.train
    if train.targets is None or train.task is None:
        raise DataError(f"{data.name} has no targets to learn from", hint="Give (X, y), class folders or a manifest.")
    if isinstance(val, (Data, Split)):
        report = val.held_out if isinstance(val, Data) else val
        if report.targets is None:
            raise DataError("the validation data have no targets", hint="Give labelled data, or leave val out.")
        name = report.name if report.name in (VAL, TEST) else VAL
    elif val is None and VAL not in data.splits:
        kept, held = divide(train, seed)
        report, train, name = train.subset(held).renamed(VAL), train.subset(kept), VAL
    else:
        name = _split_name(data, val or VAL)
        report = data.splits[name]
    rest = train.subset([]).renamed("rest")
    if labels_per_class is not None:
        train, rest = _few(train, labels_per_class, seed)
    test = data.splits.get(TEST)
    return Chosen(train, report, name, rest, None if name == TEST and test is report else test)


def divide(split: Split, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Kept and held positions of a labelled split, `HELD_OUT` of it held: stratified, or, with groups, whole groups.

    Groups are dealt out by scikit-learn's `StratifiedGroupKFold` (classes) or `GroupKFold`, of as many folds as there
    are groups, at most five.

    Raises:
        DataError: fewer than two rows, or groups that cannot be divided so that every class is learned from.
    """
    assert split.targets is not None
    if split.groups is None:
        return stratified(split.targets, HELD_OUT, seed)
    assert split.task is not None
    fold = grouped_folds(split.targets, split.groups, split.task, round(1 / HELD_OUT), seed)
    return np.flatnonzero(fold != 0), np.flatnonzero(fold == 0)


def grouped_folds(targets: np.ndarray, groups: np.ndarray, task: Task, folds: int, seed: int) -> np.ndarray:
    """Fold (N,) of each row, whole groups together.

    Raises:
        DataError: fewer than two groups, or a class that only one fold has.
    """
    if len(np.unique(groups)) < 2:
        raise DataError("all of these rows belong to one group", hint="Give rows of more groups.")
    classes = task.kind == CLASSES
    found = deal_groups(targets if classes else None, groups, folds, seed)
    for code in np.unique(targets) if classes else ():
        if len(np.unique(found[targets == code])) < 2:
            raise DataError(
                f"the groups of class {task.classes[code]!r} are not divided, so that it could be learned and judged",
                hint="Give rows of it from more groups, try another seed, or leave --group-by out.",
            )
    return found


def deal_groups(codes: np.ndarray | None, groups: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Fold (N,) of each row, whole groups together, by scikit-learn's `StratifiedGroupKFold` or `GroupKFold`.

    Args:
        codes: (N,) class indices, dealt out as evenly as groups allow; None = only numbers of rows count.
        groups: (N,) rows of one number are in one fold.
        folds: at most; there are no more than groups, nor than rows of the largest class. One = all rows in fold 0.
        seed: of the order of groups.
    """
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    count = min(folds, len(np.unique(groups)), len(groups) if codes is None else int(np.bincount(codes).max()))
    found = np.zeros(len(groups), dtype=np.int64)
    if count < 2:
        return found
    dealer = (GroupKFold if codes is None else StratifiedGroupKFold)(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes smaller than the number of folds
        for number, (_, held) in enumerate(dealer.split(np.zeros(len(groups)), codes, groups)):
            found[held] = number
    return found


def stratified(targets: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide rows in two, classes in proportion.

    The held part has `round(fraction * N)` rows. Each class gives its share, rounded by largest remainders, and every
    class of two rows or more is on both sides wherever those sizes allow it. Targets that are not class indices are
    divided at random.

    Args:
        targets: (N,) class indices, or anything else of length N.
        fraction: of the rows held, between 0 and 1.
        seed: the same seed gives the same rows on every version of NumPy (`RandomState` is frozen).

    Returns:
        Kept and held row indices, both int64 and sorted.

    Raises:
        DataError: fewer than two rows, so that one side would be empty.
        UsageError: a fraction outside (0, 1).
    """
    if not 0 < fraction < 1:
        raise UsageError(f"a fraction of {fraction} cannot be held out", hint="Give a number between 0 and 1.")
    if len(targets) < 2:
        raise DataError(f"{len(targets)} samples cannot be divided in two", hint="Give more data.")
    random = np.random.RandomState(seed)
    total = min(max(1, round(fraction * len(targets))), len(targets) - 1)
    codes = targets if _are_classes(targets) else np.zeros(len(targets), dtype=np.int64)
    classes, counts = np.unique(codes, return_counts=True)
    quota = _quotas(counts, total, random)
    held = [
        random.permutation(np.flatnonzero(codes == one))[:number] for one, number in zip(classes, quota, strict=True)
    ]
    mask = np.zeros(len(targets), dtype=bool)
    mask[np.concatenate(held)] = True
    return np.flatnonzero(~mask), np.flatnonzero(mask)


def _quotas(counts: np.ndarray, total: int, random: np.random.RandomState) -> np.ndarray:
    """How many rows each class gives: shares by largest remainder, then pulled inside [1, count - 1]."""
    share = counts * (total / counts.sum())
    quota = np.floor(share).astype(np.int64)
    # Equal remainders are common (balanced classes); chance, not class order, decides among them.
    order = np.lexsort((random.permutation(len(counts)), -(share - quota)))
    quota[order[: total - quota.sum()]] += 1
    low, high = np.minimum(1, counts - 1), np.where(counts > 1, counts - 1, counts)
    bounded = np.clip(quota, low, high)
    while (surplus := int(bounded.sum()) - total) != 0:
        room = bounded - low if surplus > 0 else high - bounded
        if not room.any():
            break
        gap = (bounded - share) * np.sign(surplus)
        bounded[np.argmax(np.where(room > 0, gap, -np.inf))] -= np.sign(surplus)
    return bounded


def _few(train: Split, labels_per_class: int, seed: int) -> tuple[Split, Split]:
    if train.task is None or train.targets is None or train.task.kind != CLASSES:
        raise UsageError("labels per class need classes", hint="Leave labels_per_class out for this kind of target.")
    if labels_per_class < 1:
        raise UsageError(f"labels_per_class is {labels_per_class}", hint="Give at least 1.")
    counts = np.bincount(train.targets, minlength=train.task.outputs)
    short = [(train.task.classes[code], int(count)) for code, count in enumerate(counts) if count < labels_per_class]
    if short:
        listed = ", ".join(f"{name!r} has {count}" for name, count in short[:5])
        raise DataError(
            f"{labels_per_class} labels a class are asked for, but class {listed} to fit",
            hint=f"Ask for at most {int(counts.min())}, or add samples." if counts.min() else "Add samples.",
        )
    random = np.random.RandomState(seed)
    codes = range(train.task.outputs)
    kept = np.concatenate([random.permutation(np.flatnonzero(train.targets == c))[:labels_per_class] for c in codes])
    rest = np.setdiff1d(np.arange(len(train)), kept)
    return train.subset(np.sort(kept)), train.subset(rest).renamed("rest")


def _split_name(data: Data, name: str) -> str:
    if name == TRAIN:
        raise UsageError("train is fitted, so it cannot be what is reported", hint="Leave val out: 20 % are set aside.")
    if name not in data.splits:
        raise UsageError(
            f"{data.name} has no split {name!r}",
            why=f"It has: {', '.join(data.splits)}.",
            hint="Leave val out: 20 % of train are set aside.",
        )
    return name


def _are_classes(targets: np.ndarray) -> bool:
    return targets.ndim == 1 and targets.dtype.kind in "iub"

"""Candidates tried on the same rows: folds, rounds, and paired tests."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
from torch import Tensor

from zoo.adapt import clusters
from zoo.adapt.folds import stratified_folds
from zoo.adapt.solve import solve_head
from zoo.catalog.tables import counted
from zoo.data.split import grouped_folds
from zoo.data.task import CLASSES, MULTI_LABEL, Task
from zoo.errors import DataError

#: Fewest rows of a round of successive halving.
FIRST: Final = 500
#: Most rows that candidates are tried on: an accuracy is then sure to 0.35 %, and no candidate needs a pass over all.
MOST: Final = 20_000


def fold_of_rows(
    targets: np.ndarray,
    task: Task,
    folds: int,
    seed: int,
    groups: np.ndarray | None = None,
    first: np.ndarray | None = None,
) -> np.ndarray:
    """Fold (N,) of each row, -1 = never held out; classes are dealt out evenly, groups whole.

    Args:
        targets: (N,), or (N, C) of several numbers.
        task: what they mean.
        folds: at least 2.
        seed: of the order in which rows are dealt.
        groups: (N,) rows of one number are in one fold.
        first: (N,) of `first_alike`: copies are in the fold of the first of them. Not looked at where there are groups.

    Raises:
        DataError: fewer different rows than folds, or no class with two.
    """
    codes = targets if task.kind == CLASSES else np.zeros(len(targets), dtype=np.int64)
    if groups is not None:
        if len(codes) < folds:
            raise _too_few(len(codes), folds)
        return grouped_folds(targets, groups, task, folds, seed)
    once, place = np.unique(np.arange(len(codes)) if first is None else first, return_inverse=True)
    if len(once) < folds:
        raise _too_few(len(once), folds)
    found = stratified_folds(codes[once], folds, seed)[place]
    if (found < 0).all():
        raise DataError("every class has one row only", hint="Give two labelled rows a class, better ten or more.")
    return found


def _too_few(rows: int, folds: int) -> DataError:
    return DataError(f"{rows} different rows are too few for {folds} folds", hint="Give more rows, or fewer folds.")


def first_alike(digests: list[str]) -> np.ndarray:
    """Position (N,) of the first row that has the same digest."""
    seen: dict[str, int] = {}
    return np.array([seen.setdefault(digest, row) for row, digest in enumerate(digests)], dtype=np.int64)


def out_of_fold(
    features: Tensor, targets: np.ndarray, task: Task, fold: np.ndarray, seed: int, groups: np.ndarray | None = None
) -> Tensor:
    """Outputs (N, C) of each row by a linear probe that did not see it; NaN for rows that are never held out.

    `groups` (N,) are for the choice of each probe's regulariser.
    """
    outputs = torch.full((len(targets), task.outputs), math.nan, dtype=torch.float64)
    for number in range(int(fold.max()) + 1):
        held = fold == number
        if held.any():
            kept = None if groups is None else groups[~held]
            head = solve_head(features[~held], targets[~held], task, seed=seed, groups=kept)
            with torch.no_grad():
                outputs[held] = head(features[held].float()).double()
    return outputs


def row_errors(outputs: Tensor, targets: np.ndarray, task: Task) -> np.ndarray:
    """Error (N,) of each row: 0 or 1 (classes), share of wrong labels (multi-label), squared error (regression)."""
    if task.kind == CLASSES:
        return (outputs.argmax(dim=1).numpy() != targets).astype(np.float64)
    truth = np.asarray(targets, dtype=np.float64).reshape(len(outputs), -1)
    if task.kind == MULTI_LABEL:
        return ((outputs.numpy() > 0) != truth.astype(bool)).mean(axis=1)
    return ((outputs.numpy() - truth) ** 2).mean(axis=1)


def paired_p(one: np.ndarray, other: np.ndarray, groups: np.ndarray | None = None) -> float:
    """Two-sided p of equal errors on the same rows: McNemar's exact test for 0/1 errors, else the paired t test.

    Where rows have groups (N,), the signs of whole groups are flipped instead (`clusters.sign_flip_p`).
    """
    from scipy.stats import binomtest, ttest_rel

    difference = one - other
    if clusters.clustered(groups) is not None:
        return clusters.sign_flip_p(difference, groups)
    unequal = int(np.count_nonzero(difference))
    if not unequal:
        return 1.0
    if np.isin(difference, (-1.0, 0.0, 1.0)).all():
        return float(binomtest(int((difference > 0).sum()), unequal).pvalue)
    return float(ttest_rel(one, other).pvalue)


def too_few(groups: int | None, tests: int) -> str:
    """What is said where groups are too few for any test to find anything; empty where they are not."""
    if groups is None or groups >= (needed := clusters.fewest(tests)):
        return ""
    return (
        f"{counted(groups, 'group')} cannot show a difference beyond chance: the test flips whole groups, and with "
        f"{counted(tests, 'comparison')} it needs {needed} that agree"
    )


def holm(p_values: list[float]) -> list[float]:
    """Adjusted p-values (Holm 1979), in the order given."""
    order = np.argsort(p_values, kind="stable")
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def nested_order(targets: np.ndarray, task: Task, seed: int) -> np.ndarray:
    """Rows in an order whose every beginning has the classes in proportion, and has all where it is long enough."""
    generator = np.random.default_rng(seed)
    codes = targets if task.kind == CLASSES else np.zeros(len(targets), dtype=np.int64)
    place = np.empty(len(codes))
    for code in np.unique(codes):
        members = generator.permutation(np.flatnonzero(codes == code))
        place[members] = np.arange(len(members)) / len(members)
    return np.argsort(place, kind="stable")


def rounds(rows: int, candidates: int, halving: bool | None) -> list[int]:
    """Rows of each round: all at once, or successive halving (Jamieson and Talwalkar 2016), doubling up to all."""
    if halving is False or candidates < 3:
        return [rows]
    number = min(int(math.log2(candidates)), int(math.log2(rows / FIRST)) if rows > FIRST else 0)
    return [max(1, rows >> left) for left in range(number, -1, -1)]

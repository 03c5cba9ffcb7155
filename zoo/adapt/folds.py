"""Stratified folds of the training rows, for choices that the reported split must not make."""

from __future__ import annotations

import numpy as np

from zoo.data.split import deal_groups

#: The fold of a row that is never held out.
NEVER = -1


def stratified_folds(codes: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Fold (N,) of each row: 0 to folds - 1, each class dealt out evenly.

    A class's only row is in fold `NEVER`, so that every class is in the training part of every fold.

    Args:
        codes: (N,) class indices.
        folds: at least 2.
        seed: of the order in which rows are dealt.
    """
    generator = np.random.default_rng(seed)
    result = np.full(len(codes), NEVER)
    dealt = 0
    for code in np.unique(codes):
        members = generator.permutation(np.flatnonzero(codes == code))
        if len(members) > 1:
            result[members] = (dealt + np.arange(len(members))) % folds
            dealt += len(members)
    return result


def folds_of_groups(codes: np.ndarray | None, groups: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Fold (N,) of each row, whole groups together: 0, 1, ... as many as there are, `folds` at most.

    A group that has all rows of a class, or whose fold has, is in fold `NEVER`, so that every class is in the training
    part of every fold.

    Args:
        codes: (N,) class indices; None = there are no classes.
        groups: (N,) rows of one number are in one fold.
        folds: at least 2.
        seed: of the order of groups.
    """
    found = deal_groups(codes, groups, folds, seed)
    if len(np.unique(found)) < 2:
        return np.full(len(groups), NEVER)
    for code in () if codes is None else np.unique(codes):
        inside = codes == code
        if len(np.unique(found[inside])) < 2:
            found[np.isin(groups, groups[inside])] = NEVER
    found[found != NEVER] = np.unique(found[found != NEVER], return_inverse=True)[1]
    return found

"""Stratified folds of the training rows, for choices that the reported split must not make."""

from __future__ import annotations

import numpy as np

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

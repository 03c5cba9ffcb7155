"""Labels that look wrong: a probe that did not see the row and the row's neighbours both say another class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from zoo.choose.compare import fold_of_rows, out_of_fold
from zoo.choose.scores import neighbour_votes
from zoo.data.task import Task

#: At most this part of the rows is named: a list that nobody can look through helps nobody.
MOST: Final = 0.1
FOLDS: Final = 10


@dataclass(frozen=True)
class Suspect:
    """A row whose label may be wrong.

    Attributes:
        row: its number.
        suggested: the class that the probe thinks it is.
        p_label, p_suggested: out-of-fold probabilities of the given and the suggested class.
        neighbours: share of the neighbours' votes for the given class.
    """

    row: int
    suggested: int
    p_label: float
    p_suggested: float
    neighbours: float


def label_suspects(
    features: Tensor, codes: np.ndarray, task: Task, seed: int = 0, first: np.ndarray | None = None
) -> list[Suspect]:
    """The rows whose label neither an unseen probe nor their neighbours believe, the least believed first.

    A row is named where the out-of-fold probability of another class reaches what rows of that class usually have
    (confident learning, Northcutt et al. 2021), the class is the probe's first choice, and the nearest neighbours do
    not vote for the label.

    Args:
        features: (N, D).
        codes: (N,) class indices.
        task: kind and classes.
        seed: of the folds.
        first: (N,) of `zoo.choose.compare.first_alike`: a row's copies are in its fold, and are no neighbours of it,
            so that a wrong label cannot vouch for itself.
    """
    once = np.arange(len(codes)) if first is None else np.unique(first)
    folds = min(FOLDS, int(np.bincount(codes[once]).max(initial=0)))
    if folds < 2 or len(once) < folds:
        return []
    fold = fold_of_rows(codes, task, folds, seed, first=first)
    held = fold >= 0
    probability = torch.softmax(out_of_fold(features, codes, task, fold, seed), dim=1).numpy()
    usual = np.array([probability[held & (codes == code), code].mean() if (held & (codes == code)).any() else np.inf
                      for code in range(task.outputs)])  # fmt: skip
    votes = neighbour_votes(features, codes, first=first)
    rows = np.flatnonzero(held)
    first = probability[rows].argmax(axis=1)
    sure = probability[rows, first] >= usual[first]
    doubted = votes[rows].argmax(axis=1) != codes[rows]
    found = rows[(first != codes[rows]) & sure & doubted]
    suspects = [
        Suspect(
            row=int(row),
            suggested=int(probability[row].argmax()),
            p_label=float(probability[row, codes[row]]),
            p_suggested=float(probability[row].max()),
            neighbours=float(votes[row, codes[row]]),
        )
        for row in found
    ]
    suspects.sort(key=lambda one: (one.p_label, one.neighbours, one.row))
    return suspects[: max(1, int(MOST * len(codes)))]

"""Can rows of two groups be told apart where they should not? Splits by their features, classes by their files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from zoo.adapt.evaluation import Z95
from zoo.choose.compare import fold_of_rows, out_of_fold
from zoo.choose.look import Look
from zoo.data.task import CLASSES, Task

#: Below this many rows on either side nothing is said.
FEWEST: Final = 20
#: A split is called shifted from this AUC on, if its interval leaves 0.5 behind.
SHIFTED: Final = 0.6
#: A class is called a collection of its own from this AUC on.
SHORTCUT: Final = 0.75
_PAIR: Final = Task(CLASSES, ("one", "other"))


@dataclass(frozen=True)
class Telling:
    """How well two groups of rows are told apart.

    Attributes:
        auc: area under the ROC curve of a classifier on rows that it did not see; 0.5 = not at all, 1 = always.
        interval: its 95 % interval.
        rows: those of the second group that show it most, the clearest first.
        attribute: the single property that tells them apart, for classes.
        words: what is usual for that property in the group, and among the others.
    """

    auc: float
    interval: tuple[float, float]
    rows: list[int]
    attribute: str = ""
    words: str = ""


def split_shift(
    features: Tensor, one: np.ndarray, other: np.ndarray, codes: np.ndarray | None, seed: int = 0, shown: int = 5
) -> Telling | None:
    """Whether a classifier tells two splits apart (a held-out domain classifier); None where it does not.

    Class means are taken out first, so that another mix of classes does not count as a shift.

    Args:
        features: (N, D) of all rows.
        one, other: row numbers of the two splits.
        codes: (N,) class indices, or None.
        seed: of the folds.
        shown: rows that are named.
    """
    if min(len(one), len(other)) < FEWEST:
        return None
    rows = np.concatenate([one, other])
    x = features[torch.from_numpy(rows)].float()
    if codes is not None:
        for code in np.unique(codes[rows]):
            mine = torch.from_numpy(codes[rows] == code)
            x[mine] = x[mine] - x[mine].mean(dim=0)
    side = (np.arange(len(rows)) >= len(one)).astype(np.int64)
    fold = fold_of_rows(side, _PAIR, 5, seed)
    scores = (out_of_fold(x, side, _PAIR, fold, seed) @ torch.tensor([-1.0, 1.0], dtype=torch.float64)).numpy()
    auc, interval = auc_of(scores, side)
    if auc < SHIFTED or interval[0] <= 0.5:
        return None
    clearest = len(one) + np.argsort(-scores[len(one) :], kind="stable")[:shown]
    return Telling(auc, interval, [int(rows[i]) for i in clearest])


def class_shortcuts(looks: list[Look | None], mine: np.ndarray, seed: int = 0, shown: int = 5) -> list[Telling]:
    """The properties of the files, not of their content, that tell a class from the others; the clearest first.

    A decision tree of depth 3 on each property alone is judged by 5-fold cross-validation.

    Args:
        looks: of all rows.
        mine: (N,) mask of the class.
        seed: of the folds.
        shown: rows that are named.
    """
    known = np.array([look is not None and bool(look.attributes) for look in looks])
    if min((known & mine).sum(), (known & ~mine).sum()) < FEWEST:
        return []
    rows = np.flatnonzero(known)
    side = mine[rows].astype(np.int64)
    tables = [look.attributes for row in rows if (look := looks[row]) is not None]
    found: list[Telling] = []
    for name in dict.fromkeys(key for table in tables for key in table):
        column = [table.get(name, "") for table in tables]
        scores = _stump_scores(column, side, seed)
        if scores is None:
            continue
        auc, interval = auc_of(scores, side)
        if auc >= SHORTCUT and interval[0] > SHIFTED:
            clearest = np.argsort(-(scores + side), kind="stable")[:shown]
            words = f"{name} ({_usual(column, side == 1)}, against {_usual(column, side == 0)}; AUC {auc:.2f})"
            found.append(Telling(auc, interval, [int(rows[i]) for i in clearest], name, words))
    return sorted(found, key=lambda one: -one.auc)


def auc_of(scores: np.ndarray, side: np.ndarray) -> tuple[float, tuple[float, float]]:
    """AUC, and its 95 % interval by the formula of Hanley and McNeil (1982)."""
    from sklearn.metrics import roc_auc_score

    auc = float(roc_auc_score(side, scores))
    positive, negative = int(side.sum()), int((1 - side).sum())
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (auc * (1 - auc) + (positive - 1) * (q1 - auc**2) + (negative - 1) * (q2 - auc**2)) / positive / negative
    half = Z95 * max(variance, 0.0) ** 0.5
    return auc, (max(0.0, auc - half), min(1.0, auc + half))


def strength(auc: float) -> str:
    """An AUC in a word."""
    return "nearly always" if auc >= 0.95 else "mostly" if auc >= 0.8 else "often" if auc >= 0.7 else "somewhat"


def _stump_scores(column: list[float | str], side: np.ndarray, seed: int) -> np.ndarray | None:
    """Out-of-fold scores (N,) of a small tree on one property; None where the property has one value."""
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.tree import DecisionTreeClassifier

    if len(set(column)) < 2:
        return None
    if any(isinstance(value, str) for value in column):
        names = sorted({str(value) for value in column})
        x = np.array([[str(value) == name for name in names] for value in column], dtype=np.float64)
    else:
        x = np.array(column, dtype=np.float64)[:, None]
    tree = DecisionTreeClassifier(max_depth=3, min_samples_leaf=5, class_weight="balanced", random_state=seed)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    return cross_val_predict(tree, x, side, cv=folds, method="predict_proba")[:, 1]


def _usual(column: list[float | str], mask: np.ndarray) -> str:
    """What a property usually is among some rows."""
    values = [value for value, taken in zip(column, mask, strict=True) if taken]
    names, counts = np.unique([str(value) for value in values], return_counts=True)
    share = counts.max() / len(values)
    if share >= 0.5 or any(isinstance(value, str) for value in values):
        common = values[[str(value) for value in values].index(str(names[counts.argmax()]))]
        text = f"{common:g}" if isinstance(common, float) else str(common)
        return f"{text} in {100 * share:.0f} %"
    low, high = np.percentile(np.array(values, dtype=np.float64), [10, 90])
    return f"{low:g} to {high:g} (8 of 10)"

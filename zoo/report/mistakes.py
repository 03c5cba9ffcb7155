"""The rows that a model gets most wrong, worst first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from zoo.data.task import CLASSES, MULTI_LABEL, Task

#: Rows that are shown.
MOST: Final = 12
#: Labels of a row that are named.
_NAMED: Final = 4


@dataclass(frozen=True)
class Mistake:
    """A row and what is wrong with it.

    Attributes:
        index: its position in the split.
        said: what the model says, in words.
        true: what is true, in words.
    """

    index: int
    said: str
    true: str


def worst(outputs: np.ndarray, targets: np.ndarray, task: Task, most: int = MOST) -> list[Mistake]:
    """The worst mistakes.

    For classes the rows that are wrong, the surest first; for several labels those with a wrong label, by their
    log-loss; for regression the largest errors, in standard deviations of the targets.

    Args:
        outputs: (N, C) probabilities, or numbers for regression.
        targets: as `zoo.data.task.infer_task` encodes them.
        task: kind and classes.
        most: how many.
    """
    if task.kind == CLASSES:
        said = outputs.argmax(axis=1)
        wrong = np.flatnonzero(said != targets)
        order = wrong[np.argsort(-outputs[wrong, said[wrong]], kind="stable")][:most]
        return [
            Mistake(
                int(i), f"{task.classes[said[i]]} ({outputs[i, said[i]]:.0%})", f"{task.classes[int(targets[i])]} "
                f"({outputs[i, int(targets[i])]:.0%})",
            )
            for i in order
        ]  # fmt: skip
    truth = np.asarray(targets, dtype=np.float64).reshape(len(outputs), -1)
    if task.kind == MULTI_LABEL:
        chance = np.clip(outputs, 1e-7, 1 - 1e-7)
        loss = -(truth * np.log(chance) + (1 - truth) * np.log(1 - chance)).mean(axis=1)
        wrong = np.flatnonzero(((outputs > 0.5) != truth.astype(bool)).any(axis=1))
        order = wrong[np.argsort(-loss[wrong], kind="stable")][:most]
        return [
            Mistake(int(i), _labels(np.flatnonzero(outputs[i] > 0.5), task), _labels(np.flatnonzero(truth[i]), task))
            for i in order
        ]
    scale = np.maximum(truth.std(axis=0), 1e-12)
    order = np.argsort(-(np.abs(outputs - truth) / scale).max(axis=1), kind="stable")[:most]
    return [Mistake(int(i), _numbers(outputs[i]), _numbers(truth[i])) for i in order]


def _labels(found: np.ndarray, task: Task) -> str:
    names = [task.classes[int(i)] for i in found[:_NAMED]]
    return ", ".join(names + ["..."] * (len(found) > _NAMED)) or "nothing"


def _numbers(row: np.ndarray) -> str:
    return ", ".join([f"{value:.4g}" for value in row[:_NAMED]] + ["..."] * (len(row) > _NAMED))

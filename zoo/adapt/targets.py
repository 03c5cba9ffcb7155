"""Targets as a solver takes them, and how much each row counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from zoo.catalog.near import nearest
from zoo.data.task import CLASSES, REGRESSION, Task
from zoo.errors import DataError, UsageError

#: None, "balanced", or class -> weight.
ClassWeight = str | Mapping[Any, float] | None


def check_targets(features: Tensor, targets: np.ndarray, task: Task) -> None:
    """Find out whether these targets can be learned.

    Args:
        features: (N, D).
        targets: as `zoo.data.task.infer_task` encodes them: (N,) class indices, (N, C) of 0/1, or (N, C) numbers.
        task: kind and classes.

    Raises:
        DataError: rows and targets of different number, fewer than two classes, or a class (a label: either value)
            without rows.
    """
    if len(features) != len(targets):
        raise DataError(f"{len(features)} rows of features, but {len(targets)} targets")
    if task.kind == REGRESSION:
        return
    if task.kind == CLASSES:
        if task.outputs < 2:
            raise DataError(
                f"{task.outputs} class is too few: there is nothing to tell apart", hint="Give two classes or more."
            )
        if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < task.outputs:
            raise DataError(f"class indices must be 0 to {task.outputs - 1}; {targets.min()} to {targets.max()} came")
        counts = np.bincount(targets.astype(np.int64), minlength=task.outputs)
        _refuse_empty(counts == 0, task, "without rows", "Give each class a sample, or leave it out.")
        return
    counts = targets.sum(axis=0)
    _refuse_empty(counts == 0, task, "that no row has", "Leave these labels out.")
    _refuse_empty(counts == len(targets), task, "that every row has", "Leave these labels out.")


def target_columns(features: Tensor, targets: np.ndarray, task: Task) -> Tensor:
    """Targets as float64 (N, C), one-hot for classes; checked as `check_targets` says."""
    check_targets(features, targets, task)
    if task.kind == CLASSES:
        return one_hot(torch.from_numpy(targets.astype(np.int64)), task.outputs).double()
    return torch.from_numpy(targets.astype(np.float64)).reshape(len(targets), task.outputs)


def check_class_weight(class_weight: ClassWeight, task: Task | None = None) -> None:
    """Raise `UsageError` for class weights that mean nothing; names are compared where the task is known."""
    if isinstance(class_weight, Mapping):
        for name, weight in class_weight.items():
            number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
            if not number or not 0 < weight < math.inf:
                raise UsageError(f"class_weight of {name!r} must be a number above 0, not {weight!r}")
            if task and task.kind != REGRESSION and str(name) not in task.classes:
                near = nearest(str(name), list(task.classes))
                raise UsageError(
                    f"class_weight names {name!r}, which is no class",
                    hint=f"Did you mean {' or '.join(near)}?"
                    if near
                    else f"Classes: {', '.join(task.classes[:10])}{', ...' if len(task.classes) > 10 else '.'}",
                )
    elif class_weight not in (None, "balanced"):
        raise UsageError(
            f"class_weight must be None, 'balanced' or weights by class, not {class_weight!r}",
            hint='For instance {"ants": 2.0}; classes not named have weight 1.',
        )
    if class_weight and task and task.kind == REGRESSION:
        raise UsageError("class_weight is for classes; these targets are numbers")


def row_weights(
    labels: Tensor, softmax: bool, class_weight: ClassWeight, classes: tuple[str, ...] | None = None
) -> Tensor:
    """Weight of each row: (N, 1) for the softmax, else (N, C) per column. Only their ratios mean something.

    Args:
        labels: (N, C) of 0 and 1.
        softmax: classes exclude each other.
        class_weight: None; "balanced": rows count inversely to the frequency of their class; or class -> weight, 1 for
            classes not named. A label's weight is that of the rows that have it against those that have it not.
        classes: names of the columns; of one column also the two names of its values 0 and 1.
    """
    if class_weight is None:
        return torch.ones_like(labels[:, :1] if softmax else labels)
    if isinstance(class_weight, Mapping):
        given = {str(name): float(weight) for name, weight in class_weight.items()}
        each = torch.tensor([given.get(name, 1.0) for name in classes or ()], dtype=labels.dtype)
        if softmax:
            return labels @ each[:, None]
        absent, present = (each[:1], each[1:]) if len(each) == 2 and labels.shape[1] == 1 else (1.0, each)
        return torch.where(labels > 0, present, absent)
    counts = labels.sum(dim=0)
    if softmax:
        return labels @ (1 / counts)[:, None]
    return torch.where(labels > 0, 1 / counts, 1 / (len(labels) - counts))


def class_factors(targets: np.ndarray, task: Task, class_weight: ClassWeight) -> Tensor:
    """How much each class counts in a loss: float32 (C,); of labels (2, C), for the rows without it and with it.

    They are scaled so that the rows count 1 in the mean (per column), which leaves the learning rate as it is.

    Args:
        targets: of the training rows, as `zoo.data.task.infer_task` encodes them.
        task: of classes, or of labels.
        class_weight: as for `row_weights`; not None.
    """
    if task.kind == CLASSES:
        counts = np.bincount(targets.astype(np.int64), minlength=task.outputs)[None].astype(np.float64)
    else:
        present = targets.sum(axis=0, dtype=np.float64)
        counts = np.stack([len(targets) - present, present])
    if isinstance(class_weight, Mapping):
        given = {str(name): float(weight) for name, weight in class_weight.items()}
        weights = np.ones_like(counts)
        weights[-1] = [given.get(name, 1.0) for name in task.classes]
    else:
        weights = 1 / np.maximum(counts, 1)
    axis = None if task.kind == CLASSES else 0
    weights *= counts.sum(axis=axis) / (weights * counts).sum(axis=axis)
    return torch.from_numpy(weights[0] if task.kind == CLASSES else weights).float()


def _refuse_empty(empty: np.ndarray, task: Task, what: str, hint: str) -> None:
    names = [name for name, is_empty in zip(task.classes, empty.tolist(), strict=True) if is_empty]
    if names:
        noun = "class" if task.kind == CLASSES else "label"
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise DataError(f"{len(names)} {noun}{'es' * (noun == 'class' and len(names) > 1)} {what}: {shown}", hint=hint)

"""What is to be predicted: one class, several labels, or numbers. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from zoo.errors import DataError

CLASSES: Final = "classes"
MULTI_LABEL: Final = "multi-label"
REGRESSION: Final = "regression"


@dataclass(frozen=True)
class Task:
    """The kind of targets and how wide the head must be.

    Args:
        kind: `CLASSES`, `MULTI_LABEL` or `REGRESSION`.
        classes: names in the order of the head's outputs; for regression the names of the target columns.
    """

    kind: str
    classes: tuple[str, ...]

    @property
    def outputs(self) -> int:
        """Width of the head."""
        return len(self.classes)


def infer_task(targets: Any, classes: tuple[str, ...] | None = None) -> tuple[Task, np.ndarray]:
    """Read the task off raw targets and encode them.

    Integers, booleans or strings are classes; an (N, C) array of 0 and 1 is multi-label; floats are regression.

    Args:
        targets: (N,) or (N, C), anything `np.asarray` takes.
        classes: known names. For integer targets they are indices into it; strings must be among it.

    Returns:
        The task, and the targets as int64 (N,) class indices, float32 (N, C) of 0/1, or float32 (N, C) numbers.

    Raises:
        DataError: labels outside the known classes, non-finite numbers, or a shape no task has.
    """
    array = np.asarray(targets)
    if array.dtype == object:
        array = np.asarray([str(value) for value in array.ravel()]).reshape(array.shape)
    if array.ndim == 2 and array.shape[1] == 1 and array.dtype.kind in "iub":
        array = array[:, 0]
    if array.ndim == 1 and array.dtype.kind in "iubUS":
        return _classes(array, classes)
    if array.ndim == 2 and array.dtype.kind in "iubf" and np.isin(array, (0, 1)).all():
        return Task(MULTI_LABEL, _columns(array, classes)), array.astype(np.float32)
    if array.ndim in (1, 2) and array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise DataError(
                f"{int((~np.isfinite(array)).sum())} targets are not finite",
                hint="Remove the rows whose target is NaN or infinite.",
            )
        array = array.reshape(len(array), -1).astype(np.float32)
        return Task(REGRESSION, _columns(array, classes)), array
    raise DataError(
        f"targets of shape {array.shape} and type {array.dtype} fit no task",
        hint="Give integers or strings for classes, an (N, C) array of 0 and 1 for several labels, floats for regression.",
    )


def _classes(array: np.ndarray, classes: tuple[str, ...] | None) -> tuple[Task, np.ndarray]:
    if classes is None:
        names, codes = np.unique(array, return_inverse=True)
        return Task(CLASSES, tuple(str(name) for name in names)), codes.astype(np.int64)
    if array.dtype.kind in "US":
        index = {name: i for i, name in enumerate(classes)}
        unknown = sorted({str(value) for value in array} - set(index))
        if unknown:
            raise DataError(
                f"labels {', '.join(unknown[:5])} are not among the {len(classes)} known classes",
                hint=f"Known: {', '.join(classes[:10])}.",
            )
        return Task(CLASSES, classes), np.asarray([index[str(value)] for value in array], dtype=np.int64)
    codes = array.astype(np.int64)
    outside = codes[(codes < 0) | (codes >= len(classes))]
    if len(outside):
        raise DataError(
            f"label {int(outside[0])} is out of range: there are {len(classes)} classes, 0 to {len(classes) - 1}"
        )
    return Task(CLASSES, classes), codes


def _columns(array: np.ndarray, classes: tuple[str, ...] | None) -> tuple[str, ...]:
    names = classes if classes is not None else tuple(str(i) for i in range(array.shape[1]))
    if len(names) != array.shape[1]:
        raise DataError(f"{array.shape[1]} target columns, but {len(names)} names")
    return names

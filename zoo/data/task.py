"""What is to be predicted: one class, several labels, or numbers. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from zoo.errors import DataError

CLASSES: Final = "classes"
MULTI_LABEL: Final = "multi-label"
REGRESSION: Final = "regression"
KINDS: Final = (CLASSES, MULTI_LABEL, REGRESSION)

#: Rows named in a message.
_NAMED: Final = 5


@dataclass(frozen=True)
class Task:
    """The kind of targets and how wide the head must be.

    Args:
        kind: `CLASSES`, `MULTI_LABEL` or `REGRESSION`.
        classes: names in the order of the head's outputs; for regression the names of the target columns.

    Raises:
        DataError: an unknown kind, no name, or a name that is there twice.
    """

    kind: str
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise DataError(f"{self.kind!r} is no kind of task", hint=f"Kinds: {', '.join(KINDS)}.")
        if not self.classes:
            raise DataError(f"a {self.kind} task without a name", hint="Name at least one output.")
        if len(set(self.classes)) < len(self.classes):
            twice = next(name for i, name in enumerate(self.classes) if name in self.classes[:i])
            raise DataError(f"the name {twice!r} is there twice among the classes", hint="Give each its own name.")

    @property
    def outputs(self) -> int:
        """Width of the head."""
        return len(self.classes)


def infer_task(targets: Any, classes: tuple[str, ...] | None = None) -> tuple[Task, np.ndarray]:
    """Read the task off raw targets and encode them.

    Integers, booleans or strings are classes; an (N, C) array of 0 and 1 is multi-label; floats are regression.
    A column of integers (N, 1) is (N,). Floats of 0 and 1 are read by their shape: (N,) is regression, for a number
    may happen to be 0 or 1; (N, 1) is multi-label with one label, as the columns of (N, C) are.

    Args:
        targets: (N,) or (N, C), anything `np.asarray` takes.
        classes: known names. Strings must be among them. Integers are matched by name where every name is an integer
            ("3" is the class 3), else they are indices.

    Returns:
        The task, and the targets as int64 (N,) class indices, float32 (N, C) of 0/1, or float32 (N, C) numbers.

    Raises:
        DataError: no targets, missing ones (None, NaN), labels outside the known classes, numbers that are not finite
            in float32, or a shape no task has.
    """
    array = _as_array(targets)
    if array.ndim == 2 and array.shape[1] == 1 and array.dtype.kind in "iub":
        array = array[:, 0]
    if array.ndim == 1 and array.dtype.kind in "iubUS":
        return _classes(array, classes)
    if array.ndim == 2 and array.dtype.kind in "iubf" and np.isin(array, (0, 1)).all():
        return Task(MULTI_LABEL, _columns(array, classes)), array.astype(np.float32)
    if array.ndim in (1, 2) and array.dtype.kind == "f":
        return _numbers(array, classes)
    raise DataError(
        f"targets of shape {array.shape} and type {array.dtype} fit no task",
        hint="Give integers or strings for classes, an (N, C) array of 0 and 1 for several labels, "
        "floats for regression.",
    )


def encode(targets: Any, task: Task) -> np.ndarray:
    """Encode targets for a task that is already known, e.g. that of a fitted learner.

    Raises:
        DataError: the targets are of another kind, or have labels that the task does not know.
    """
    if task.kind == REGRESSION:
        array = _as_array(targets)
        if array.ndim in (1, 2) and array.dtype.kind in "iubf":
            return _numbers(array, task.classes)[1]
    found, _ = infer_task(targets)
    if found.kind != task.kind:
        raise DataError(
            f"the targets are {found.kind}, but {task.kind} is what was learned",
            hint="Give targets of the same kind as those fitted.",
        )
    return infer_task(targets, task.classes)[1]


def multi_hot(label_sets: Sequence[Sequence[str]], classes: tuple[str, ...] | None = None) -> tuple[Task, np.ndarray]:
    """Encode sets of labels as (N, C) of 0/1, columns sorted by name unless `classes` gives them.

    Raises:
        DataError: a label that is not among `classes`.
    """
    seen = sort_labels({label for labels in label_sets for label in labels})
    names = classes if classes is not None else tuple(seen)
    index = {name: column for column, name in enumerate(names)}
    _refuse_unknown([name for name in seen if name not in index], names)
    encoded = np.zeros((len(label_sets), len(names)), dtype=np.float32)
    for row, labels in enumerate(label_sets):
        encoded[row, [index[label] for label in labels]] = 1
    return Task(MULTI_LABEL, names), encoded


def sort_labels(labels: set[str]) -> list[str]:
    """Names in order: as numbers where all are integers ("2" before "10"), else as text."""
    return sorted(labels, key=int) if labels and all(is_integer(label) for label in labels) else sorted(labels)


def is_integer(text: str) -> bool:
    """Whether the text is the plain form of an integer ("7", "-1", not "07" or "1.0")."""
    return text.removeprefix("-").isdecimal() and str(int(text)) == text


def _as_array(targets: Any) -> np.ndarray:
    if hasattr(targets, "detach"):
        targets = targets.detach().cpu()
    try:
        array = np.asarray(targets)
        if array.dtype.kind in "US" and not isinstance(targets, np.ndarray):
            array = np.asarray(targets, dtype=object)  # NumPy turns a None or NaN among strings into text
    except ValueError as error:
        raise DataError(
            "the targets differ in shape", why=str(error), hint="Give one target for each sample."
        ) from error
    if array.size == 0:
        raise DataError(f"there are no targets: their shape is {array.shape}", hint="Give one target for each sample.")
    return _plain(array) if array.dtype == object else array


def _plain(array: np.ndarray) -> np.ndarray:
    """An array of objects as numbers where all are numbers, else as text."""
    values = list(array.ravel())
    if any(np.ndim(value) for value in values):
        raise DataError("the targets differ in shape", hint="Give one target for each sample.")
    missing = [i for i, value in enumerate(values) if _is_missing(value)]
    if missing:
        rows = sorted({i * len(array) // array.size for i in missing})
        raise DataError(
            f"{len(rows)} targets are missing (None or NaN), in {_rows(rows)}",
            hint="Remove the samples without a target, or give them one.",
        )
    if all(isinstance(value, (bool, int, float, np.number, np.bool_)) for value in values):
        numbers = np.asarray(values)
        if numbers.dtype != object:
            return numbers.reshape(array.shape)
    texts = [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values]
    return np.asarray(texts).reshape(array.shape)


def _is_missing(value: Any) -> bool:
    """None, any NaN or NaT (unequal to themselves), or pandas' NA (which refuses to say)."""
    try:
        return value is None or bool(value != value)
    except TypeError:
        return True


def _rows(rows: Sequence[int]) -> str:
    listed = ", ".join(map(str, rows[:_NAMED]))
    return f"{'row' if len(rows) == 1 else 'rows'} {listed}{', ...' if len(rows) > _NAMED else ''}"


def _classes(array: np.ndarray, classes: tuple[str, ...] | None) -> tuple[Task, np.ndarray]:
    if classes is None:
        texts, codes = _as_text(array)
        classes = tuple(texts if array.dtype.kind == "b" else sort_labels(set(texts)))
        places = {name: place for place, name in enumerate(classes)}
        return Task(CLASSES, classes), np.asarray([places[text] for text in texts], dtype=np.int64)[codes]
    if array.dtype.kind in "US" or all(is_integer(name) for name in classes):
        index = {name: i for i, name in enumerate(classes)}
        texts, codes = _as_text(array.astype(int) if array.dtype.kind == "b" else array)
        _refuse_unknown([text for text in texts if text not in index], classes)
        return Task(CLASSES, classes), np.asarray([index[text] for text in texts], dtype=np.int64)[codes]
    codes = array.astype(np.int64)
    outside = codes[(codes < 0) | (codes >= len(classes))]
    if len(outside):
        raise DataError(
            f"label {int(outside[0])} is out of range: there are {len(classes)} classes, 0 to {len(classes) - 1}",
            hint=f"Give class names ({_few(classes)}), or integers that count from 0.",
        )
    return Task(CLASSES, classes), codes


def _as_text(array: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The distinct labels as text, and which of them each row has."""
    labels, codes = np.unique(array, return_inverse=True)
    texts = labels.astype(str) if labels.dtype.kind == "S" else labels
    return [str(label) for label in texts], codes


def _numbers(array: np.ndarray, classes: tuple[str, ...] | None) -> tuple[Task, np.ndarray]:
    array = array.reshape(len(array), -1)
    with np.errstate(over="ignore"):
        numbers = array.astype(np.float32)
    rows = np.flatnonzero(~np.isfinite(numbers).all(axis=1)).tolist()
    if rows:
        large = bool(np.isfinite(array).all())
        raise DataError(
            f"{len(rows)} targets are {'too large for float32' if large else 'not finite'}, in {_rows(rows)}",
            hint="Scale the targets." if large else "Remove the rows whose target is NaN or infinite.",
        )
    return Task(REGRESSION, _columns(array, classes)), numbers


def _refuse_unknown(unknown: list[str], classes: tuple[str, ...]) -> None:
    if unknown:
        one = len(unknown) == 1
        raise DataError(
            f"{'label' if one else 'labels'} {', '.join(unknown[:5])} {'is' if one else 'are'} out of range: "
            f"not among the {len(classes)} known classes",
            hint=f"Known: {_few(classes)}.",
        )


def _few(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"


def _columns(array: np.ndarray, classes: tuple[str, ...] | None) -> tuple[str, ...]:
    names = classes if classes is not None else tuple(str(i) for i in range(array.shape[1]))
    if len(names) != array.shape[1]:
        raise DataError(f"{array.shape[1]} target columns, but {len(names)} names")
    return names

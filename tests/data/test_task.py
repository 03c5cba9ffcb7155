"""Targets: what kind they are, and how they are encoded."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.data.task import CLASSES, MULTI_LABEL, REGRESSION, Task, encode, infer_task, multi_hot, sort_labels
from zoo.errors import DataError


@pytest.mark.parametrize(
    ("targets", "kind", "classes", "encoded"),
    [
        ([3, 7, 3], CLASSES, ("3", "7"), [0, 1, 0]),
        ([10, 2], CLASSES, ("2", "10"), [1, 0]),
        (["b", "a", "b"], CLASSES, ("a", "b"), [1, 0, 1]),
        ([True, False], CLASSES, ("False", "True"), [1, 0]),
        ([[1, 0], [1, 1]], MULTI_LABEL, ("0", "1"), [[1, 0], [1, 1]]),
        ([[1.0, 0.0], [0.0, 1.0]], MULTI_LABEL, ("0", "1"), [[1, 0], [0, 1]]),
        ([0.5, 2.0], REGRESSION, ("0",), [[0.5], [2.0]]),
        ([[0.5, 1.0], [2.0, 3.0]], REGRESSION, ("0", "1"), [[0.5, 1.0], [2.0, 3.0]]),
        ([[4], [5]], CLASSES, ("4", "5"), [0, 1]),
        ([0.0, 1.0], REGRESSION, ("0",), [[0.0], [1.0]]),
        ([[0.0], [1.0]], MULTI_LABEL, ("0",), [[0.0], [1.0]]),
        (["10", "2", "-1"], CLASSES, ("-1", "2", "10"), [2, 1, 0]),
        (np.array([b"10", b"2"]), CLASSES, ("2", "10"), [1, 0]),
        ([b"10", b"2"], CLASSES, ("2", "10"), [1, 0]),
        (np.array(["10", 2], dtype=object), CLASSES, ("2", "10"), [1, 0]),
        (np.array([10, 2], dtype=object), CLASSES, ("2", "10"), [1, 0]),
        (np.array([0.5, 2], dtype=object), REGRESSION, ("0",), [[0.5], [2.0]]),
        (np.array([[1, 0], [1, 1]], dtype=object), MULTI_LABEL, ("0", "1"), [[1, 0], [1, 1]]),
    ],
)
def test_the_task_is_read_off_the_targets(targets, kind, classes, encoded) -> None:
    task, values = infer_task(targets)
    assert (task.kind, task.classes) == (kind, classes)
    assert values.tolist() == encoded
    assert values.dtype == (np.int64 if kind == CLASSES else np.float32)


def test_objects_are_compared_as_text() -> None:
    task, values = infer_task(np.array(["a", 3, "a"], dtype=object))
    assert task.classes == ("3", "a")
    assert values.tolist() == [1, 0, 1]


def test_known_classes_are_met_by_name_or_by_index() -> None:
    assert infer_task(["b"], ("a", "b"))[1].tolist() == [1]
    assert infer_task([1], ("a", "b"))[1].tolist() == [1]
    assert infer_task([7, 3], ("3", "7"))[1].tolist() == [1, 0]


@pytest.mark.parametrize("targets", [[0, 2], [-1, 0], ["a", "z"]])
def test_a_label_out_of_range_is_refused(targets) -> None:
    with pytest.raises(DataError, match="out of range"):
        infer_task(targets, ("a", "b"))


def test_an_integer_that_is_no_known_name_is_refused() -> None:
    with pytest.raises(DataError, match="label 5 is out of range"):
        infer_task([3, 5], ("3", "7"))


def test_numbers_that_are_not_finite_are_refused_with_their_row() -> None:
    with pytest.raises(DataError, match="not finite, in row 1"):
        infer_task([0.5, np.nan, 1.5])


@pytest.mark.parametrize("targets", [np.zeros((2, 2, 2)), np.array([1j, 2j]), [[1, 2], [3]], [[0, 3], [1, 2]]])
def test_what_fits_no_task_is_refused(targets) -> None:
    with pytest.raises(DataError):
        infer_task(targets)


def test_encode_refuses_another_kind() -> None:
    with pytest.raises(DataError, match="multi-label"):
        encode([[1, 0], [0, 1]], Task(CLASSES, ("a", "b")))
    with pytest.raises(DataError, match="regression"):
        encode([0.5, 1.5], Task(CLASSES, ("a", "b")))


def test_encode_takes_integers_as_numbers_for_regression() -> None:
    assert encode([1, 2], Task(REGRESSION, ("age",))).tolist() == [[1.0], [2.0]]
    with pytest.raises(DataError, match="2 target columns, but 1 names"):
        encode([[1, 2]], Task(REGRESSION, ("age",)))


def test_multi_hot() -> None:
    task, values = multi_hot([["red", "car"], [], ["car"]])
    assert task == Task(MULTI_LABEL, ("car", "red"))
    assert values.tolist() == [[1, 1], [0, 0], [1, 0]]
    with pytest.raises(DataError, match="bus"):
        multi_hot([["bus"]], ("car",))


def test_names_that_are_integers_sort_as_numbers() -> None:
    assert sort_labels({"10", "2", "-1"}) == ["-1", "2", "10"]
    assert sort_labels({"10", "2", "x"}) == ["10", "2", "x"]
    assert sort_labels({"01", "2", "10"}) == ["01", "10", "2"]


@pytest.mark.parametrize("targets", [[], np.zeros((0, 3)), np.zeros((3, 0)), np.array([], dtype=object)])
def test_no_targets_at_all(targets) -> None:
    with pytest.raises(DataError, match="no targets"):
        infer_task(targets)


@pytest.mark.parametrize(
    ("targets", "rows"),
    [
        (["a", None, "b"], "row 1"),
        (["a", float("nan"), "b", np.nan], "rows 1, 3"),
        (np.array(["a", None], dtype=object), "row 1"),
        ([1, None, 2], "row 1"),
        ([0.5, 1.5, None], "row 2"),
        (np.array([[1, 0], [None, None]], dtype=object), "row 1"),
        (np.array(["a", np.datetime64("NaT")], dtype=object), "row 1"),
        ([None] * 7, "rows 0, 1, 2, 3, 4, ..."),
    ],
)
@pytest.mark.parametrize("classes", [None, ("a", "b", "nan", "None")])
def test_missing_targets_are_no_class(targets, rows: str, classes) -> None:
    with pytest.raises(DataError) as caught:
        infer_task(targets, classes)
    assert caught.value.message.endswith(f"in {rows}")
    assert "missing" in caught.value.message


def test_the_missing_value_of_pandas_is_no_class() -> None:
    pandas = pytest.importorskip("pandas")
    with pytest.raises(DataError, match=r"missing .* in row 1"):
        infer_task(pandas.Series(["a", pandas.NA, "b"]))


def test_arrays_among_the_targets_are_refused() -> None:
    targets = np.empty(2, dtype=object)
    targets[:] = [np.arange(2), np.arange(3)]
    with pytest.raises(DataError, match="differ in shape"):
        infer_task(targets)


@pytest.mark.parametrize("targets", [[0.5, 1e300], [[0.5, 1.0], [-1e39, 2.0]]])
def test_a_number_too_large_for_float32_is_refused(targets) -> None:
    with pytest.raises(DataError, match="too large for float32, in row 1"):
        infer_task(targets)
    with pytest.raises(DataError, match="too large"):
        encode(targets, Task(REGRESSION, tuple("ab"[: np.asarray(targets).reshape(2, -1).shape[1]])))


def test_the_largest_numbers_of_float32_are_kept() -> None:
    largest = float(np.finfo(np.float32).max)
    assert infer_task([largest, -largest])[1].tolist() == [[largest], [-largest]]


@pytest.mark.parametrize(
    ("kind", "classes", "said"),
    [
        ("class", ("a", "b"), "'class' is no kind"),
        (CLASSES, ("a", "b", "a"), "'a' is there twice"),
        (MULTI_LABEL, ("a", "a"), "'a' is there twice"),
        (CLASSES, (), "without a name"),
    ],
)
def test_a_task_that_makes_no_sense(kind: str, classes: tuple[str, ...], said: str) -> None:
    with pytest.raises(DataError, match=said):
        Task(kind, classes)


def test_given_names_that_are_there_twice() -> None:
    with pytest.raises(DataError, match="'a' is there twice"):
        infer_task([0, 1], ("a", "a"))

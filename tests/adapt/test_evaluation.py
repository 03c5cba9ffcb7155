"""Evaluation against scikit-learn and scipy."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics

from zoo.adapt.evaluation import SHOWN, Evaluation, evaluate, wilson
from zoo.data.task import CLASSES, MULTI_LABEL, REGRESSION, Task
from zoo.errors import DataError, TrainingError


def _classes(count: int = 4, rows: int = 60, seed: int = 0) -> tuple[torch.Tensor, np.ndarray, Task]:
    generator = np.random.default_rng(seed)
    outputs = torch.from_numpy(generator.normal(size=(rows, count)).astype("f4"))
    return outputs, generator.integers(count, size=rows), Task(CLASSES, tuple(f"c{i}" for i in range(count)))


def _labels(seed: int = 0) -> tuple[torch.Tensor, np.ndarray, Task]:
    generator = np.random.default_rng(seed)
    targets = (generator.random((40, 3)) < 0.4).astype("f4")
    outputs = torch.from_numpy((generator.normal(size=(40, 3)) + targets).astype("f4"))
    return outputs, targets, Task(MULTI_LABEL, ("a", "b", "c"))


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(case: tuple[int, int]) -> None:
    hits, n = case
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("count", "seed"), [(2, 0), (4, 1), (30, 2)])
def test_classes_agree_with_scikit_learn(count: int, seed: int) -> None:
    outputs, targets, task = _classes(count, 80, seed)
    found = evaluate(outputs, targets, task, split="val")
    predicted = outputs.argmax(dim=1).numpy()
    labels = list(range(count))
    precision, recall, f1, n = metrics.precision_recall_fscore_support(
        targets, predicted, labels=labels, zero_division=0
    )
    assert found.primary == "accuracy"
    assert found.value == found.accuracy == pytest.approx(metrics.accuracy_score(targets, predicted))
    assert found.scores["log_loss"] == pytest.approx(
        metrics.log_loss(targets, outputs.double().softmax(dim=1).numpy(), labels=labels)
    )
    assert np.array_equal(found.confusion, metrics.confusion_matrix(targets, predicted, labels=labels))
    for i, name in enumerate(task.classes):
        assert list(found.per_class[name].values()) == pytest.approx([precision[i], recall[i], f1[i], n[i]])


def test_labels_agree_with_scikit_learn() -> None:
    outputs, targets, task = _labels()
    found = evaluate(outputs, targets, task, split="test")
    predicted = (outputs > 0).numpy()
    assert found.primary == "f1"
    assert found.value == pytest.approx(metrics.f1_score(targets, predicted, average="micro"))
    assert found.accuracy == pytest.approx(metrics.accuracy_score(targets, predicted))
    assert found.scores["mean_average_precision"] == pytest.approx(
        metrics.average_precision_score(targets, outputs.numpy(), average="macro")
    )
    columns = [metrics.log_loss(targets[:, i], outputs[:, i].double().sigmoid().numpy()) for i in range(3)]
    assert found.scores["log_loss"] == pytest.approx(np.mean(columns))
    assert found.per_class["b"]["f1"] == pytest.approx(metrics.f1_score(targets[:, 1], predicted[:, 1]))
    assert found.interval == wilson(round(found.accuracy * 40), 40)


def test_numbers_agree_with_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    targets = generator.normal(size=(30, 2)).astype("f4")
    outputs = torch.from_numpy((targets + generator.normal(size=(30, 2)) * 0.3).astype("f4"))
    found = evaluate(outputs, targets, Task(REGRESSION, ("x", "y")), split="val")
    assert found.value == pytest.approx(metrics.r2_score(targets, outputs.numpy()))
    assert found.scores["mae"] == pytest.approx(metrics.mean_absolute_error(targets, outputs.numpy()))
    assert found.scores["rmse"] == pytest.approx(metrics.root_mean_squared_error(targets, outputs.numpy()))
    assert found.per_class["y"]["r2"] == pytest.approx(metrics.r2_score(targets[:, 1], outputs[:, 1].numpy()))
    assert found.as_json()["accuracy"] is None
    assert found.as_json()["interval"] is None


@pytest.mark.parametrize(("shift", "expected"), [(0.0, 1.0), (1.0, 0.0)])
def test_constant_numbers_have_a_defined_r2(shift: float, expected: float) -> None:
    found = evaluate(torch.full((4, 1), 2 + shift), np.full((4, 1), 2.0), Task(REGRESSION, ("x",)), split="val")
    assert found.value == expected


def test_what_is_undefined_is_zero_or_none_and_never_nan() -> None:
    """A class never predicted, one without rows, and a label that no row has."""
    outputs = torch.tensor([[9.0, 0.0, 0.0]] * 4)
    found = evaluate(outputs, np.array([0, 0, 1, 1]), Task(CLASSES, ("a", "b", "c")), split="val")
    assert found.per_class["b"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "n": 2}
    assert found.per_class["c"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "n": 0}
    labels = np.array([[1, 0], [0, 0], [1, 0]], dtype="f4")
    found = evaluate(torch.tensor([[1.0, -1.0]] * 3), labels, Task(MULTI_LABEL, ("a", "b")), split="val")
    assert found.per_class["b"]["average_precision"] is None
    assert found.scores["mean_average_precision"] == found.per_class["a"]["average_precision"]
    json.dumps(found.as_json(), allow_nan=False)
    none = evaluate(torch.full((3, 2), -1.0), labels * 0, Task(MULTI_LABEL, ("a", "b")), split="val")
    assert none.scores["mean_average_precision"] is None
    assert none.value == 0.0
    assert "mean average precision -" in str(none)


@pytest.mark.parametrize("kind", [CLASSES, MULTI_LABEL, REGRESSION])
def test_json_goes_round(kind: str) -> None:
    if kind == REGRESSION:
        case = (torch.randn(5, 1), np.arange(5.0)[:, None], Task(REGRESSION, ("0",)))
    else:
        case = _classes() if kind == CLASSES else _labels()
    found = evaluate(*case, split="val")
    record = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert {"primary", "accuracy", "interval", "n", "split", "per_class"} <= set(record)
    assert found.headline().items() <= found.as_json().items()
    assert Evaluation.from_json(record) == found


def test_it_prints_and_renders() -> None:
    outputs, targets, _ = _classes(2)
    found = evaluate(outputs, targets, Task(CLASSES, ("<ant>", "bee")), split="val")
    lines = str(found).splitlines()
    assert lines[0].startswith(f"accuracy {found.accuracy:.3f} (95 % interval ")
    assert lines[0].endswith("on 60 rows of val")
    assert lines[1].split() == ["class", "precision", "recall", "f1", "n"]
    assert lines[3].split()[0] == "bee"
    assert len(lines) == 4
    html = found._repr_html_()
    assert "&lt;ant&gt;" in html
    assert "<ant>" not in html


def test_many_classes_print_briefly() -> None:
    text = str(evaluate(*_classes(50), split="val"))
    assert len(text.splitlines()) == SHOWN + 3
    assert text.endswith("... and 30 more, in as_json()")


@pytest.mark.parametrize(
    ("outputs", "targets", "error"),
    [
        (torch.zeros(0, 2), np.zeros(0, dtype=int), DataError),
        (torch.zeros(3, 2), np.array([0, 1]), DataError),
        (torch.zeros(2, 3), np.array([0, 1]), DataError),
        (torch.zeros(2, 2), np.array([0, -1]), DataError),
        (torch.zeros(2, 2), np.array([0, 2]), DataError),
        (torch.tensor([[0.0, torch.nan], [0.0, 0.0]]), np.array([0, 1]), TrainingError),
    ],
)
def test_bad_input_is_refused(outputs: torch.Tensor, targets: np.ndarray, error: type[Exception]) -> None:
    with pytest.raises(error):
        evaluate(outputs, targets, Task(CLASSES, ("a", "b")), split="val")


def test_numbers_without_a_value_are_refused() -> None:
    with pytest.raises(DataError):
        evaluate(torch.zeros(2, 1), np.array([[0.0], [np.nan]]), Task(REGRESSION, ("x",)), split="val")

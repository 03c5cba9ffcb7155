"""Calibration, curves and scores measured in detail, against torchmetrics and scikit-learn."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn import metrics

from zoo.adapt.calibration import BINS, FEWEST, calibration
from zoo.adapt.details import POINTS
from zoo.adapt.evaluation import Evaluation, evaluate
from zoo.data.task import CLASSES, MULTI_LABEL, REGRESSION, Task


def _drawn(count: int, rows: int, stretch: float = 1.0, seed: int = 0) -> tuple[torch.Tensor, np.ndarray, Task]:
    """Logits, stretched, of classes that were drawn from their softmax: at a stretch of 1 perfectly calibrated."""
    generator = np.random.default_rng(seed)
    logits = torch.from_numpy(generator.normal(size=(rows, count)) * 2)
    chances = logits.softmax(dim=1).numpy().cumsum(axis=1)
    targets = (generator.random((rows, 1)) > chances).sum(axis=1).clip(0, count - 1)
    return logits * stretch, targets, Task(CLASSES, tuple(f"c{i}" for i in range(count)))


def _labels(rows: int = 300) -> tuple[torch.Tensor, np.ndarray, Task]:
    generator = np.random.default_rng(1)
    logits = torch.from_numpy(generator.normal(size=(rows, 3)) * 2)
    targets = (generator.random((rows, 3)) < torch.sigmoid(logits).numpy()).astype("f4")
    return logits, targets, Task(MULTI_LABEL, ("a", "b", "c"))


@pytest.mark.filterwarnings("ignore")  # torchmetrics' own
@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("stretch", [0.5, 1.0, 3.0])
def test_the_calibration_error_is_torchmetrics(count: int, stretch: float) -> None:
    calibration_error = pytest.importorskip("torchmetrics.functional.classification").multiclass_calibration_error
    outputs, targets, task = _drawn(count, 500, stretch)
    found = calibration(outputs, targets, task)
    probabilities, truth = outputs.softmax(dim=1), torch.from_numpy(targets)
    for norm, key in (("l1", "ece"), ("max", "mce")):
        expected = float(calibration_error(probabilities, truth, num_classes=count, n_bins=BINS, norm=norm))
        assert found[key] == pytest.approx(expected, abs=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_the_calibration_error_of_labels_is_torchmetrics() -> None:
    calibration_error = pytest.importorskip("torchmetrics.functional.classification").binary_calibration_error
    outputs, targets, task = _labels()
    probabilities = torch.sigmoid(outputs).flatten()
    expected = calibration_error(probabilities, torch.from_numpy(targets).flatten().long(), n_bins=BINS)
    assert calibration(outputs, targets, task)["ece"] == pytest.approx(float(expected), abs=1e-6)


def test_bins_hold_every_row_once() -> None:
    outputs, targets, task = _drawn(3, 200)
    bins = calibration(outputs, targets, task)["bins"]
    assert sum(one["n"] for one in bins) == 200
    assert all(one["low"] - 1e-12 <= one["confidence"] <= one["high"] + 1e-12 for one in bins)
    right = outputs.argmax(dim=1).numpy() == targets
    assert sum(one["n"] * one["accuracy"] for one in bins) == pytest.approx(right.sum())


@pytest.mark.parametrize("stretch", [0.5, 3.0])
def test_a_temperature_finds_how_far_outputs_were_stretched(stretch: float) -> None:
    outputs, targets, task = _drawn(4, 2000, stretch)
    found = calibration(outputs, targets, task)
    scaled = found["temperature"]
    assert scaled["value"] == pytest.approx(stretch, rel=0.1)
    assert scaled["ece"] < found["ece"] / 2
    assert scaled["log_loss"] < torch.nn.functional.cross_entropy(outputs, torch.from_numpy(targets))


def test_a_row_is_scaled_by_a_temperature_of_other_rows() -> None:
    """Were all rows scaled by the one temperature that is best for them, their log-loss would be the least there is."""
    outputs, targets, task = _drawn(2, FEWEST + 5, 3.0)
    scaled = calibration(outputs, targets, task)["temperature"]
    least = torch.nn.functional.cross_entropy(outputs / scaled["value"], torch.from_numpy(targets))
    assert scaled["log_loss"] > float(least)


def test_few_rows_and_perfect_ones_have_a_finite_calibration() -> None:
    outputs, targets, task = _drawn(2, FEWEST - 1)
    assert calibration(outputs, targets, task)["temperature"] is None
    sure = torch.eye(2, dtype=torch.float64)[torch.arange(40) % 2] * 1000
    found = calibration(sure, np.arange(40) % 2, task)
    assert found["ece"] == 0
    assert [one["n"] for one in found["bins"]] == [40]
    assert 0 < found["temperature"]["value"] <= 20
    json.dumps(found, allow_nan=False)


def test_two_classes_have_curves() -> None:
    outputs, targets, task = _drawn(2, 400)
    found = evaluate(outputs, targets, task, split="val", detailed=True)
    chance = outputs.softmax(dim=1)[:, 1].numpy()
    assert found.scores["roc_auc"] == pytest.approx(metrics.roc_auc_score(targets, chance))
    assert found.scores["average_precision"] == pytest.approx(metrics.average_precision_score(targets, chance))
    assert found.curves["positive"] == "c1"
    roc, pr = found.curves["roc"], found.curves["pr"]
    assert metrics.auc(roc["false_positive_rate"], roc["true_positive_rate"]) == pytest.approx(
        found.scores["roc_auc"], abs=0.005
    )
    assert (roc["true_positive_rate"][0], roc["true_positive_rate"][-1]) == (0, 1)
    assert roc["threshold"][0] is None
    assert pr["threshold"][-1] is None
    assert all(len(values) <= POINTS for values in [*roc.values(), *pr.values()])
    cut = roc["threshold"][5]
    assert roc["true_positive_rate"][5] == pytest.approx((chance[targets == 1] >= cut - 1e-12).mean())


def test_scores_of_many_classes_and_of_labels_agree_with_scikit_learn() -> None:
    outputs, targets, task = _drawn(5, 100)
    found = evaluate(outputs, targets, task, split="val", detailed=True)
    predicted = outputs.argmax(dim=1).numpy()
    assert found.scores["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(targets, predicted))
    assert found.scores["macro_f1"] == pytest.approx(metrics.f1_score(targets, predicted, average="macro"))
    assert found.curves is None
    outputs, targets, task = _labels()
    found = evaluate(outputs, targets, task, split="val", detailed=True)
    assert found.scores["macro_f1"] == pytest.approx(metrics.f1_score(targets, outputs.numpy() > 0, average="macro"))
    assert found.scores["roc_auc"] == pytest.approx(metrics.roc_auc_score(targets, outputs.numpy(), average="macro"))


def test_one_class_alone_has_no_curve_and_no_warning() -> None:
    outputs, _, task = _drawn(2, 30)
    found = evaluate(outputs, np.zeros(30, dtype=int), task, split="val", detailed=True)
    assert found.scores["roc_auc"] is None
    assert found.curves is None
    assert "ROC AUC -" in str(found)
    labels = evaluate(
        torch.zeros(3, 2), np.array([[1, 0]] * 3), Task(MULTI_LABEL, ("a", "b")), split="val", detailed=True
    )
    assert labels.scores["roc_auc"] is None


@pytest.mark.parametrize("kind", [CLASSES, MULTI_LABEL, REGRESSION])
def test_json_goes_round_and_print_is_brief(kind: str) -> None:
    if kind == REGRESSION:
        case = (torch.randn(30, 1), np.arange(30.0)[:, None], Task(REGRESSION, ("0",)))
    else:
        case = _drawn(2, 60) if kind == CLASSES else _labels(60)
    found = evaluate(*case, split="val", detailed=True)
    plain = evaluate(*case, split="val")
    record = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert Evaluation.from_json(record) == found
    assert plain.as_json().keys() <= record.keys()
    assert str(found).splitlines()[0] == str(plain).splitlines()[0]
    assert (found.calibration is None) == (kind == REGRESSION)
    assert len(str(found).splitlines()) == len(str(plain).splitlines()) + (0 if kind == REGRESSION else 2)


def test_print_says_what_a_class_is_taken_for() -> None:
    outputs = torch.eye(3)[[0, 1, 1, 1, 2]] * 9.0
    found = evaluate(
        outputs, np.array([0, 0, 0, 1, 2]), Task(CLASSES, ("ant", "bee", "<wasp>")), split="test", detailed=True
    )
    assert found.mistaken() == {"ant": "bee (2)", "bee": "", "<wasp>": ""}
    assert str(found).splitlines()[2].endswith("bee (2)")
    assert "&lt;wasp&gt;" in found._repr_html_()

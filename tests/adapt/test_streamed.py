"""Heads solved in passes over chunks of rows: what the solver in memory and scikit-learn give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.preprocessing import StandardScaler

from zoo.adapt import newton, ridge, spectrum, stream, streamed
from zoo.adapt.solve import solve, solve_head
from zoo.data.task import CLASSES, MULTI_LABEL, REGRESSION, Task
from zoo.errors import DataError, TrainingError


def _task(count: int, kind: str = CLASSES) -> Task:
    return Task(kind, tuple(f"c{i}" for i in range(count)))


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is large, chunks are of some hundred rows at most, and the sample is of 60 rows or so."""
    monkeypatch.setattr(streamed, "LARGE", 0)
    monkeypatch.setattr(streamed, "SAMPLE", 2000)
    monkeypatch.setattr(streamed, "CHUNK", 1000)
    monkeypatch.setattr(spectrum, "CHUNK", 1000)
    monkeypatch.setattr(stream, "BLOCK", 1000)


def _rows(n: int, d: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes, of unequal size and far from the origin; one feature is constant."""
    generator = np.random.default_rng(0)
    y = np.concatenate([np.arange(classes), generator.integers(0, classes, n - classes) // generator.integers(1, 3, 1)])
    x = (generator.normal(size=(n, d)) + generator.normal(size=(classes, d))[y]) * generator.uniform(0.1, 9, d) + 100
    x[:, 0] = 7
    return x.astype("f4"), y


def _apply(head: torch.nn.Module, x: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        return head.double()(torch.from_numpy(x).double())


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize(("classes", "regularizer"), [(2, 0.1), (4, 1e-3)])
@pytest.mark.parametrize("class_weight", [None, "balanced", {"c1": 3.0}])
def test_it_is_scikit_learns_logistic_regression(classes: int, regularizer: float, class_weight: object) -> None:
    x, y = _rows(400, 9, classes)
    assert streamed.is_large(torch.from_numpy(x), _task(classes))
    head = solve_head(torch.from_numpy(x), y, _task(classes), regularizer=regularizer, class_weight=class_weight)
    sizes = {1: 3.0} if isinstance(class_weight, dict) else class_weight
    total = len(y) if class_weight != {"c1": 3.0} else len(y) + 2 * (y == 1).sum()
    standard = StandardScaler().fit_transform(x.astype("f8"))
    model = LogisticRegression(
        C=1 / (regularizer * total), solver="newton-cg", tol=1e-10, max_iter=10_000, class_weight=sizes
    ).fit(standard, y)
    assert np.abs(_apply(head, x).softmax(dim=1).numpy() - model.predict_proba(standard)).max() < 1e-5


@pytest.mark.parametrize("class_weight", [None, "balanced", {"c0": 0.3}])
def test_labels_are_those_of_the_solver_in_memory(class_weight: object, request: pytest.FixtureRequest) -> None:
    x, y = _rows(300, 8, 4)
    labels = np.stack([y == 0, y < 2], axis=1).astype("f4")
    given = (torch.from_numpy(x), labels, _task(2, MULTI_LABEL))
    expected = solve_head(*given, regularizer=0.02, class_weight=class_weight)
    request.getfixturevalue("large")
    found = solve_head(*given, regularizer=0.02, class_weight=class_weight)
    assert (_apply(found, x).sigmoid() - _apply(expected, x).sigmoid()).abs().max() < 1e-5


@pytest.mark.usefixtures("large")
def test_regression_is_scikit_learns_ridge_with_its_leave_one_out() -> None:
    x, _ = _rows(300, 8, 2)
    targets = (x[:, 1:3] + 3 * np.random.default_rng(1).normal(size=(300, 2))).astype("f4")
    found = solve(torch.from_numpy(x), targets, _task(2, REGRESSION), floor=0)
    standard = StandardScaler().fit_transform(x.astype("f8"))
    model = RidgeCV([v * 300 for v in ridge.PATH]).fit(standard, targets)
    assert found.regularizer * 300 == pytest.approx(model.alpha_)
    assert np.abs(_apply(found.head, x).numpy() - model.predict(standard)).max() < 1e-4


def test_regression_chooses_as_the_solver_in_memory_does_with_views(request: pytest.FixtureRequest) -> None:
    x, _ = _rows(240, 8, 2)
    targets = (x[:80, 1:2] + np.random.default_rng(1).normal(size=(80, 1))).astype("f4")
    given = (torch.from_numpy(x), targets, _task(1, REGRESSION))
    expected = solve(*given, views=3)
    request.getfixturevalue("large")
    found = solve(*given, views=3)
    assert found.regularizer == expected.regularizer
    torch.testing.assert_close(found.head.weight, expected.head.weight, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("views", [1, 2])
def test_a_sample_chooses_the_penalty_and_all_rows_are_solved(views: int) -> None:
    x, y = _rows(800, 9, 3)
    found = solve(torch.from_numpy(x), y[: 800 // views], _task(3), calibrate=True, views=views)
    assert found.temperature is None
    said = " ".join(found.notes)
    assert "sample of" in said
    assert "of 800 rows" in said
    assert "no temperature" in said
    rows = int(said.partition("sample of ")[2].partition(" ")[0])
    assert 20 < rows < 80
    assert rows % views == 0
    assert min(abs(found.regularizer * 800 / rows / value - 1) for value in ridge.PATH) < 1e-9
    exact = solve_head(
        torch.from_numpy(x), y[: 800 // views], _task(3), regularizer=found.regularizer, floor=1.0, views=views
    )
    assert (_apply(exact, x).softmax(dim=1) - _apply(found.head, x).softmax(dim=1)).abs().max() < 1e-5


@pytest.mark.usefixtures("large")
def test_rows_that_a_plane_divides_are_not_left_without_a_penalty() -> None:
    x, y = np.random.default_rng(0).normal(size=(900, 9)).astype("f4"), np.arange(900) % 2
    x[:, 1] += 40 * y
    found = solve(torch.from_numpy(x), y, _task(2))
    assert found.regularizer == ridge.PATH[0]
    assert (_apply(found.head, x).argmax(dim=1).numpy() == y).all()


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("eigen", [0, 4096])
def test_more_features_than_the_sample_has_rows(eigen: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "SAMPLE", 1200)
    monkeypatch.setattr(streamed, "EIGEN", eigen)
    x, y = _rows(300, 40, 3)
    head = solve_head(torch.from_numpy(x), y, _task(3), regularizer=0.01)
    standard = StandardScaler().fit_transform(x.astype("f8"))
    model = LogisticRegression(C=1 / 3, solver="newton-cg", tol=1e-10, max_iter=10_000).fit(standard, y)
    assert np.abs(_apply(head, x).softmax(dim=1).numpy() - model.predict_proba(standard)).max() < 1e-5


@pytest.fixture
def passes(large: None, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of every pass of Newton's method; a chain of samples is taken, each of them three times the one before."""
    monkeypatch.setattr(streamed, "GROWTH", 3)
    monkeypatch.setattr(streamed, "LAST", 2)
    seen: list[int] = []
    read = stream.Stream._pass
    monkeypatch.setattr(stream.Stream, "_pass", lambda self, *given: (seen.append(len(self)), read(self, *given))[1])
    return seen


@pytest.mark.parametrize(("regularizer", "most"), [(1e-4, 90), (1e-2, 30)])
@pytest.mark.parametrize("outputs", [1, 5])
def test_growing_samples_leave_few_passes_over_all_rows(
    regularizer: float, most: int, outputs: int, passes: list[int]
) -> None:
    x, y = _rows(4000, 25, max(2, outputs))
    order = y.argsort()  # a folder of class folders
    x, y = x[order], y[order]
    head = solve_head(torch.from_numpy(x), y, _task(max(2, outputs)), regularizer=regularizer)
    standard = StandardScaler().fit_transform(x.astype("f8"))
    model = LogisticRegression(C=1 / (regularizer * len(x)), solver="newton-cg", tol=1e-10, max_iter=10_000)
    assert np.abs(_apply(head, x).softmax(dim=1).numpy() - model.fit(standard, y).predict_proba(standard)).max() < 1e-5
    assert len(set(passes)) >= 3
    assert passes == sorted(passes)
    assert passes.count(len(x)) <= most


def test_labels_of_growing_samples_with_a_rare_one(passes: list[int]) -> None:
    x, y = _rows(2000, 20, 4)
    labels = np.stack([y == 0, y < 2, np.arange(len(y)) == 77], axis=1).astype("f4")
    given = (torch.from_numpy(x), labels, _task(3, MULTI_LABEL))
    found = solve_head(*given, regularizer=0.02, class_weight="balanced")
    assert len(set(passes)) >= 3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streamed, "LARGE", 1 << 26)
        expected = solve_head(*given, regularizer=0.02, class_weight="balanced")
    assert (_apply(found, x).sigmoid() - _apply(expected, x).sigmoid()).abs().max() < 1e-5


@pytest.mark.usefixtures("passes")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_features_of_every_type_far_from_the_origin(dtype: torch.dtype) -> None:
    x, y = _rows(1000, 12, 3)
    features = (torch.from_numpy(x) + (10_000 if dtype.itemsize > 2 else 0)).to(dtype)
    exact = features.double()
    head = solve_head(features, y, _task(3), regularizer=0.003, floor=0)
    standard = StandardScaler().fit_transform(exact.numpy())
    model = LogisticRegression(C=1 / 3, solver="newton-cg", tol=1e-10, max_iter=10_000).fit(standard, y)
    # The head is fp32, so that its own sums are what rounds here.
    scores = (exact - exact.mean(dim=0)) @ head.weight.detach().double().T
    offset = (torch.from_numpy(model.decision_function(standard)) - scores).mean(dim=0)
    assert np.abs((scores + offset).softmax(dim=1).numpy() - model.predict_proba(standard)).max() < 1e-5


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("kind", [CLASSES, REGRESSION])
def test_infinite_features_are_counted(kind: str) -> None:
    x, y = _rows(100, 5, 3)
    x[[3, 70], 2] = np.inf, np.nan
    targets = y if kind == CLASSES else y[:, None].astype("f4")
    with pytest.raises(DataError, match="features of 2 of 100 samples are not finite"):
        solve_head(torch.from_numpy(x), targets, _task(3 if kind == CLASSES else 1, kind))


@pytest.mark.usefixtures("large")
def test_an_optimum_out_of_reach_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newton, "STEPS", 1)
    x, y = _rows(300, 9, 3)
    with pytest.raises(TrainingError, match="did not reach its optimum in 1 steps over 300 rows"):
        solve_head(torch.from_numpy(x), y, _task(3), regularizer=1e-5)


def test_a_sample_has_every_class() -> None:
    codes = np.array([0] * 90 + [1] * 9 + [2])
    found = streamed.sample_rows(codes, 0.1, 0)
    assert np.bincount(codes[found]).tolist() == [9, 1, 1]
    assert np.array_equal(found, np.unique(found))
    assert np.array_equal(found, streamed.sample_rows(codes, 0.1, 0))
    assert not np.array_equal(found, streamed.sample_rows(codes, 0.1, 1))

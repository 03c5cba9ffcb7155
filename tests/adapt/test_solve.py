"""The solver of linear heads against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifierCV, RidgeCV
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from zoo.adapt import logistic, ridge
from zoo.adapt.folds import NEVER, stratified_folds
from zoo.adapt.solve import solve, solve_head
from zoo.adapt.spectrum import decompose
from zoo.adapt.targets import row_weights
from zoo.adapt.validation import DOUBT, choose_regularizer, fit_temperature, hold_out
from zoo.data.task import CLASSES, MULTI_LABEL, REGRESSION, Task
from zoo.errors import DataError, TrainingError, UsageError


def _task(count: int, kind: str = CLASSES) -> Task:
    return Task(kind, tuple(f"c{i}" for i in range(count)))


def _rows(n: int, d: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """float32 features around one centre a class, all classes present."""
    generator = np.random.default_rng(seed)
    y = generator.permutation(np.arange(n) % classes)
    return (generator.normal(size=(n, d)) + generator.normal(size=(classes, d))[y]).astype("f4"), y


def _apply(head: torch.nn.Module, x: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        return head(torch.from_numpy(x)).double()


def _reference(x: np.ndarray, y: np.ndarray, regularizer: float, **options: object) -> np.ndarray:
    """scikit-learn's probabilities; Newton's method, so that it does reach the optimum."""
    standard = StandardScaler().fit_transform(x.astype("f8"))
    model = LogisticRegression(
        C=1 / (regularizer * len(x)), solver="newton-cg", tol=1e-10, max_iter=10_000, **options
    ).fit(standard, y)
    return model.predict_proba(standard)


@pytest.mark.parametrize("regularizer", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize(
    ("n", "d", "classes"),
    [(120, 10, 3), (30, 80, 3), (40, 60, 2), (50, 1, 2), (60, 1, 4), (60, 60, 5), (100, 20, 25)],
)
def test_it_is_scikit_learns_logistic_regression(n: int, d: int, classes: int, regularizer: float) -> None:
    x, y = _rows(n, d, classes)
    head = solve_head(torch.from_numpy(x), y, _task(classes), regularizer=regularizer)
    assert head.weight.dtype == torch.float32
    assert head.weight.shape == (classes, d)
    found = _apply(head, x).softmax(dim=1).numpy()
    assert np.abs(found - _reference(x, y, regularizer)).max() < 1e-5


@pytest.mark.parametrize("case", ["constant", "all tiny", "one tiny", "huge"])
def test_it_is_so_for_odd_features(case: str) -> None:
    x, y = _rows(40, 12, 3)
    if case == "constant":
        x[:, 3], x[:, 5] = 0.1, 0.0
    elif case == "all tiny":
        x *= 1e-12
    elif case == "one tiny":
        x[:, 4] *= 1e-12
    else:
        x *= 1e12
    head = solve_head(torch.from_numpy(x), y, _task(3), regularizer=0.01)
    assert np.abs(_apply(head, x).softmax(dim=1).numpy() - _reference(x, y, 0.01)).max() < 1e-5
    if case == "constant":
        assert not head.weight[:, [3, 5]].any()


@pytest.mark.parametrize("classes", [2, 3])
def test_balanced_weights_are_scikit_learns(classes: int) -> None:
    x, y = _rows(90, 6, classes)
    keep = (y > 0) | (np.arange(90) < 30)
    x, y = x[keep], y[keep]
    head = solve_head(torch.from_numpy(x), y, _task(classes), regularizer=0.05, class_weight="balanced")
    expected = _reference(x, y, 0.05, class_weight="balanced")
    assert np.abs(_apply(head, x).softmax(dim=1).numpy() - expected).max() < 1e-5
    assert np.abs(expected - _reference(x, y, 0.05)).max() > 1e-2


@pytest.mark.parametrize("classes", [2, 4])
def test_weights_by_class_are_scikit_learns(classes: int) -> None:
    """Its C counts every row by its weight."""
    x, y = _rows(90, 6, classes)
    weights = {"c1": 5.0, "c0": 0.5}
    head = solve_head(torch.from_numpy(x), y, _task(classes), regularizer=0.05, class_weight=weights)
    total = (y > 1).sum() + 5 * (y == 1).sum() + 0.5 * (y == 0).sum()
    expected = _reference(x, y, 0.05 * total / 90, class_weight={0: 0.5, 1: 5.0})
    assert np.abs(_apply(head, x).softmax(dim=1).numpy() - expected).max() < 1e-5
    assert np.abs(expected - _reference(x, y, 0.05)).max() > 1e-2
    double = {name: 2 * weight for name, weight in weights.items()} | {f"c{i}": 2.0 for i in range(2, classes)}
    same = solve_head(torch.from_numpy(x), y, _task(classes), regularizer=0.05, class_weight=double)
    torch.testing.assert_close(same.weight, head.weight)


def test_a_labels_weight_is_that_of_the_rows_that_have_it() -> None:
    x, y = _rows(80, 7, 4)
    labels = np.stack([y == 0, y < 2], axis=1).astype("f4")
    task = _task(2, MULTI_LABEL)
    head = solve_head(torch.from_numpy(x), labels, task, regularizer=0.02, class_weight={"c0": 4})
    total = 80 + 3 * labels[:, 0].sum()
    expected = _reference(x, labels[:, 0].astype(int), 0.02 * total / 80, class_weight={0: 1, 1: 4})[:, 1]
    found = _apply(head, x).sigmoid().numpy()
    assert np.abs(found[:, 0] - expected).max() < 1e-5
    assert np.abs(found[:, 1] - _reference(x, labels[:, 1].astype(int), 0.02)[:, 1]).max() < 1e-5


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_labels_are_logistic_regressions_of_their_own(class_weight: str | None) -> None:
    x, y = _rows(80, 7, 4)
    labels = np.stack([y == 0, y < 2, y == 3], axis=1).astype("f4")
    head = solve_head(torch.from_numpy(x), labels, _task(3, MULTI_LABEL), regularizer=0.02, class_weight=class_weight)
    found = _apply(head, x).sigmoid().numpy()
    for i in range(3):
        expected = _reference(x, labels[:, i].astype(int), 0.02, class_weight=class_weight)[:, 1]
        assert np.abs(found[:, i] - expected).max() < 1e-5


@pytest.mark.parametrize(("n", "d"), [(40, 8), (20, 50)])
def test_leave_one_out_is_scikit_learns(n: int, d: int) -> None:
    x, y = _rows(n, d, 3)
    generator = np.random.default_rng(1)
    targets = generator.normal(size=(n, 2)) + x[:, :2]
    standard = StandardScaler().fit_transform(x.astype("f8"))
    path = ridge.PATH[10::5]
    alphas = [value * n for value in path]
    found = ridge.leave_one_out(decompose(torch.from_numpy(x)), torch.from_numpy(targets), path)
    for alpha, error in zip(alphas, found.tolist(), strict=True):
        one = RidgeCV([alpha], store_cv_results=True).fit(standard, targets)
        assert error == pytest.approx(one.cv_results_.mean(), rel=1e-8)
    signs = torch.from_numpy(np.eye(3)[y] * 2 - 1)
    best = ridge.leave_one_out(decompose(torch.from_numpy(x)), signs, path).argmin()
    assert alphas[int(best)] == RidgeClassifierCV(alphas).fit(standard, y).alpha_


@pytest.mark.parametrize(("n", "d"), [(50, 6), (20, 40)])
@pytest.mark.parametrize("regularizer", ["auto", 0.3])
def test_regression_is_scikit_learns_ridge(n: int, d: int, regularizer: float | str) -> None:
    x, _ = _rows(n, d, 2)
    targets = (x[:, :2] + np.random.default_rng(1).normal(size=(n, 2))).astype("f4")
    head = solve_head(torch.from_numpy(x), targets, _task(2, REGRESSION), regularizer=regularizer, floor=0)
    standard = StandardScaler().fit_transform(x.astype("f8"))
    model = RidgeCV([v * n for v in ridge.PATH]) if regularizer == "auto" else Ridge(alpha=regularizer * n)
    assert np.abs(_apply(head, x).numpy() - model.fit(standard, targets).predict(standard)).max() < 1e-5


@pytest.mark.parametrize("classes", [2, 4])
def test_the_chosen_regularizer_has_the_least_cross_validated_log_loss(classes: int) -> None:
    """Against scikit-learn's fits over the whole path, on the same folds."""
    digits = load_digits(n_class=classes)
    rows = np.random.default_rng(0).permutation(len(digits.data))[:80]
    noise = np.random.default_rng(1).normal(size=(80, 64)) * 12
    x, y = digits.data[rows] + noise, digits.target[rows]
    spectrum = decompose(torch.from_numpy(x))
    labels = torch.from_numpy(np.eye(classes)[y])
    softmax = classes > 2
    labels = labels if softmax else labels[:, 1:]
    chosen, found = choose_regularizer(
        hold_out(spectrum, labels, row_weights(labels, softmax, None), softmax=softmax, seed=3)
    )
    folds = stratified_folds(y, 5, 3)
    standard = StandardScaler().fit_transform(x)
    losses = {}
    for value in {*ridge.PATH[::2], chosen}:
        losses[value] = 0.0
        for fold in range(5):
            kept = folds != fold
            model = LogisticRegression(C=1 / (value * kept.sum()), solver="newton-cg", max_iter=1000)
            probabilities = model.fit(standard[kept], y[kept]).predict_proba(standard[~kept])
            losses[value] += log_loss(y[~kept], probabilities, labels=range(classes)) * (~kept).mean()
    assert found.shape == (spectrum.rows.shape[1] + 1, 5, labels.shape[1])
    assert losses[chosen] <= min(losses.values()) + 1e-3
    assert ridge.PATH[0] < chosen < ridge.PATH[-1]
    assert losses[max(losses)] > losses[chosen] + 0.02 < losses[min(losses)]


def _expected_calibration_error(probabilities: torch.Tensor, y: np.ndarray, bins: int = 10) -> float:
    """Guo et al. 2017: |accuracy - confidence|, averaged over bins of confidence by their rows."""
    confidence, predicted = (part.numpy() for part in probabilities.max(dim=1))
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs((predicted == y)[place == b].mean() - confidence[place == b].mean()) * (place == b).mean()
        for b in range(bins)
        if (place == b).any()
    ]
    return float(sum(gaps))


def _digits(seed: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.data))
    x, y = digits.data[order].astype("f4"), digits.target[order]
    return x[:n], y[:n], x[n:], y[n:]


def _blobs(seed: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    x, y = _rows(n + 2000, 20, 3, seed)
    x = x * 0.5 + np.random.default_rng(seed + 9).normal(size=x.shape).astype("f4")
    return x[:n], y[:n], x[n:], y[n:]


@pytest.mark.parametrize("data", [_digits, _blobs])
@pytest.mark.parametrize("regularizer", ["auto", 1e-6])
def test_calibrated_probabilities_are_not_worse_and_better_where_the_fit_was_too_sure(
    data: object, regularizer: float | str
) -> None:
    """On rows that neither the head nor its temperature saw, over three seeds."""
    losses, errors = [], []
    for seed in range(3):
        x, y, new, truth = data(seed, 150)
        task = _task(int(y.max()) + 1)
        plain = solve(torch.from_numpy(x), y, task, regularizer=regularizer)
        warm = solve(torch.from_numpy(x), y, task, regularizer=regularizer, calibrate=True)
        assert plain.temperature is None
        torch.testing.assert_close(warm.head.weight * warm.temperature, plain.head.weight, rtol=1e-4, atol=1e-5)
        found = [_apply(one.head, new).softmax(dim=1) for one in (plain, warm)]
        assert torch.equal(found[0].argmax(dim=1), found[1].argmax(dim=1))
        losses.append([log_loss(truth, one.numpy(), labels=range(task.outputs)) for one in found])
        errors.append([_expected_calibration_error(one, truth) for one in found])
        if regularizer != "auto":
            assert warm.temperature > 1.2
    (loss, warm_loss), (error, warm_error) = np.mean(losses, axis=0), np.mean(errors, axis=0)
    if regularizer == "auto":
        assert warm_loss <= loss * 1.01
        assert warm_error <= error + 0.01
    else:
        assert warm_loss < loss * 0.9
        assert warm_error < error * 0.8


@pytest.mark.parametrize("kind", [CLASSES, MULTI_LABEL])
def test_the_temperature_is_the_best_for_rows_left_out(kind: str) -> None:
    x, y, _, _ = _blobs(0, 200)
    labels = torch.from_numpy(np.eye(3)[y])
    softmax = kind == CLASSES
    validation = hold_out(
        decompose(torch.from_numpy(x)), labels, row_weights(labels, softmax, None), softmax=softmax, seed=0
    )
    solutions = validation.fit(1e-5)
    scores = validation.problem.scores(solutions)

    def cost(log: float) -> float:
        tempered = scores / np.exp(log)
        loss = (validation.problem.losses(tempered) * validation.judging).sum() / validation.judging.shape[2]
        return float(loss) + log**2 / (2 * DOUBT**2 * 200)

    best = minimize_scalar(cost, bounds=(-2, 2), method="bounded", options={"xatol": 1e-8})
    found = fit_temperature(validation, solutions)
    assert found == pytest.approx(np.exp(best.x), rel=1e-3)
    assert found > 1.3


def test_views_of_a_sample_are_left_out_together() -> None:
    x, y = _rows(60, 4, 3)
    labels = torch.from_numpy(np.eye(3)[np.concatenate([y[:30]] * 2)])
    validation = hold_out(
        decompose(torch.from_numpy(x)), labels, row_weights(labels, True, None), softmax=True, seed=0, views=2
    )
    learned, judged = validation.problem.weights[..., 0] > 0, validation.judging[..., 0] > 0
    assert not judged[30:].any()
    assert judged[:30].sum(dim=1).tolist() == [1] * 30
    assert not (learned[:30] & judged[:30]).any()
    assert torch.equal(learned[:30], learned[30:])
    assert validation.held == 30


@pytest.mark.parametrize("d", [5, 80])
def test_leaving_out_all_views_of_a_sample_is_a_refit_without_them(d: int) -> None:
    x, _ = _rows(60, d, 3)
    targets = np.random.default_rng(1).normal(size=(20, 2)) + x[:20, :2]
    repeated = np.concatenate([targets] * 3)
    path = ridge.PATH[20::8]
    spectrum = decompose(torch.from_numpy(x))
    found = ridge.leave_one_out(spectrum, torch.from_numpy(repeated), path, views=3)
    standard = StandardScaler().fit_transform(x.astype("f8"))
    for value, error in zip(path, found.tolist(), strict=True):
        errors = []
        for i in range(20):
            kept = np.arange(60) % 20 != i
            model = Ridge(alpha=value * 60, solver="svd", tol=1e-12).fit(standard[kept], repeated[kept])
            errors.append(np.square(model.predict(standard[[i]]) - targets[i]).mean())
        assert error == pytest.approx(np.mean(errors), rel=1e-6)


def test_many_rows_need_fewer_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 6,000 rows one fold holds out enough."""
    seen = []
    fit = logistic.solve
    monkeypatch.setattr(
        logistic, "solve", lambda problem, *a, **k: seen.append(problem.weights.shape[1]) or fit(problem, *a, **k)
    )
    for n, folds in [(200, 5), (6000, 1)]:
        seen.clear()
        x, y = _rows(n, 3, 3)
        solve_head(torch.from_numpy(x), y, _task(3))
        assert set(seen[:-1]) == {folds}


def test_a_silent_channel_does_not_drown_the_rest() -> None:
    """It hardly moves in the training rows, and speaks up later."""
    x, y = _rows(240, 10, 2)
    x[:, 9] = np.random.default_rng(1).normal(size=240)
    x, y, new, truth = x[:40], y[:40], x[40:], y[40:]
    x[:, 9] *= 1e-4
    exact = solve_head(torch.from_numpy(x), y, _task(2), floor=0)
    floored = solve_head(torch.from_numpy(x), y, _task(2))
    assert (_apply(exact, new).argmax(dim=1).numpy() == truth).mean() < 0.7
    assert (_apply(floored, new).argmax(dim=1).numpy() == truth).mean() > 0.9


def test_features_that_say_nothing_give_the_class_frequencies() -> None:
    y = np.array([0] * 6 + [1] * 3 + [2] * 1)
    for regularizer in ("auto", 0.1):
        head = solve_head(torch.full((10, 4), 0.1), y, _task(3), regularizer=regularizer)
        assert not head.weight.any()
        assert head.bias.softmax(dim=0).tolist() == pytest.approx([0.6, 0.3, 0.1], abs=1e-6)


def test_one_row_a_class_is_enough() -> None:
    """No row can be held out then."""
    x = torch.eye(3)
    head = solve_head(x, np.arange(3), _task(3))
    assert head(x).argmax(dim=1).tolist() == [0, 1, 2]


def test_it_repeats_and_half_precision_will_do() -> None:
    x, y = _rows(60, 9, 3)
    first, second = (solve_head(torch.from_numpy(x), y, _task(3), seed=1) for _ in range(2))
    assert torch.equal(first.weight, second.weight)
    halves = torch.from_numpy(x).bfloat16()
    assert (_apply(solve_head(halves, y, _task(3)), x).argmax(dim=1).numpy() == y).mean() > 0.9


@pytest.mark.parametrize("regularizer", [1e-10, 1e-4, 1e4])
def test_newton_reaches_the_optimum(regularizer: float) -> None:
    """Separable classes, far beyond the path: the gradient vanishes."""
    x, y = _rows(40, 30, 3)
    spectrum = decompose(torch.from_numpy(x))
    labels = torch.from_numpy(np.eye(3)[y])
    problem = logistic.Problem(spectrum, labels, torch.full((40, 1, 1), 1 / 40, dtype=torch.float64), True)
    solution = logistic.solve(problem, regularizer).requires_grad_()
    loss = torch.nn.functional.cross_entropy(problem.scores(solution)[:, 0], torch.from_numpy(y))
    (loss + regularizer / 2 * solution[:-1].square().sum()).backward()
    assert solution.grad.abs().max() < 1e-8


def test_an_optimum_out_of_reach_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "STEPS", 3)
    x, y = _rows(40, 30, 3)
    with pytest.raises(TrainingError, match="did not reach its optimum in 3 steps"):
        solve_head(torch.from_numpy(x), y, _task(3), regularizer=1e-6)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(2, 6), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_folds_are_even_and_keep_every_class(codes: list[int], folds: int, seed: int) -> None:
    codes = np.array(codes)
    found = stratified_folds(codes, folds, seed)
    assert np.array_equal(found, stratified_folds(codes, folds, seed))
    for code in np.unique(codes):
        mine = found[codes == code]
        if len(mine) == 1:
            assert mine[0] == NEVER
        else:
            counts = np.bincount(mine, minlength=folds)
            assert counts.max() - counts.min() <= 1
    for fold in range(folds):
        assert set(codes[found != fold]) == set(codes)


X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
Y = np.array([0, 1] * 3)


@pytest.mark.parametrize(
    ("features", "targets", "task", "message"),
    [
        (X, Y, _task(3), "1 class without rows: c2"),
        (X, Y, _task(4), "2 classes without rows: c2, c3"),
        (X, Y * 0, _task(1), "1 class is too few"),
        (X, Y - 1, _task(2), "class indices must be 0 to 1"),
        (X, Y[:5], _task(2), "6 rows of features, but 5 targets"),
        (X[:0], Y[:0], _task(2), "without rows"),
        (X[:, :0], Y, _task(2), r"features of shape \(6, 0\)"),
        (torch.full((6, 3), torch.inf), Y, _task(2), "features of 6 of 6 samples are not finite"),
        (X, np.stack([Y, Y * 0], axis=1), _task(2, MULTI_LABEL), "1 label that no row has: c1"),
        (X, np.stack([Y, Y * 0 + 1], axis=1), _task(2, MULTI_LABEL), "1 label that every row has: c1"),
    ],
)
def test_bad_data_is_refused(features: torch.Tensor, targets: np.ndarray, task: Task, message: str) -> None:
    with pytest.raises(DataError, match=message):
        solve_head(features, targets, task)


def test_a_head_that_overflows_is_refused() -> None:
    with pytest.raises(DataError, match="overflows"):
        solve_head(X * 1e-39, Y, _task(2), regularizer=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"regularizer": 0},
        {"regularizer": -1.0},
        {"regularizer": "strong"},
        {"regularizer": float("nan")},
        {"regularizer": True},
        {"class_weight": "even"},
        {"class_weight": {"c0": 0}},
        {"class_weight": {"c0": "much"}},
        {"class_weight": {"c9": 2.0}},
        {"floor": -1},
        {"floor": "low"},
    ],
)
def test_bad_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        solve_head(X, Y, _task(2), **options)


def test_a_class_that_is_not_there_has_near_names() -> None:
    with pytest.raises(UsageError, match="names 'ant', which is no class") as caught:
        solve_head(X, Y, Task(CLASSES, ("ants", "bees")), class_weight={"ant": 2.0})
    assert "Did you mean ants?" in caught.value.hint


def test_calibration_is_not_for_numbers() -> None:
    with pytest.raises(UsageError, match="calibrate is for classes"):
        solve_head(X, Y[:, None].astype("f4"), _task(1, REGRESSION), calibrate=True)


def test_class_weights_are_for_classes() -> None:
    with pytest.raises(UsageError, match="class_weight is for classes"):
        solve_head(X, Y[:, None].astype("f4"), _task(1, REGRESSION), class_weight="balanced")

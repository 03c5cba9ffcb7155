"""Each score against the definition it is a shortcut for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from zoo.choose.scores import h_score, knn_accuracy, leep, log_me, neighbour_votes


def data(n: int, d: int, classes: int = 3, signal: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    codes = np.arange(n) % classes
    means = generator.normal(size=(classes, d))
    return signal * means[codes] + generator.normal(size=(n, d)), codes


def brute_force(features: np.ndarray, column: np.ndarray) -> float:
    """The Gaussian log evidence, maximised over both precisions by a general optimiser from several starts."""
    n = len(column)

    def negative(logs: np.ndarray) -> float:
        alpha, beta = np.exp(np.clip(logs, -30, 30))
        covariance = np.eye(n) / beta + features @ features.T / alpha
        return -float(multivariate_normal(np.zeros(n), covariance, allow_singular=True).logpdf(column))

    starts = [(a, b) for a in (-2.0, 3.0, 8.0) for b in (0.0, 3.0)]
    return -min(minimize(negative, start, method="Nelder-Mead", bounds=[(-15, 25)] * 2).fun for start in starts) / n


@pytest.mark.parametrize(("n", "d"), [(40, 5), (30, 30), (20, 60)])
def test_log_me_is_the_largest_evidence(n: int, d: int) -> None:
    features, codes = data(n, d, signal=0.7)
    columns = np.eye(3)[codes]
    expected = np.mean([brute_force(features, column) for column in columns.T])
    assert log_me(features, columns) == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("d", [20, 400])
def test_noise_ranks_last_even_where_features_outnumber_rows(d: int) -> None:
    good, codes = data(100, d)
    weak, _ = data(100, d, signal=0.3)
    noise = np.random.default_rng(1).normal(size=good.shape)
    columns = np.eye(3)[codes]
    scores = [log_me(features, columns) for features in (good, weak, noise)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[2] + 0.1
    ranked = [h_score(features, codes) for features in (good, weak, noise)]
    assert ranked == sorted(ranked, reverse=True)


def test_log_me_does_not_mind_the_scale_of_features() -> None:
    features, codes = data(50, 80)
    columns = np.eye(3)[codes]
    assert log_me(1e3 * features, columns) == pytest.approx(log_me(features, columns), abs=1e-6)


def test_log_me_of_silent_features_is_that_of_none() -> None:
    columns = np.eye(3)[np.arange(30) % 3]
    expected = np.mean([-(np.log(2 * np.pi * (column**2).mean()) + 1) / 2 for column in columns.T])
    assert log_me(np.zeros((30, 4)), columns) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("n", "d"), [(60, 8), (30, 90)])
def test_h_score_is_its_definition(n: int, d: int) -> None:
    from sklearn.covariance import LedoitWolf

    features, codes = data(n, d)
    fitted = LedoitWolf().fit(features)
    centred = features - features.mean(axis=0)
    means = np.stack([centred[codes == code].mean(axis=0) for code in codes])
    expected = (1 - fitted.shrinkage_) * np.trace(np.linalg.solve(fitted.covariance_, means.T @ means / n))
    assert h_score(features, codes) == pytest.approx(expected, rel=1e-8)
    assert 0 <= h_score(features, codes) <= 2


def test_h_score_of_features_that_are_the_labels_is_near_its_bound() -> None:
    codes = np.arange(3000) % 3
    features = np.eye(3)[codes] + 1e-3 * np.random.default_rng(0).normal(size=(3000, 3))
    assert 1.9 < h_score(features, codes) <= 2
    assert h_score(np.ones((10, 4)), np.arange(10) % 2) == 0


def test_leep_is_its_definition() -> None:
    generator = np.random.default_rng(0)
    theta = generator.dirichlet(np.ones(4), size=30)
    codes = generator.integers(3, size=30)
    total = 0.0
    for i, code in enumerate(codes):
        inner = 0.0
        for z in range(4):
            joint = theta[codes == code, z].sum() / 30
            inner += joint / (theta[:, z].sum() / 30) * theta[i, z]
        total += np.log(inner)
    assert leep(theta, codes) == pytest.approx(total / 30)
    assert leep(theta, codes) <= 0


def test_leep_survives_source_classes_that_nobody_is_given() -> None:
    codes = np.arange(20) % 2
    theta = np.zeros((20, 5))
    theta[np.arange(20), codes] = 1
    assert leep(theta, codes) == 0
    assert leep(np.roll(theta, 1, axis=0), codes) == 0  # another name for the same classes


def test_neighbours_vote_as_in_scikit_learn() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    features, codes = data(60, 10)
    votes = neighbour_votes(torch.from_numpy(features), codes, k=7)
    for row in (0, 31, 59):
        others = np.arange(60) != row
        oracle = KNeighborsClassifier(7, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07))
        expected = oracle.fit(features[others], codes[others]).predict_proba(features[row : row + 1])[0]
        np.testing.assert_allclose(votes[row], expected, atol=1e-10)
    assert knn_accuracy(torch.from_numpy(features), codes) > 0.9


def test_copies_are_no_neighbours() -> None:
    features, codes = data(40, 10)
    features, codes = np.concatenate([features, features[:5], features[:1]]), np.concatenate([codes, [0] * 6])
    first = np.concatenate([np.arange(40), np.arange(5), [0]])
    votes = neighbour_votes(torch.from_numpy(features), codes, k=7, first=first)
    for row in (0, 4, 40, 45, 20):
        others = first != first[row]
        others[row] = True
        alone = neighbour_votes(torch.from_numpy(features[others]), codes[others], k=7)
        np.testing.assert_allclose(votes[row], alone[int(others[:row].sum())], atol=1e-12)


def test_votes_do_not_depend_on_the_order_of_equal_rows() -> None:
    features = torch.ones(9, 4)
    codes = np.array([0, 1, 2] * 3)
    order = np.random.default_rng(0).permutation(9)
    votes = neighbour_votes(features, codes, k=3)
    np.testing.assert_allclose(votes[order], neighbour_votes(features, codes[order], k=3), atol=1e-12)
    np.testing.assert_allclose(votes[0], [2 / 8, 3 / 8, 3 / 8], atol=1e-12)

"""Intervals and tests of groups against their definitions, and against what rows give where each is a group."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, permutation_test

from zoo.adapt import clusters
from zoo.adapt.evaluation import Evaluation, accuracy_interval, evaluate, few_groups, wilson
from zoo.choose.compare import paired_p, too_few
from zoo.data.task import CLASSES, MULTI_LABEL, REGRESSION, Task

TWO = Task(CLASSES, ("a", "b"))


def grouped(seed: int, groups: int = 12, most: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Differences of 0/1 errors, and the groups that they lean by."""
    random = np.random.default_rng(seed)
    codes = np.repeat(np.arange(groups), random.integers(1, most, groups))
    lean = random.normal(0, 0.4, groups)[codes]
    one, other = (random.random(len(codes)) < np.clip(0.3 + sign * lean, 0, 1) for sign in (1, -1))
    order = random.permutation(len(codes))
    return (one.astype(float) - other)[order], codes[order]


def all_flips(differences: np.ndarray, groups: np.ndarray) -> float:
    """The definition: every choice of signs, one by one."""
    sums = np.array([differences[groups == group].sum() for group in np.unique(groups)])
    seen = abs(sums.sum())
    found = [abs(np.dot(signs, sums)) for signs in product((-1, 1), repeat=len(sums))]
    return float(np.mean([value >= seen - 1e-9 for value in found]))


class TestSignFlips:
    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize("scale", [1.0, 1 / 3])
    def test_all_choices_of_signs_one_by_one(self, seed: int, scale: float) -> None:
        differences, groups = grouped(seed)
        expected = all_flips(differences * scale, groups)
        assert clusters.sign_flip_p(differences * scale, groups) == pytest.approx(expected, abs=1e-12)

    def test_it_is_scipys_permutation_test_of_group_sums(self) -> None:
        differences, groups = grouped(1)
        sums = np.bincount(groups, weights=differences)
        found = permutation_test((sums,), np.sum, permutation_type="samples", n_resamples=np.inf)
        assert clusters.sign_flip_p(differences, groups) == pytest.approx(found.pvalue)

    @given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=300))
    @settings(deadline=None)
    def test_groups_of_one_row_are_mcnemars_exact_test(self, values: list[float]) -> None:
        differences = np.array(values)
        unequal = int(np.count_nonzero(differences))
        expected = binomtest(int((differences > 0).sum()), unequal).pvalue if unequal else 1.0
        assert clusters.sign_flip_p(differences, np.arange(len(values))) == pytest.approx(expected, rel=1e-9)
        assert clusters.sign_flip_p(differences) == pytest.approx(expected, rel=1e-9)

    def test_many_groups_of_numbers_are_sampled(self) -> None:
        random = np.random.default_rng(0)
        differences, groups = random.normal(0.15, 1, 120), np.repeat(np.arange(40), 3)
        sums = np.bincount(groups, weights=differences)
        found = clusters.sign_flip_p(differences, groups)
        expected = permutation_test((sums,), np.sum, permutation_type="samples", n_resamples=50_000, rng=1).pvalue
        assert found == pytest.approx(expected, abs=0.02)
        assert found == clusters.sign_flip_p(differences, groups)

    def test_by_chance_it_finds_no_more_than_it_says(self) -> None:
        """Two equals whose errors go by groups: a test that counts rows finds a difference far too often."""
        random = np.random.default_rng(0)
        by_groups, by_rows = [], []
        for _ in range(300):
            leans = random.normal(0, 1, (2, 15)).repeat(20, axis=1)
            one, other = (random.normal(size=leans.shape) + leans > 0.3).astype(float)
            groups = np.repeat(np.arange(15), 20)
            by_groups.append(paired_p(one, other, groups) < 0.05)
            by_rows.append(paired_p(one, other) < 0.05)
        assert np.mean(by_groups) < 0.09
        assert np.mean(by_rows) > 0.3

    def test_the_fewest_groups(self) -> None:
        assert [clusters.fewest(tests) for tests in (1, 3, 4)] == [6, 7, 8]
        for tests in (1, 3, 4):
            needed = clusters.fewest(tests)
            enough, less = (
                tests * clusters.sign_flip_p(np.ones(2 * n), np.arange(2 * n) // 2) for n in (needed, needed - 1)
            )
            assert enough < clusters.LEVEL <= less
            assert not too_few(needed, tests)
            assert f"needs {needed} that agree" in too_few(needed - 1, tests)
        assert not too_few(None, 3)


class TestBootstrap:
    @pytest.mark.parametrize("seed", range(3))
    def test_it_is_the_formula_group_by_group(self, seed: int) -> None:
        """Groups drawn with replacement, one by one; the mean over all of their rows."""
        values, groups = grouped(seed, 10)
        random = np.random.default_rng(7)
        members = [values[groups == group] for group in range(10)]
        means = [
            np.concatenate([members[i] for i in random.integers(0, 10, 10)]).mean() for _ in range(clusters.RESAMPLES)
        ]
        expected = np.percentile(means, [2.5, 97.5])
        assert clusters.bootstrap(values, groups) == pytest.approx(expected, abs=0.02)

    def test_more_kinds_of_groups_than_are_counted(self) -> None:
        random = np.random.default_rng(0)
        values, groups = random.normal(0.2, 1, 400), np.repeat(np.arange(100), 4)
        low, high = clusters.bootstrap(values, groups)
        error = clusters.standard_error(values, groups)
        assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.02)
        assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.02)

    def test_groups_of_one_row_are_rows(self) -> None:
        values = np.random.default_rng(0).normal(size=50)
        for some in (values, np.sign(values)):
            assert clusters.bootstrap(some, np.arange(50)) == clusters.bootstrap(some)
            assert clusters.mean_interval(some, np.arange(50)) == clusters.bootstrap(some)
            assert clusters.standard_error(some, np.arange(50)) == pytest.approx(some.std(ddof=1) / np.sqrt(50))

    def test_it_covers_what_rows_do_not(self) -> None:
        """Accuracies that differ by group: the share of intervals that hold the truth."""
        random = np.random.default_rng(0)
        groups, holds, rows_hold = np.repeat(np.arange(25), 20), [], []
        for _ in range(120):
            right = random.random(500) < np.clip(random.normal(0.7, 0.15, 25), 0, 1)[groups]
            low, high = accuracy_interval(right, groups)
            holds.append(low <= 0.7 <= high)
            low, high = wilson(int(right.sum()), 500)
            rows_hold.append(low <= 0.7 <= high)
        assert np.mean(holds) > 0.88
        assert np.mean(rows_hold) < 0.85

    def test_the_standard_error_is_the_sandwich(self) -> None:
        """Liang and Zeger's, with matrices: (X'X)^-1 sum_g X_g' u_g u_g' X_g (X'X)^-1, X a column of ones."""
        values, groups = grouped(2)
        x, u = np.ones((len(values), 1)), values - values.mean()
        bread = np.linalg.inv(x.T @ x)
        parts = [x[groups == g].T @ u[groups == g] for g in np.unique(groups)]
        meat = sum(np.outer(part, part) for part in parts)
        expected = np.sqrt((bread @ meat @ bread)[0, 0] * 12 / 11)
        assert clusters.standard_error(values, groups) == pytest.approx(expected)

    def test_one_group_says_nothing_of_others(self) -> None:
        values, one = np.array([1.0, 0, 1, 1]), np.zeros(4)
        assert clusters.standard_error(values, one) == 0
        assert clusters.mean_interval(values, one) == clusters.bootstrap(values)
        assert clusters.sign_flip_p(values, one) == 1.0
        assert accuracy_interval(values > 0, one) == wilson(3, 4)


class TestEvaluation:
    def outputs(self, n: int = 120) -> tuple[torch.Tensor, np.ndarray]:
        random = np.random.default_rng(0)
        targets = random.integers(0, 2, n)
        lean = np.repeat(random.normal(0.6, 0.8, n // 10), 10) * np.where(targets == 1, 1, -1)
        return torch.from_numpy(np.stack([-lean, lean], axis=1)), targets

    def test_groups_widen_the_interval_and_are_told(self) -> None:
        outputs, targets = self.outputs()
        groups = np.arange(120) // 10
        plain = evaluate(outputs, targets, TWO, split="val")
        found = evaluate(outputs, targets, TWO, split="val", groups=groups)
        assert found.accuracy == plain.accuracy
        assert found.interval[0] < plain.interval[0] < plain.interval[1] < found.interval[1]
        assert found.groups == 12
        assert {"groups": 12, "interval_by": "groups"}.items() <= found.headline().items()
        assert "120 rows of val, 12 groups" in found.sentence()
        assert Evaluation.from_json(found.as_json()) == found
        assert "groups" not in found.scores

    def test_rows_of_their_own_groups_are_rows(self) -> None:
        outputs, targets = self.outputs()
        plain = evaluate(outputs, targets, TWO, split="val")
        assert evaluate(outputs, targets, TWO, split="val", groups=np.arange(120)) == plain
        assert "interval_by" not in plain.headline()

    @pytest.mark.parametrize(("size", "groups"), [(20, 6), (120, 1)])
    def test_few_groups_are_said(self, size: int, groups: int) -> None:
        outputs, targets = self.outputs()
        found = evaluate(outputs, targets, TWO, split="val", groups=np.arange(120) // size)
        assert found.groups == groups
        assert few_groups(groups) in str(found)
        assert few_groups(groups) in found._repr_html_()
        assert few_groups(12) not in str(evaluate(outputs, targets, TWO, split="val", groups=np.arange(120) // 10))

    def test_labels_and_numbers_have_groups_too(self) -> None:
        outputs, targets = self.outputs()
        groups = np.arange(120) // 10
        labels = evaluate(outputs, np.stack([1 - targets, targets], axis=1), Task(MULTI_LABEL, ("a", "b")), split="val",
                          groups=groups)  # fmt: skip
        assert labels.interval == evaluate(outputs, targets, TWO, split="val", groups=groups).interval
        numbers = evaluate(outputs[:, :1], targets.astype(float), Task(REGRESSION, ("y",)), split="val", groups=groups)
        assert (numbers.interval, numbers.groups) == (None, 12)

"""Folds, rounds and paired tests against scikit-learn, scipy and hand computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binom
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from zoo.choose.compare import first_alike, fold_of_rows, holm, nested_order, out_of_fold, paired_p, rounds, row_errors
from zoo.data.task import Task
from zoo.errors import DataError

CLASSES = Task("classes", ("a", "b", "c"))


def test_folds_deal_classes_out_as_scikit_learn_does() -> None:
    codes = np.repeat([0, 1, 2], [17, 9, 30])
    fold = fold_of_rows(codes, CLASSES, 5, seed=0)
    ours = sorted(tuple(np.bincount(codes[fold == number], minlength=3)) for number in range(5))
    theirs = [np.bincount(codes[held], minlength=3) for _, held in StratifiedKFold(5).split(codes, codes)]
    for mine in ours:
        for code in range(3):
            sizes = {int(one[code]) for one in theirs}
            assert mine[code] in sizes
    assert (fold == fold_of_rows(codes, CLASSES, 5, seed=0)).all()
    assert (fold != fold_of_rows(codes, CLASSES, 5, seed=1)).any()


def test_copies_are_in_one_fold() -> None:
    names = [f"{number}" for number in range(30)]
    first = first_alike(names + names[::-1] + names[:3])
    codes = np.concatenate([np.arange(30) % 3, np.arange(29, -1, -1) % 3, np.arange(3)])
    fold = fold_of_rows(codes, CLASSES, 5, seed=0, first=first)
    assert (fold == fold[first]).all()
    assert np.bincount(fold[:30]).tolist() == [6] * 5
    assert (fold[:30] == fold_of_rows(codes[:30], CLASSES, 5, seed=0)).all()
    with pytest.raises(DataError, match="3 different rows"):
        fold_of_rows(codes[:30], CLASSES, 5, seed=0, first=np.arange(30) % 3)


@pytest.mark.parametrize(("codes", "folds"), [([0, 1, 2], 5), ([0, 1, 2], 2)])
def test_too_few_rows_are_refused(codes: list[int], folds: int) -> None:
    with pytest.raises(DataError):
        fold_of_rows(np.array(codes), CLASSES, folds, seed=0)


def test_no_row_is_judged_by_a_probe_that_saw_it() -> None:
    """Features that name each row: whoever saw a row knows its label, whoever did not can only guess."""
    generator = np.random.default_rng(0)
    codes = generator.permutation(np.arange(60) % 3)
    features = torch.eye(60)
    fold = fold_of_rows(codes, CLASSES, 5, seed=0)
    outputs = out_of_fold(features, codes, CLASSES, fold, seed=0)
    assert row_errors(outputs, codes, CLASSES).mean() > 0.4


def test_out_of_fold_outputs_are_those_of_a_probe_per_fold() -> None:
    generator = np.random.default_rng(0)
    codes = np.arange(90) % 3
    features = generator.normal(size=(90, 4)) + codes[:, None]
    fold = fold_of_rows(codes, CLASSES, 3, seed=0)
    ours = out_of_fold(torch.from_numpy(features).float(), codes, CLASSES, fold, seed=0).argmax(dim=1).numpy()
    theirs = np.empty(90, dtype=int)
    for number in range(3):
        held = fold == number
        theirs[held] = LogisticRegression(C=1.0).fit(features[~held], codes[~held]).predict(features[held])
    assert (ours == theirs).mean() > 0.95


def test_mcnemar_is_the_exact_binomial() -> None:
    one = np.array([1.0] * 9 + [0.0] * 2 + [1.0] * 5 + [0.0] * 20)
    other = np.array([0.0] * 9 + [1.0] * 2 + [1.0] * 5 + [0.0] * 20)
    assert paired_p(one, other) == pytest.approx(2 * binom.cdf(2, 11, 0.5))
    assert paired_p(one, one) == 1.0


def test_numbers_are_compared_by_the_paired_t_test() -> None:
    generator = np.random.default_rng(0)
    one = generator.normal(size=40)
    other = one + 0.3 + 0.2 * generator.normal(size=40)
    difference = one - other
    t = difference.mean() / (difference.std(ddof=1) / np.sqrt(40))
    from scipy.stats import t as student

    assert paired_p(one, other) == pytest.approx(2 * student.sf(abs(t), 39))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_a_rare_class_is_in_every_beginning() -> None:
    codes = np.repeat([0, 1, 2], [900, 2, 60])
    order = nested_order(codes, CLASSES, seed=0)
    assert set(codes[order[:3]]) == {0, 1, 2}
    assert np.bincount(codes[order[:96]]).tolist()[0] in (89, 90)


def test_every_beginning_of_the_order_has_the_classes_in_proportion() -> None:
    codes = np.repeat([0, 1, 2], [500, 300, 200])
    order = nested_order(codes, CLASSES, seed=0)
    assert sorted(order) == list(range(1000))
    for size in (100, 250, 500):
        assert np.abs(np.bincount(codes[order[:size]]) - size * np.array([0.5, 0.3, 0.2])).max() <= 1


def test_rounds_double_up_to_all_rows() -> None:
    assert rounds(244, 30, None) == [244]
    assert rounds(8000, 2, None) == [8000]
    assert rounds(8000, 8, False) == [8000]
    assert rounds(8000, 8, None) == [1000, 2000, 4000, 8000]
    assert rounds(8000, 100, None) == [500, 1000, 2000, 4000, 8000]


def test_errors_of_rows_by_kind() -> None:
    labels = Task("multi-label", ("a", "b"))
    outputs = torch.tensor([[1.0, -1.0], [1.0, 1.0]])
    assert row_errors(outputs, np.array([[1, 0], [0, 1]]), labels).tolist() == [0.0, 0.5]
    numbers = Task("regression", ("x",))
    assert row_errors(outputs[:, :1], np.array([3.0, 1.0]), numbers).tolist() == [4.0, 0.0]

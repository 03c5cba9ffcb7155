"""Splits: seeded, stratified, disjoint, and honest about what is reported."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.open import open_data
from zoo.data.split import choose, stratified
from zoo.errors import DataError, UsageError

targets_of = st.lists(st.integers(0, 5), min_size=2, max_size=80).map(lambda codes: np.asarray(codes))
fractions = st.floats(0.05, 0.95)


@given(targets_of, fractions, st.integers(0, 1000))
@settings(max_examples=200, deadline=None)
def test_stratified_is_a_partition_in_proportion(targets, fraction, seed) -> None:
    kept, held = stratified(targets, fraction, seed)
    assert sorted([*kept, *held]) == list(range(len(targets)))
    assert len(kept)
    assert len(held)
    again = stratified(targets, fraction, seed)
    assert np.array_equal(again[0], kept)
    assert np.array_equal(again[1], held)
    total = min(max(1, round(fraction * len(targets))), len(targets) - 1)
    counts = {c: (int((targets == c).sum()), int((targets[held] == c).sum())) for c in set(targets.tolist())}
    both = [c for c, (n, _) in counts.items() if n >= 2]
    if len(both) <= total <= len(targets) - len(counts):
        assert len(held) == total
        assert all(1 <= counts[c][1] <= counts[c][0] - 1 for c in both)
    if all(n * fraction >= 1 and n * (1 - fraction) >= 1 for n, _ in counts.values()):
        assert all(abs(h - n * total / len(targets)) < 1 for n, h in counts.values())


@given(st.integers(2, 50), fractions, st.integers(0, 10))
@settings(max_examples=50, deadline=None)
def test_targets_that_are_no_classes_are_divided_at_random(rows, fraction, seed) -> None:
    kept, held = stratified(np.zeros((rows, 3), dtype=np.float32), fraction, seed)
    assert len(held) == min(max(1, round(fraction * rows)), rows - 1)
    assert sorted([*kept, *held]) == list(range(rows))


def test_another_seed_gives_another_split() -> None:
    targets = np.arange(100) % 4
    assert not np.array_equal(stratified(targets, 0.3, 0)[1], stratified(targets, 0.3, 1)[1])


def test_a_split_never_changes_with_the_version() -> None:
    assert stratified(np.arange(20) % 2, 0.2, 0)[1].tolist() == [4, 7, 11, 16]


def test_bad_fractions_and_too_few_rows() -> None:
    with pytest.raises(UsageError):
        stratified(np.arange(4), 1.0, 0)
    with pytest.raises(DataError):
        stratified(np.arange(1), 0.5, 0)


def arrays(counts: dict[str, int], seed: int = 0):
    labels = [name for name, count in counts.items() for _ in range(count)]
    return np.random.default_rng(seed).standard_normal((len(labels), 4)).astype(np.float32), labels


def rows(split) -> set[int]:
    return set(split.rows.tolist())


def test_without_val_a_fifth_of_train_is_reported() -> None:
    data = open_data(arrays({"a": 50, "b": 30}))
    chosen = choose(data, seed=3)
    assert (len(chosen.train), len(chosen.report), chosen.report_name) == (64, 16, "val")
    assert np.bincount(chosen.report.targets).tolist() == [10, 6]
    assert rows(chosen.train) | rows(chosen.report) == set(range(80))
    assert chosen.test is None
    assert len(chosen.rest) == 0
    assert rows(choose(data, seed=3).report) == rows(chosen.report) != rows(choose(data, seed=4).report)


def test_test_is_left_alone_and_reported_only_on_demand() -> None:
    data = open_data("digits")
    chosen = choose(data)
    assert chosen.report_name == "val"
    assert len(chosen.test) == 899
    assert rows(chosen.train) | rows(chosen.report) == rows(data.train)
    whole = choose(data, "test")
    assert (whole.report_name, len(whole.train), len(whole.report), whole.test) == ("test", 898, 899, None)


def test_labels_per_class_comes_after_the_reported_split() -> None:
    data = open_data(arrays({"a": 50, "b": 30}))
    plain, few = choose(data, seed=1), choose(data, labels_per_class=4, seed=1)
    assert rows(plain.report) == rows(few.report)
    assert np.bincount(few.train.targets).tolist() == [4, 4]
    assert rows(few.train).isdisjoint(rows(few.rest))
    assert rows(few.train) | rows(few.rest) == rows(plain.train)


def test_few_labels_are_nested_as_k_grows() -> None:
    data = open_data(arrays({"a": 50, "b": 30}))
    small, large = choose(data, labels_per_class=2), choose(data, labels_per_class=5)
    assert rows(small.train) <= rows(large.train)


def test_a_class_with_too_few_labels_is_named() -> None:
    with pytest.raises(DataError, match="'b' has 4") as caught:
        choose(open_data(arrays({"a": 50, "b": 5})), labels_per_class=10)
    assert "at most 4" in caught.value.hint


def test_data_of_their_own_for_val() -> None:
    data, other = open_data(arrays({"a": 9, "b": 9})), open_data(arrays({"a": 3, "b": 3}, seed=1))
    chosen = choose(data, other)
    assert len(chosen.train) == 18
    assert len(chosen.report) == 6
    assert chosen.report_name == "val"


def test_wrong_wishes() -> None:
    data = open_data(arrays({"a": 9, "b": 9}))
    with pytest.raises(UsageError, match="no split 'tset'"):
        choose(data, "tset")
    with pytest.raises(UsageError, match="train is fitted"):
        choose(data, "train")
    with pytest.raises(UsageError, match="labels_per_class is 0"):
        choose(data, labels_per_class=0)
    with pytest.raises(UsageError, match="need classes"):
        choose(open_data((np.zeros((9, 2)), np.linspace(0.1, 1.2, 9))), labels_per_class=2)
    with pytest.raises(DataError, match="no targets"):
        choose(open_data(np.zeros((9, 2)), labelled=False))

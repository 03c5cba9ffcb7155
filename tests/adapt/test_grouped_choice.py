"""What training rows say of themselves comes from whole groups that were left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss

import zoo
from zoo.adapt import ridge, streamed
from zoo.adapt.folds import NEVER, folds_of_groups
from zoo.adapt.solve import choose_strength, solve
from zoo.adapt.spectrum import decompose
from zoo.adapt.targets import row_weights
from zoo.adapt.validation import FOLDS, choose_regularizer, hold_out
from zoo.data.task import CLASSES, MULTI_LABEL, REGRESSION, Task
from zoo.errors import DataError

THREE = Task(CLASSES, ("a", "b", "c"))


def spoken(seed: int = 0, speakers: int = 10, rows: int = 24, d: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """float32 features that tell the speaker far better than the class, classes, and speakers."""
    random = np.random.default_rng(seed)
    groups = np.repeat(np.arange(speakers), rows)
    codes = np.tile(np.arange(3), speakers * rows // 3)
    x = random.normal(0, 3, (speakers, d))[groups] + 0.7 * np.eye(d)[codes] + random.normal(0, 0.5, (len(codes), d))
    # each speaker says each class in a way of his own, so that rows of one speaker tell one another's classes
    x += 1.5 * random.normal(size=(speakers, 3, d))[groups, codes]
    order = random.permutation(len(codes))
    return x[order].astype("f4"), codes[order], groups[order]


class TestFolds:
    @settings(max_examples=80, deadline=None)
    @given(
        sizes=st.lists(st.integers(1, 7), min_size=1, max_size=14),
        seed=st.integers(0, 10_000),
        classes=st.integers(1, 4),
        few=st.booleans(),
    )
    def test_groups_are_whole_and_every_class_stays(self, sizes: list[int], seed: int, classes: int, few: bool) -> None:
        groups = np.repeat(np.arange(len(sizes)), sizes)
        random = np.random.default_rng(seed)
        codes = groups % classes if few else random.integers(0, classes, len(groups))
        fold = folds_of_groups(codes, groups, 5, seed)
        used = sorted(set(fold.tolist()) - {NEVER})
        assert used == list(range(len(used)))
        for group in groups:
            assert len(set(fold[groups == group].tolist())) == 1
        for number in used:
            assert set(codes[fold != number].tolist()) == set(codes.tolist())
        assert (fold == folds_of_groups(codes, groups, 5, seed)).all()

    def test_they_are_as_many_as_asked_for_and_in_proportion(self) -> None:
        _, codes, groups = spoken()
        fold = folds_of_groups(codes, groups, 5, 0)
        assert [(fold == number).sum() for number in range(5)] == [48] * 5
        assert sorted(set(folds_of_groups(None, groups, 4, 0).tolist())) == [0, 1, 2, 3]

    def test_a_class_of_one_group_is_never_left_out(self) -> None:
        codes, groups = np.array([0, 1, 0, 1, 0, 1, 2]), np.array([0, 0, 1, 1, 2, 2, 2])
        fold = folds_of_groups(codes, groups, 5, 0)
        assert (fold[groups == 2] == NEVER).all()
        assert set(fold[groups != 2].tolist()) == {0, 1}
        assert (folds_of_groups(codes, np.zeros(7, dtype=int), 5, 0) == NEVER).all()


class TestProbe:
    def test_the_regularizer_has_the_least_log_loss_on_groups_left_out(self) -> None:
        x, codes, groups = spoken()
        features = torch.from_numpy(x)
        spectrum = decompose(features, 1.0)
        labels = torch.nn.functional.one_hot(torch.from_numpy(codes)).double()
        validation = hold_out(spectrum, labels, row_weights(labels, True, None), softmax=True, seed=0, groups=groups)
        chosen, _ = choose_regularizer(validation)
        fold = folds_of_groups(codes, groups, FOLDS, 0)
        rows = (spectrum.rows @ spectrum.basis.T).numpy()
        losses = []
        for regularizer in ridge.PATH[::4]:
            said = np.empty((len(codes), 3))
            for number in range(FOLDS):
                held = fold == number
                model = LogisticRegression(C=1 / (regularizer * (~held).sum()), solver="newton-cg", max_iter=1000)
                said[held] = model.fit(rows[~held], codes[~held]).predict_proba(rows[held])
            losses.append(log_loss(codes, said))
        assert abs(np.log10(chosen / ridge.PATH[::4][int(np.argmin(losses))])) <= 0.8  # one step of four of the path

    def test_it_is_stronger_than_rows_would_have_it(self) -> None:
        """Rows of one speaker know one another, so that leaving out rows asks for a regulariser that is too weak."""
        x, codes, groups = spoken()
        new, truth, _ = spoken(seed=5)
        features = torch.from_numpy(x)
        by_rows, by_groups = (solve(features, codes, THREE, groups=given) for given in (None, groups))
        assert by_groups.regularizer > 10 * by_rows.regularizer
        with torch.no_grad():
            losses = [
                float(torch.nn.functional.cross_entropy(one.head(torch.from_numpy(new)), torch.from_numpy(truth)))
                for one in (by_groups, by_rows)
            ]
        assert losses[0] < losses[1]

    @pytest.mark.parametrize("kind", [CLASSES, MULTI_LABEL, REGRESSION])
    @pytest.mark.parametrize("groups", ["singletons", "one"])
    def test_groups_that_cannot_be_left_out_change_nothing(self, kind: str, groups: str) -> None:
        x, codes, _ = spoken(speakers=4)
        targets = {CLASSES: codes, MULTI_LABEL: np.eye(3)[codes], REGRESSION: x[:, :1] + codes[:, None] * 1.0}[kind]
        task = Task(kind, ("y",) if kind == REGRESSION else THREE.classes)
        given = np.arange(len(codes)) if groups == "singletons" else np.zeros(len(codes), dtype=int)
        features = torch.from_numpy(x)
        plain, found = (solve(features, targets, task, groups=one) for one in (None, given))
        if groups == "singletons" or kind == REGRESSION:
            assert found.regularizer == plain.regularizer
            assert torch.equal(found.head.weight, plain.head.weight)
        else:  # all five folds of rows are looked at, not as few as do
            assert found.regularizer == pytest.approx(plain.regularizer, rel=10)

    def test_labels_and_views_go_by_groups(self) -> None:
        x, codes, groups = spoken()
        both = torch.from_numpy(np.concatenate([x, x + np.float32(0.01)]))
        labels = np.eye(3)[codes]
        task = Task(MULTI_LABEL, THREE.classes)
        weak = solve(both, labels, task, views=2).regularizer
        assert solve(both, labels, task, views=2, groups=groups).regularizer > 5 * weak


class TestRidge:
    @pytest.mark.parametrize("views", [1, 2])
    def test_errors_of_folds_left_out_are_scikit_learns(self, views: int) -> None:
        x, codes, groups = spoken(speakers=6)
        y = codes[:, None] + 0.1 * x[:, :2]
        fold = folds_of_groups(None, groups, 3, 0)
        fold[groups == 0] = NEVER
        blocks = np.concatenate([x + np.float32(0.3 * view) for view in range(views)])
        targets = np.concatenate([y] * views)
        found = ridge.leave_folds_out(
            torch.from_numpy(blocks), torch.from_numpy(targets), fold, 0.0, (0.01, 1.0), views=views
        )
        for error, regularizer in zip(found.tolist(), (0.01, 1.0), strict=True):
            total = 0.0
            for number in range(3):
                held = fold == number
                kept = np.concatenate([~held] * views)
                mean, scale = blocks[kept].mean(axis=0, dtype="f8"), blocks[kept].std(axis=0, dtype="f8")
                model = Ridge(alpha=regularizer * kept.sum()).fit((blocks[kept] - mean) / scale, targets[kept])
                total += ((model.predict((x[held] - mean) / scale) - y[held]) ** 2).sum()
            assert error == pytest.approx(total / (2 * (fold >= 0).sum()), rel=1e-6)

    def test_it_is_stronger_than_rows_would_have_it(self) -> None:
        x, codes, groups = spoken()
        features, targets = torch.from_numpy(x), torch.from_numpy(codes[:, None] * 1.0)
        spectrum = decompose(features, 1.0)
        assert choose_strength(spectrum, features, targets, 1.0, groups) > 5 * choose_strength(
            spectrum, features, targets, 1.0
        )


@pytest.mark.parametrize("kind", [CLASSES, REGRESSION])
def test_features_too_many_for_memory_go_by_groups(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, codes, groups = spoken()
    features, task = torch.from_numpy(x), THREE if kind == CLASSES else Task(kind, ("y",))
    targets = codes if kind == CLASSES else codes[:, None].astype("f4")
    here = solve(features, targets, task, groups=groups)
    monkeypatch.setattr(streamed, "LARGE", 1)
    there, weak = (solve(features, targets, task, groups=given) for given in (groups, None))
    assert there.regularizer == pytest.approx(here.regularizer, rel=1e-6)
    assert there.regularizer > 5 * weak.regularizer


def test_a_fit_tells_its_strategy_of_groups() -> None:
    """The record of a fit by speaker names a stronger regulariser than that of a fit by rows."""
    from zoo.data.arrays import ArraySamples
    from zoo.data.dataset import Data, Split

    x, codes, groups = spoken()
    names = tuple(f"s{number}" for number in range(10))

    def data(by: np.ndarray | None) -> Data:
        split = Split("train", ArraySamples(x), np.arange(len(x)), codes, THREE, by, names if by is not None else ())
        return Data("spoken", THREE, {"train": split})

    def own() -> zoo.Learner:
        module = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(30, 3))
        return zoo.compose(module, "linear-probe")

    found = {}
    for name, by in (("groups", groups), ("rows", None)):
        found[name] = own().fit(data(by)).record["resolved"]["regularizer"]
    assert found["groups"] > 5 * found["rows"]
    with pytest.raises(DataError, match="not divided"):
        own().fit(data(codes))

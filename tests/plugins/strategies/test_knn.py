"""knn against scikit-learn's neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from zoo_plugins.strategies.knn import head as knn_head
from zoo_plugins.strategies.knn import strategy as knn_strategy
from zoo_plugins.strategies.knn.head import Neighbours
from zoo_plugins.strategies.knn.strategy import KNearest

import zoo
from zoo.adapt.strategy import Context, probabilities
from zoo.data.task import CLASSES, MULTI_LABEL, REGRESSION, Task
from zoo.errors import DataError, IntegrityError, UsageError
from zoo.models.accelerator import choose


def _context(kind: str = CLASSES, outputs: int = 3) -> Context:
    return Context(task=Task(kind, tuple(f"c{i}" for i in range(outputs))), placement=choose("cpu", "fp32"))


def _rows(n: int = 90, d: int = 6, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    generator = np.random.default_rng(seed)
    y = np.arange(n) % 3
    return torch.from_numpy((generator.normal(size=(n, d)) + np.eye(3, d)[y]).astype("f4")), y


def _similar(temperature: float) -> object:
    """The weights that scikit-learn is to give to cosine distances."""
    return lambda distances: np.exp((1 - distances) / temperature)


def _found(probe: KNearest, x: torch.Tensor, y: np.ndarray, new: torch.Tensor, context: Context) -> np.ndarray:
    with torch.no_grad():
        return probabilities(probe.solve(x, y, context)(new), context.task).numpy()


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (20, 0.07), (7, 1.0), (90, 0.2)])
def test_it_is_scikit_learns_classifier(k: int, temperature: float) -> None:
    x, y = _rows()
    new, _ = _rows(50, seed=1)
    model = KNeighborsClassifier(k, metric="cosine", weights=_similar(temperature)).fit(x.numpy(), y)
    found = _found(KNearest(k=k, temperature=temperature), x, y, new, _context())
    assert np.abs(found - model.predict_proba(new.numpy())).max() < 1e-5


def test_labels_and_numbers_are_scikit_learns_too() -> None:
    x, y = _rows()
    new, _ = _rows(50, seed=1)
    labels = np.stack([y == 0, y < 2], axis=1).astype("f4")
    options = {"metric": "cosine", "weights": _similar(0.3)}
    model = KNeighborsClassifier(9, **options).fit(x.numpy(), labels.astype(int))
    expected = np.stack([part[:, 1] for part in model.predict_proba(new.numpy())], axis=1)
    found = _found(KNearest(k=9, temperature=0.3), x, labels, new, _context(MULTI_LABEL, 2))
    assert np.abs(found - expected).max() < 1e-5
    numbers = x.numpy()[:, :2] * 100
    model = KNeighborsRegressor(9, **options).fit(x.numpy(), numbers)
    found = _found(KNearest(k=9, temperature=0.3), x, numbers, new, _context(REGRESSION, 2))
    assert np.abs(found - model.predict(new.numpy())).max() < 1e-3


def test_votes_that_tie_go_to_the_first_class_as_in_scikit_learn() -> None:
    x, y = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]]), np.array([1, 0, 2, 2])
    model = KNeighborsClassifier(2, metric="cosine").fit(x.numpy(), y)
    found = _found(KNearest(k=2), x, y, x[:1], _context())
    assert found[0].tolist() == pytest.approx([0.5, 0.5, 0], abs=1e-6)
    assert found.argmax(axis=1).tolist() == model.predict(x.numpy()[:1]).tolist() == [0]


def test_rows_as_near_as_the_kth_share_its_place_whatever_their_order() -> None:
    x, y = torch.tensor([[1.0, 0], [1, 1], [2, 2], [3, 3], [0, 1]]), np.array([0, 0, 1, 2, 2])
    expected = None
    for order in ([0, 1, 2, 3, 4], [3, 2, 4, 1, 0], [2, 3, 1, 0, 4]):
        found = _found(KNearest(k=2, temperature=1.0), x[order], y[order], torch.tensor([[1.0, 0.0]]), _context())
        expected = found if expected is None else expected
        assert np.abs(found - expected).max() < 1e-6
    near = np.exp(np.sqrt(0.5) - 1) / 3
    assert expected[0] == pytest.approx(np.array([1 + near, near, near]) / (1 + 3 * near), abs=1e-5)


def test_a_row_counts_as_its_own_neighbour_except_when_it_is_left_out() -> None:
    x, y = _rows()
    head = KNearest(k=5).solve(x, y, _context())
    assert (KNearest(k=1).solve(x, y, _context())(x).argmax(dim=1).numpy() == y).all()
    distances = 1 - torch.nn.functional.normalize(x.double(), dim=1) @ torch.nn.functional.normalize(x.double()).T
    distances.fill_diagonal_(9)
    near = distances.argsort(dim=1)[:, :5]
    weights = ((1 - distances.gather(1, near)) / 0.07).exp()
    expected = torch.stack([(weights * torch.from_numpy(y == c)[near]).sum(dim=1) for c in range(3)], dim=1)
    expected = expected / expected.sum(dim=1, keepdim=True)
    assert (head.leave_one_out().exp() - expected).abs().max() < 1e-4


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = _rows()
    head = KNearest(k=5).solve(x, y, _context())
    whole, left = head(x), head.leave_one_out()
    monkeypatch.setattr(knn_head, "AT_ONCE", 700)
    torch.testing.assert_close(head(x), whole)
    torch.testing.assert_close(head.leave_one_out(), left)


def test_more_rows_than_the_limit_are_sampled_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn_strategy, "LIMIT", 6 * 31)
    x, y = _rows()
    context = _context()
    head = KNearest(k=5).solve(x, y, context)
    assert head.bank.shape == (30, 6)
    assert head.votes.sum(dim=0).tolist() == [10, 10, 10]
    assert context.notes == ["knn keeps 30 of 90 training rows, a seeded sample"]
    rows = {tuple(row.tolist()) for row in torch.nn.functional.normalize(x.double(), dim=1).float()}
    assert {tuple(row.tolist()) for row in head.bank} <= rows


def test_few_rows_are_all_neighbours() -> None:
    x, y = _rows(6)
    context = _context()
    assert KNearest().solve(x, y, context).k == 6
    assert "only 6 training rows" in context.notes[0]


def test_it_exports_as_one_graph() -> None:
    x, y = _rows()
    head = KNearest(k=5).solve(x, y, _context())
    batch = torch.export.Dim("batch")
    exported = torch.export.export(head, (x[:7],), dynamic_shapes=({0: batch},))
    torch.testing.assert_close(exported.module()(x[10:30]), head(x[10:30]))


@pytest.mark.usefixtures("tiny_plugin")
@pytest.mark.parametrize("kind", [CLASSES, MULTI_LABEL, REGRESSION])
def test_a_saved_run_predicts_the_same(kind: str, tmp_path) -> None:
    x = np.random.default_rng(0).integers(0, 255, (40, 8, 8, 3)).astype(np.uint8)
    codes = np.arange(40) % 3
    y = {CLASSES: codes, MULTI_LABEL: np.eye(3, dtype=int)[codes], REGRESSION: codes * 0.5}[kind]
    learner = zoo.compose("tiny", "knn", weights=None, k=3).fit((x, y))
    again = zoo.load(learner.save(tmp_path / "run"))
    assert np.array_equal(again.predict_proba(x), learner.predict_proba(x))
    assert isinstance(again.model.head, Neighbours)
    with pytest.raises(UsageError, match="only a linear head"):
        learner.publish("tiny.near")


def test_a_saved_head_without_rows_is_damaged() -> None:
    for tensors in ({}, {"bank": ()}, {"bank": (3, 4)}, {"classes": (3, 4)}):
        with pytest.raises(UsageError, match="no rows that vote"):
            KNearest().rebuild(4, 3, tensors)
    assert issubclass(IntegrityError, Exception)


@pytest.mark.parametrize("options", [{"k": 0}, {"k": 1.5}, {"temperature": 0.0}, {"temperature": -1.0}])
def test_bad_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        KNearest(**options)


def test_bad_data_is_refused() -> None:
    x, y = _rows()
    with pytest.raises(DataError, match="1 class without rows: c3"):
        KNearest().solve(x, y, _context(outputs=4))
    x[3, 2] = torch.nan
    with pytest.raises(DataError, match="features of 1 of 90"):
        KNearest().solve(x, y, _context())

"""coral: the alignment against SciPy's fractional powers, and what it is good for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.linalg import fractional_matrix_power
from zoo_plugins.strategies.coral.align import align, covariance
from zoo_plugins.strategies.coral.strategy import Coral
from zoo_plugins.strategies.linear_probe.strategy import LinearProbe

import zoo
from zoo.adapt.strategy import Context
from zoo.data.task import CLASSES, Task
from zoo.errors import DataError, UsageError
from zoo.models.accelerator import choose


def _features(n: int, d: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return (generator.normal(size=(n, d)) @ generator.normal(size=(d, d)) + generator.normal(size=d) * 5).astype("f4")


@pytest.mark.parametrize(("n", "m", "d"), [(200, 150, 6), (12, 9, 20)])
@pytest.mark.parametrize("shrinkage", [1.0, 0.01])
def test_it_is_the_formula_in_scipys_powers(n: int, m: int, d: int, shrinkage: float) -> None:
    source, target = _features(n, d, 0), _features(m, d, 1)
    s, t = (np.cov(x.astype("f8").T, bias=True) for x in (source, target))
    loading = shrinkage * (np.trace(s) + np.trace(t)) / (2 * d) * np.eye(d)
    matrix = np.real(fractional_matrix_power(s + loading, -0.5) @ fractional_matrix_power(t + loading, 0.5))
    expected = (source - source.mean(axis=0, dtype="f8")) @ matrix + target.mean(axis=0, dtype="f8")
    found = align(torch.from_numpy(source), torch.from_numpy(target), shrinkage)(torch.from_numpy(source))
    assert found.dtype == torch.float32
    assert np.abs(found.numpy() - expected).max() < 1e-4


def test_with_little_shrinkage_mean_and_covariance_become_the_targets() -> None:
    source, target = (torch.from_numpy(_features(400, 5, seed)) for seed in (0, 1))
    mean, found = covariance(align(source, target, 1e-9)(source))
    wanted_mean, wanted = covariance(target)
    torch.testing.assert_close(mean, wanted_mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
    assert (covariance(source)[1] - wanted).abs().max() > 1


def test_features_that_do_not_vary_move_to_the_targets_mean() -> None:
    found = align(torch.zeros(5, 3), torch.ones(4, 3), 1.0)(torch.zeros(2, 3))
    assert found.tolist() == torch.ones(2, 3).tolist()


def _domains(seed: int = 0) -> tuple[torch.Tensor, np.ndarray, torch.Tensor, np.ndarray]:
    """Two domains of the same two classes: the target is rotated, stretched and moved."""
    generator = np.random.default_rng(seed)
    y = np.arange(400) % 2
    x = generator.normal(size=(400, 4)) * [1.0, 3.0, 1.0, 0.5]
    x[:, 0] += 3 * y
    angle = np.pi / 5
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    moved = (x @ turn) * [1.0, 1.5, 0.5, 2.0] + [4.0, -3.0, 0.0, 1.0]
    return torch.from_numpy(x[:200].astype("f4")), y[:200], torch.from_numpy(moved[200:].astype("f4")), y[200:]


def _context(target: torch.Tensor | None) -> Context:
    placement = choose("cpu", "fp32")
    return Context(Task(CLASSES, ("a", "b")), placement, target=None if target is None else lambda: target)


def test_it_finds_the_classes_of_a_domain_that_moved() -> None:
    x, y, target, truth = _domains()
    context = _context(target)

    def accuracy(probe: LinearProbe) -> float:
        return float((probe.solve(x, y, context)(target).argmax(dim=1).numpy() == truth).mean())

    assert accuracy(LinearProbe()) < 0.75
    assert accuracy(Coral(shrinkage=1e-3)) > accuracy(LinearProbe()) + 0.1
    assert accuracy(Coral(shrinkage=1e-3, head="mlp(8)")) > accuracy(LinearProbe()) + 0.1


def test_between_equal_domains_it_is_the_linear_probe() -> None:
    x, y, _, _ = _domains()
    found = Coral(regularizer=0.1).solve(x, y, _context(x.clone()))
    expected = LinearProbe(regularizer=0.1).solve(x, y, _context(None))
    torch.testing.assert_close(found.weight, expected.weight, rtol=1e-4, atol=1e-5)


def test_every_option_counts() -> None:
    x, y, target, _ = _domains()

    def weight(**options: object) -> torch.Tensor:
        return Coral(**options).solve(x, np.minimum(y + (np.arange(200) < 20), 1), _context(target)).weight

    for change in ({"shrinkage": 0.1}, {"regularizer": 0.5}, {"class_weight": "balanced"}, {"floor": 0.0}):
        assert not torch.equal(weight(), weight(**change)), change
    fields = {field.name for field in dataclasses.fields(Coral)}
    assert {field.name for field in dataclasses.fields(LinearProbe)} < fields


@pytest.mark.usefixtures("tiny_plugin")
def test_a_fit_says_what_its_report_is_worth_and_a_saved_run_predicts_the_same(tmp_path) -> None:
    generator = np.random.default_rng(0)
    x = generator.integers(0, 200, (60, 8, 8, 3)).astype(np.uint8)
    y, target, new = np.arange(60) % 3, 255 - x[:40], 255 - x[40:]
    learner = zoo.compose("tiny", "coral", weights=None).fit((x[:40], y[:40]), target=target)
    assert any("reported rows come from the labelled data" in note for note in learner.notes)
    judged = zoo.compose("tiny", "coral", weights=None).fit((x[:40], y[:40]), (new, y[40:]), target)
    assert not any("reported rows" in note for note in judged.notes)
    assert judged.evaluation.n == 20
    assert judged.evaluate((new, y[40:])).confusion == judged.evaluation.confusion
    again = zoo.load(judged.save(tmp_path / "run"))
    assert np.array_equal(again.predict_proba(new), judged.predict_proba(new))
    with pytest.raises(UsageError, match="needs unlabelled target data"):
        zoo.compose("tiny", "coral", weights=None).fit((x, y))
    with pytest.raises(UsageError, match="target data has labels"):
        zoo.compose("tiny", "coral", weights=None).fit((x, y), target=(x, y))


def test_bad_input_is_refused() -> None:
    x, y, target, _ = _domains()
    with pytest.raises(UsageError, match="shrinkage must be above 0"):
        Coral(shrinkage=0.0)
    with pytest.raises(UsageError, match="needs unlabelled target"):
        Coral().solve(x, y, _context(None))
    target[3, 1] = torch.inf
    with pytest.raises(DataError, match="features of 1 of 200"):
        Coral().solve(x, y, _context(target))

"""linear-probe: its options, its heads, and what it imports."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from zoo_plugins.strategies.linear_probe.strategy import LinearProbe

from zoo.adapt.heads import build_head
from zoo.adapt.solve import solve_head
from zoo.adapt.strategy import ClosedForm, Context
from zoo.catalog.registry import Registry
from zoo.catalog.targets import load
from zoo.data.task import CLASSES, MULTI_LABEL, REGRESSION, Task
from zoo.errors import TrainingError, UsageError
from zoo.models.accelerator import choose


def _context(task: Task, seed: int = 0) -> Context:
    return Context(task=task, placement=choose("cpu", "fp32"), seed=seed)


def _rings(rows: int = 300) -> tuple[torch.Tensor, np.ndarray, Task]:
    """Two rings, off centre and of unequal scale: no line tells them apart."""
    generator = np.random.default_rng(0)
    y = np.arange(rows) % 2
    angle = generator.uniform(0, 2 * np.pi, rows)
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1) * (1 + 2 * y)[:, None] + generator.normal(size=(rows, 2)) * 0.1
    return torch.from_numpy((x * [1.0, 50.0] + [3.0, -70.0]).astype("f4")), y, Task(CLASSES, ("in", "out"))


def _accuracy(head: torch.nn.Module, x: torch.Tensor, y: np.ndarray) -> float:
    with torch.no_grad():
        return float((head(x).argmax(dim=1).numpy() == y).mean())


def test_the_spec_says_what_the_class_takes() -> None:
    spec = Registry(entry_points=False).strategy("linear_probe")
    made = load(spec.make)
    assert made is LinearProbe
    assert issubclass(made, ClosedForm)
    assert spec.kind == "closed-form"
    assert dict(spec.options) == {field.name: field.default for field in dataclasses.fields(made)}


def test_the_linear_head_is_the_solvers() -> None:
    x, y, task = _rings()
    options = {"regularizer": 0.1, "class_weight": "balanced", "floor": 0.5}
    found = LinearProbe(**options).solve(x, y[:200].repeat(2)[:300], _context(task))
    expected = solve_head(x, y[:200].repeat(2)[:300], task, calibrate=True, **options)
    assert torch.equal(found.weight, expected.weight)
    assert torch.equal(found.bias, expected.bias)


def test_an_mlp_learns_what_no_line_can() -> None:
    x, y, task = _rings()
    probe = LinearProbe(head="mlp(32)")
    head = probe.solve(x, y, _context(task))
    assert _accuracy(LinearProbe().solve(x, y, _context(task)), x, y) < 0.7
    assert _accuracy(head, x, y) > 0.98
    rebuilt = probe.rebuild(2, 2, {})
    rebuilt.load_state_dict(head.state_dict())
    assert torch.equal(rebuilt(x), head(x))
    assert {name: p.shape for name, p in build_head("mlp(32)", 2, 2).named_parameters()} == {
        name: p.shape for name, p in head.named_parameters()
    }


def test_an_mlp_learns_numbers_and_labels() -> None:
    x, y, _ = _rings()
    numbers = np.stack([np.hypot(*((x.numpy() - [3, -70]) / [1, 50]).T) * 1000 + 5e4, np.full(300, 7.0)], axis=1)
    numbers = numbers.astype("f4")
    head = LinearProbe(head="mlp(32)").solve(x, numbers, _context(Task(REGRESSION, ("a", "b"))))
    with torch.no_grad():
        found = head(x).numpy()
    assert np.abs(found - numbers).mean(axis=0)[0] < 0.2 * numbers[:, 0].std()
    assert np.abs(found[:, 1] - 7).max() < 0.1
    labels = np.stack([y, x[:, 0].numpy() > 3], axis=1).astype("f4")
    head = LinearProbe(head="mlp(32)").solve(x, labels, _context(Task(MULTI_LABEL, ("a", "b"))))
    with torch.no_grad():
        assert ((head(x) > 0).numpy() == labels).mean() > 0.97


def test_every_option_of_an_mlp_counts() -> None:
    x, y, task = _rings()
    y[:100] = 0
    base = LinearProbe(head="mlp(8)", epochs=3)

    def weights(probe: LinearProbe, seed: int = 0) -> torch.Tensor:
        return probe.solve(x, y, _context(task, seed)).out.weight

    first = weights(base)
    assert torch.equal(first, weights(base))
    assert not torch.equal(first, weights(base, seed=1))
    for change in ({"epochs": 4}, {"lr": 0.01}, {"regularizer": 0.5}, {"class_weight": "balanced"}, {"floor": 3.0}):
        assert not torch.equal(first, weights(dataclasses.replace(base, **change))), change


def test_an_mlp_leaves_the_callers_random_numbers_alone() -> None:
    x, y, task = _rings(64)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    LinearProbe(head="mlp(4)", epochs=1).solve(x, y, _context(task))
    assert torch.equal(torch.rand(3), expected)


def test_an_mlp_that_explodes_is_said() -> None:
    x, y, task = _rings()
    with pytest.raises(TrainingError, match="loss became"):
        LinearProbe(head="mlp(4)", epochs=5, lr=1e30).solve(x, y, _context(task))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"regularizer": "strong"}, "regularizer must be"),
        ({"class_weight": "even"}, "class_weight must be"),
        ({"floor": -1.0}, "floor must be"),
        ({"head": "mlp"}, "no head called 'mlp'"),
        ({"head": "mlp(0)"}, "no head called"),
        ({"epochs": 3}, "a linear head has no epochs"),
        ({"epochs": 3, "lr": 0.1}, "no epochs and no lr"),
        ({"head": "mlp(8)", "epochs": 0}, "epochs must be"),
        ({"head": "mlp(8)", "lr": 0.0}, "lr must be"),
        ({"head": "mlp(8)", "lr": "fast"}, "lr must be"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LinearProbe(**options)


def test_the_solver_imports_neither_scikit_learn_nor_scipy() -> None:
    code = """
import sys, numpy, torch
from zoo.data.task import Task
from zoo_plugins.strategies.linear_probe.strategy import LinearProbe
from zoo.adapt.strategy import Context
from zoo.models.accelerator import choose
context = Context(task=Task("classes", ("a", "b")), placement=choose("cpu", "fp32"))
LinearProbe().solve(torch.randn(20, 3), numpy.arange(20) % 2, context)
print(sorted({name.partition(".")[0] for name in sys.modules} & {"sklearn", "scipy", "torchmetrics", "timm"}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""linear-probe: its options, its heads, and what it imports."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from zoo_plugins.strategies.linear_probe.strategy import LinearProbe

import zoo
from zoo.adapt import ridge
from zoo.adapt.features import FeatureStore
from zoo.adapt.heads import build_head
from zoo.adapt.solve import solve_head
from zoo.adapt.strategy import Context
from zoo.data.loading import batches
from zoo.data.open import open_data
from zoo.data.preprocess import reader
from zoo.data.split import stratified
from zoo.data.task import CLASSES, MULTI_LABEL, REGRESSION, Task
from zoo.data.views import viewed
from zoo.errors import TrainingError, UsageError
from zoo.models.accelerator import choose
from zoo.models.network import Network


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
        ({"head": "mlp(8)", "calibrate": True}, "calibrate is for a linear head"),
        ({"calibrate": "yes"}, "calibrate must be"),
        ({"class_weight": {"a": -1.0}}, "class_weight of 'a' must be"),
        ({"views": 0}, "views must be 1 to 16"),
        ({"views": 17}, "views must be 1 to 16"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LinearProbe(**options)


def test_what_was_settled_is_recorded() -> None:
    x, y, task = _rings()
    context = _context(task)
    head = LinearProbe(regularizer=0.1).solve(x, y, context)
    assert context.resolved["regularizer"] == 0.1
    raw = solve_head(x, y, task, regularizer=0.1)
    torch.testing.assert_close(head.weight * context.resolved["temperature"], raw.weight, rtol=1e-4, atol=1e-6)
    plain = _context(task)
    head = LinearProbe(regularizer=0.1, calibrate=False).solve(x, y, plain)
    assert torch.equal(head.weight, raw.weight)
    assert "temperature" not in plain.resolved
    numbers = _context(Task(REGRESSION, ("a",)))
    LinearProbe().solve(x, x[:, :1].numpy(), numbers)
    assert list(numbers.resolved) == ["regularizer"]
    with pytest.raises(UsageError, match="calibrate is for classes"):
        LinearProbe(calibrate=True).solve(x, x[:, :1].numpy(), numbers)


@pytest.mark.usefixtures("tiny_plugin")
@pytest.mark.parametrize("head", ["linear", "mlp(4)"])
def test_views_are_more_training_rows_computed_once(head: str, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    x = np.random.default_rng(0).integers(0, 255, (30, 9, 9, 3)).astype(np.uint8)
    y = np.arange(30) % 3
    passed = []
    forward = Network.features
    monkeypatch.setattr(Network, "features", lambda self, x: passed.append(len(x)) or forward(self, x))
    seen = []
    method = LinearProbe.training_features
    monkeypatch.setattr(LinearProbe, "training_features", lambda *a: seen.append(method(*a)) or seen[-1])
    store = FeatureStore()
    options = {"weights": None, "head": head, "store": store, "precision": "fp32"}
    learner = zoo.compose("tiny", "linear-probe", views=3, **options).fit((x, y))
    assert sum(passed) == 3 * 24 + 6
    zoo.compose("tiny", "linear-probe", views=2, **options).fit((x, y))
    assert sum(passed) == 3 * 24 + 6
    assert [len(rows) for rows in seen] == [72, 48]
    assert torch.equal(seen[0][:48], seen[1])
    plain = zoo.compose("tiny", "linear-probe", **options).fit((x, y))
    assert torch.equal(seen[2], seen[0][:24])
    first, second = (next(one.model.head.parameters()) for one in (learner, plain))
    assert not torch.equal(first, second)
    train = open_data((x, y)).train.subset(stratified(y, 0.2, 0)[0])
    with torch.no_grad():
        cropped = batches(viewed(train, 1), reader(learner.model.backbone.preprocessing), 24)
        expected = forward(learner.model.backbone, next(iter(cropped)).x)
    torch.testing.assert_close(seen[0][24:48], expected, rtol=1e-4, atol=1e-5)
    again = zoo.load(learner.save(tmp_path / "run"))
    assert np.array_equal(again.predict_proba(x), learner.predict_proba(x))
    with pytest.raises(UsageError, match="has no views"):
        zoo.compose("tiny", "linear-probe", views=2, **options).fit((x.transpose(0, 3, 1, 2) / 255.0, y))


@pytest.mark.usefixtures("tiny_plugin")
def test_a_saved_run_keeps_the_temperature_and_the_weights(tmp_path) -> None:
    x = np.random.default_rng(0).integers(0, 255, (60, 8, 8, 3)).astype(np.uint8)
    y = np.array(["ant", "bee"] * 30)
    learner = zoo.compose("tiny", "linear-probe", weights=None, class_weight={"ant": 3.0}).fit((x, y))
    run = learner.save(tmp_path / "run")
    facts = json.loads((run / "run.json").read_text())["composition"]["strategy"]
    assert facts["options"]["class_weight"] == {"ant": 3.0}
    assert facts["resolved"]["temperature"] == learner.record["resolved"]["temperature"] > 0
    assert facts["resolved"]["regularizer"] in ridge.PATH
    again = zoo.load(run)
    assert again.strategy == learner.strategy
    assert np.array_equal(again.predict_proba(x), learner.predict_proba(x))
    with pytest.raises(UsageError, match="names 'wasp'"):
        zoo.compose("tiny", "linear-probe", weights=None, class_weight={"wasp": 3.0}).fit((x, y))


def test_a_probe_imports_what_it_needs_alone() -> None:
    """Half of a probe's process is imports."""
    code = """
import sys, zoo
learner = zoo.compose("source_cnn", "linear-probe", weights=None).fit("digits", labels_per_class=3)
str(learner.evaluation)
print(sorted({name.partition(".")[0] for name in sys.modules} & {
    "sklearn", "scipy", "pandas", "torchmetrics", "timm", "torchvision", "accelerate", "huggingface_hub", "datasets"
}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

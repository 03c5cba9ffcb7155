"""adabn: its statistics against torch's training mode, and what it is good for."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from zoo_plugins.strategies.adabn.statistics import layers, reestimate
from zoo_plugins.strategies.adabn.strategy import AdaBN

import zoo
from zoo.adapt.features import tensor_hashes
from zoo.adapt.strategy import Context
from zoo.data.task import CLASSES, Task
from zoo.errors import UsageError
from zoo.models.accelerator import choose
from zoo.models.network import Network
from zoo.testing.networks import Tiny, TinyPair


def _context() -> Context:
    return Context(Task(CLASSES, ("a", "b")), choose("cpu", "fp32"))


def _network(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return Network(Tiny()).eval()


def _pictures(n: int = 50) -> torch.Tensor:
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 3 + 5


def test_it_is_torchs_training_mode_with_all_rows_in_one_batch() -> None:
    network, x = _network(), _pictures()
    oracle = copy.deepcopy(network)
    changed = reestimate(network, x.split(7), _context())
    norms = {name: module for name, module in oracle.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert changed == {f"{name}.{what}" for name in norms for what in ("running_mean", "running_var")}
    for module in norms.values():
        module.momentum = None
        module.train()
    with torch.no_grad():
        expected = oracle.features(x)
        torch.testing.assert_close(network.features(x), expected, rtol=1e-4, atol=1e-5)
    count = len(x) * 64
    for name, module in norms.items():
        mine = network.get_submodule(name)
        torch.testing.assert_close(mine.running_mean, module.running_mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(mine.running_var * count / (count - 1), module.running_var, rtol=1e-4, atol=1e-5)


def test_neither_order_nor_batch_size_matters() -> None:
    x = _pictures()
    found = []
    for rows, size in ((x, 50), (x, 1), (x, 7), (x.flip(0), 7), (x[torch.randperm(50)], 16)):
        network = _network()
        reestimate(network, rows.split(size), _context())
        found.append(network.norm.running_var.clone())
        found.append(network.layer1[2].running_mean.clone())
    for i in range(2, len(found)):
        torch.testing.assert_close(found[i], found[i % 2], rtol=1e-5, atol=1e-6)


def test_nothing_else_changes() -> None:
    network = _network()
    network.norm.train()
    before = tensor_hashes(network)
    changed = reestimate(network, _pictures().split(8), _context())
    after = tensor_hashes(network)
    assert {name for name in before if before[name] != after[name]} == changed
    assert network.norm.training
    assert not network.layer1.training
    assert not network.norm.running_mean.is_inference()


def test_only_layers_before_the_tap_count() -> None:
    torch.manual_seed(0)
    network = Network(Tiny(), tap="norm").eval()
    assert layers(network, _pictures(2)) == ["norm"]
    assert layers(_network(), _pictures(2)) == ["norm", "layer1.2"]


class Twice(Tiny):
    """Passes one layer two times."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(self.conv.weight.new_zeros(()) + x * self.norm(self.norm(self.conv(x))).mean())


def test_a_network_that_it_cannot_adapt_is_refused() -> None:
    with pytest.raises(UsageError, match="needs BatchNorm") as caught:
        zoo.compose("source_cnn", "adabn", weights=None).fit("digits", target="glyphs:50", ignore_target_labels=True)
    assert "coral" in caught.value.hint
    with pytest.raises(UsageError, match="'norm' is passed more than once"):
        reestimate(Network(Twice()).eval(), [_pictures(4)], _context())
    flat = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    with pytest.raises(UsageError, match="sees 1 value a channel"):
        reestimate(Network(flat).eval(), [torch.ones(1, 4)], _context())
    with pytest.raises(UsageError, match="rows must be above 0"):
        AdaBN(rows=0)
    ids = torch.zeros(2, 3, dtype=torch.long)
    with pytest.raises(UsageError, match="needs BatchNorm"):
        reestimate(Network(TinyPair()).eval(), [(ids, torch.ones(2, 3))], _context())


def _domains() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Stripes across or down; in the target's pictures they are bright on a much brighter ground, and faint."""
    generator = np.random.default_rng(0)
    y = np.arange(240) % 2
    stripes = (np.arange(8) % 2 * 2 - 1.0)[None, :, None] * np.ones((1, 1, 8))
    x = (
        np.where(y[:, None, None] == 0, stripes, stripes.transpose(0, 2, 1)) * 18
        + generator.normal(size=(240, 8, 8)) * 40
    )
    x = np.repeat(x[..., None], 3, axis=3)
    x[:120] = x[:120] * 1.2 + 70
    x[120:] = x[120:] * 0.5 + 190
    x = x.clip(0, 255).astype(np.uint8)
    return x[:120], y[:120], x[120:], y[120:]


@pytest.mark.usefixtures("tiny_plugin")
def test_a_fit_end_to_end(tmp_path) -> None:
    x, y, target, truth = _domains()
    learner = zoo.compose("tiny", "adabn", weights=None, precision="fp32", rows=64)
    learner.fit((x, y), (target[60:], truth[60:]), target[:60])
    plain = zoo.compose("tiny", "linear-probe", weights=None, precision="fp32").fit((x, y), (target[60:], truth[60:]))
    assert learner.evaluation.accuracy > plain.evaluation.accuracy + 0.1
    # The head saw training rows under their own statistics; the target's are left.
    network = plain.model.backbone
    changed = {
        name for name, value in tensor_hashes(network).items() if tensor_hashes(learner.model.backbone)[name] != value
    }
    assert changed == {f"{n}.{s}" for n in ("norm", "layer1.2") for s in ("running_mean", "running_var")}
    again = zoo.load(learner.save(tmp_path / "run"))
    assert np.array_equal(again.predict_proba(target), learner.predict_proba(target))
    twice = learner.fit((x, y), (target[60:], truth[60:]), target[:60][::-1])
    assert twice.evaluation.confusion == again.evaluation.confusion

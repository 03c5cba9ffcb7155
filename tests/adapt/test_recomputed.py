"""Gradient checkpointing: right gradients, or a word."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import zoo
from zoo.errors import UsageError


class Checkpointed(nn.Module):
    """Stem and layer1 are computed again together, layer2 alone."""

    def __init__(self, reentrant: bool, again: bool = True) -> None:
        super().__init__()
        self.reentrant, self.again = reentrant, again
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.layer1 = nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.layer2 = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.fc = nn.Linear(8, 3)

    def early(self, x: Tensor) -> Tensor:
        return self.layer1(self.stem(x))

    def forward(self, x: Tensor) -> Tensor:
        x = self.run(self.early, x.clone().requires_grad_(torch.is_grad_enabled()))
        return self.fc(self.run(self.layer2, x).mean(dim=(2, 3)))

    def run(self, part: Any, x: Tensor) -> Tensor:
        if not self.again or not torch.is_grad_enabled():
            return part(x)
        return checkpoint(part, x, use_reentrant=self.reentrant)


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(24) % 3
    x = np.eye(3)[y][:, :, None, None] + np.random.default_rng(1).normal(0, 1, (24, 3, 8, 8))
    return x.astype(np.float32), y


def fitted(strategy: str, data: Any, reentrant: bool = False, again: bool = True, **options: Any) -> Any:
    torch.manual_seed(0)
    module = Checkpointed(reentrant, again)
    return zoo.compose(module, strategy, epochs=1, batch_size=8, precision="fp32", seed=3, **options).fit(data)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("strategy", ["lora", "bitfit"])
def test_changes_are_not_learned_from_wrong_gradients(strategy: str, reentrant: bool, data: Any) -> None:
    with pytest.raises(UsageError, match="gradient checkpointing"):
        fitted(strategy, data, reentrant)
    assert fitted(strategy, data, reentrant, again=False).evaluation.n


def test_nor_is_what_follows_a_frozen_front(data: Any) -> None:
    """Its last module is computed again together with one that is trained."""
    with pytest.raises(UsageError, match="cache=False"):
        fitted("fine-tune", data, freeze="stem")
    found, plain = (fitted("fine-tune", data, freeze="stem", cache=False, again=again) for again in (True, False))
    for name, tensor in plain.model.state_dict().items():
        assert torch.equal(tensor, found.model.state_dict()[name]), name


@pytest.mark.parametrize("freeze", ["none", "layer1"])
def test_where_nothing_is_put_in_place_it_is_allowed(freeze: str, data: Any) -> None:
    """Or where the parts that are computed again are behind the front."""
    found, plain = (fitted("fine-tune", data, freeze=freeze, again=again) for again in (True, False))
    for name, tensor in plain.model.state_dict().items():
        assert torch.equal(tensor, found.model.state_dict()[name]), name


def test_a_network_of_timm(data: Any) -> None:
    timm = pytest.importorskip("timm")
    module = timm.create_model("resnet10t", num_classes=3)
    module.set_grad_checkpointing(True)
    x, y = data
    with pytest.raises(UsageError, match="gradient checkpointing"):
        zoo.compose(module, "lora", epochs=1, precision="fp32", init="random").fit((x.repeat(4, 2).repeat(4, 3), y))

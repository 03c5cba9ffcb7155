"""A network that comes back without its classifier."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from zoo.catalog.spec import Backbone, Weights
from zoo.models.load import load_network
from zoo.models.restore import restore_network
from zoo.testing.networks import Tiny


class Wilful(Tiny):
    """Goes another way where its classifier is an identity, as timm's CrossViT does."""

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.classifier, nn.Identity):
            return self.pool(self.layer1(self.norm(self.conv(x)))).flatten(1)
        return super().forward(x)


def test_the_tap_is_reached_whatever_the_network_does_without_a_classifier() -> None:
    spec = Backbone(name="wilful", family="t", build=Wilful, num_features=8, params=930, head="classifier")
    whole = load_network(spec, None, None)
    tensors = {name: tensor for name, tensor in whole.state_dict().items() if not name.startswith("classifier.")}
    weights = Weights(name="wilful.w", backbone="wilful", source="hf://o/r@main/m.safetensors", num_classes=10)
    bare = restore_network(spec, tensors, weights=weights, in_chans=3, tap=None, preprocessing=None, where=Path("run"))
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(bare.features(x), whole.features(x))
        assert torch.equal(bare(x), whole.features(x))
    assert bare.source_head is None


@pytest.mark.parametrize("others", [(nn.Linear(8, 8), nn.ReLU()), ()])
def test_a_head_that_was_found_stays_the_head(others: tuple[nn.Module, ...]) -> None:
    """Without its classifier another linear layer would be the last one, of the same width; or there is none."""

    def build(*, num_classes: int = 10, in_chans: int = 3) -> nn.Module:
        return nn.Sequential(nn.Conv2d(in_chans, 8, 8), nn.Flatten(), *copy.deepcopy(others), nn.Linear(8, num_classes))

    spec = Backbone(name="plain", family="t", build=build, num_features=8, params=1706, input_size=(3, 8, 8))
    whole = load_network(spec, None, None)
    (place,) = whole.head_names
    tensors = {name: tensor for name, tensor in whole.state_dict().items() if not name.startswith(f"{place}.")}
    weights = Weights(name="plain.none", backbone="plain", source="", num_classes=10)
    bare = restore_network(spec, tensors, weights=weights, in_chans=3, tap=None, preprocessing=None, where=Path("run"))
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(bare.features(x), whole.features(x))
    assert bare.head_names == whole.head_names == (str(2 + len(others)),)

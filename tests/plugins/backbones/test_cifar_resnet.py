"""The CIFAR ResNets against what the paper says of them (He et al. 2015, section 4.2 and table 6)."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from zoo_plugins.backbones import cifar_resnet
from zoo_plugins.backbones.cifar_resnet.network import Shortcut, cifar_resnet20

from zoo.catalog.targets import load

SPECS = {spec.name: spec for spec in cifar_resnet.zoo_backbones()}


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_depth_and_parameters_are_the_papers(depth: int, millions: float) -> None:
    with torch.device("meta"):
        module = load(SPECS[f"cifar_resnet{depth}"].build)()
    layers = [child for child in module.modules() if isinstance(child, (nn.Conv2d, nn.Linear))]
    assert len(layers) == depth
    count = sum(parameter.numel() for parameter in module.parameters())
    assert round(count / 1e6, 1 if depth == 110 else 2) == millions


def test_maps_have_the_papers_sizes() -> None:
    module = cifar_resnet20().eval()
    x, seen = torch.rand(2, 3, 32, 32), []
    for stage in ("relu", "layer1", "layer2", "layer3"):
        module.get_submodule(stage).register_forward_hook(lambda *call: seen.append(tuple(call[2].shape[1:])))
    with torch.no_grad():
        assert module(x).shape == (2, 10)
    assert seen == [(16, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8)]


def test_shortcut_takes_every_second_pixel_and_pads_channels_on_both_sides() -> None:
    x = torch.arange(2 * 4 * 6 * 6, dtype=torch.float32).reshape(2, 4, 6, 6)
    y = Shortcut(2)(x)
    assert y.shape == (2, 8, 3, 3)
    assert torch.equal(y[:, 2:6], x[:, :, ::2, ::2])
    assert not y[:, :2].any()
    assert not y[:, 6:].any()


def test_tensors_have_the_published_names() -> None:
    names = set(cifar_resnet20().state_dict())
    assert {"conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "layer3.2.bn2.bias", "linear.weight"} <= names
    assert {name.split(".")[0] for name in names} == {"conv1", "bn1", "layer1", "layer2", "layer3", "linear"}
    assert not any("shortcut" in name or "downsample" in name for name in names)


def test_random_weights_train() -> None:
    torch.manual_seed(0)
    module = cifar_resnet20(num_classes=2)
    x, y = torch.rand(16, 3, 32, 32), torch.arange(16) % 2
    x[y == 1] += 1
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(module(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2

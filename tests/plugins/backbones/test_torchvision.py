"""ResNet and VGG as timm builds them, against torchvision's on the same weights."""

from __future__ import annotations

import pytest
import torch
import torchvision
from zoo_plugins.backbones import resnet, vgg

import zoo
from zoo.catalog.targets import load
from zoo.models.network import Network


def built(spec: zoo.Backbone, state: dict[str, torch.Tensor]) -> torch.nn.Module:
    with torch.device("meta"):
        module = load(spec.build)(num_classes=1000, in_chans=3).eval()
    module.load_state_dict(state, strict=True, assign=True)
    return module


def random_state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Values for every tensor of a module on `meta`, kept at a scale that lets signals through."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, tensor in module.state_dict().items():
        values = torch.empty(tensor.shape).normal_(generator=generator)
        fan_in = tensor[0].numel() if tensor.ndim > 1 else 100
        if tensor.dtype == torch.long:
            state[name] = torch.zeros(tensor.shape, dtype=torch.long)
        else:
            state[name] = values.abs_().add_(0.5) if name.endswith("running_var") else values.mul_((2 / fan_in) ** 0.5)
    return state


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_resnet_gives_torchvisions_logits(name: str) -> None:
    spec = next(spec for spec in resnet.zoo_backbones() if spec.name == name)
    with torch.device("meta"):
        theirs = torchvision.models.get_model(name, weights=None).eval()
    state = random_state(theirs)
    theirs.load_state_dict(state, strict=True, assign=True)
    x = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = built(spec, state)
        expected = theirs(x)
        assert expected.std() > 1e-3
        torch.testing.assert_close(ours(x), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(theirs.fc(Network(ours, spec).features(x)), expected, rtol=1e-4, atol=1e-5)


def test_vgg_gives_torchvisions_logits() -> None:
    spec = next(spec for spec in vgg.zoo_backbones() if spec.name == "vgg11")
    with torch.device("meta"):
        theirs = torchvision.models.vgg11(weights=None).eval()
    state = random_state(theirs)
    theirs.load_state_dict(state, strict=True, assign=True)
    renamed = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}
    shapes = {"pre_logits.fc1.weight": (4096, 512, 7, 7), "pre_logits.fc2.weight": (4096, 4096, 1, 1)}
    mapped = {}
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        new = f"{renamed.get(layer, layer)}.{kind}"
        mapped[new] = tensor.reshape(shapes.get(new, tensor.shape))
    x = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs(x)
        assert expected.std() > 1e-3
        torch.testing.assert_close(built(spec, mapped)(x), expected, rtol=1e-3, atol=1e-4)

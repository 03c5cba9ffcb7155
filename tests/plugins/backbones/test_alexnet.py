"""AlexNet against torchvision's."""

from __future__ import annotations

import pytest
import torch
from torchvision.models import alexnet as torchvision_alexnet
from zoo_plugins.backbones.alexnet.network import alexnet

import zoo


@pytest.fixture(scope="module")
def pair() -> tuple[torch.nn.Module, torch.nn.Module]:
    torch.manual_seed(0)
    theirs = torchvision_alexnet(weights=None).eval()
    with torch.device("meta"):
        ours = alexnet().eval()
    ours.load_state_dict(theirs.state_dict(), strict=True, assign=True)
    return ours, theirs


@pytest.mark.parametrize("size", [(224, 224), (63, 63), (100, 131)])
def test_logits_are_bit_equal_to_torchvisions(pair: tuple[torch.nn.Module, torch.nn.Module], size: tuple[int, int]):
    ours, theirs = pair
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


def test_tensors_have_torchvisions_names_and_order(pair: tuple[torch.nn.Module, torch.nn.Module]) -> None:
    ours, theirs = pair
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_too_small_an_image_is_refused() -> None:
    with torch.device("meta"):
        module, image = alexnet(), torch.empty(1, 3, 62, 224)
    with pytest.raises(zoo.DataError, match="at least 63 x 63, not 62 x 224"):
        module(image)

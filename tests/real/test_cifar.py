"""The published CIFAR ResNet weights on real CIFAR pictures (JPEG copies, which cost about ten points)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from zoo_plugins.backbones import cifar_resnet

from zoo.catalog import ledger
from zoo.models.load import load_network

SPECS = {spec.name: spec for spec in cifar_resnet.zoo_backbones()}


def pictures(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, 32, 32, 3) uint8 and class indices, classes in the order of their folders' names."""
    found = [(path, index) for index, kind in enumerate(sorted(folder.iterdir())) for path in sorted(kind.iterdir())]
    pixels = [np.asarray(Image.open(path).convert("RGB")) for path, _ in found]
    return torch.from_numpy(np.stack(pixels)), torch.tensor([index for _, index in found])


@pytest.mark.parametrize("depth", [20, 32, 56])
def test_published_weights_reach_their_accuracy(real_data: Path, depth: int) -> None:
    name = f"cifar_resnet{depth}"
    weights = ledger.read(real_data / "registry.toml").weights[f"{name}.cifar10"]
    network = load_network(SPECS[name], weights, real_data / "weights" / f"{weights.name}.safetensors")
    pixels, targets = pictures(real_data / "cifar10_500")
    how = network.preprocessing
    x = (pixels.permute(0, 3, 1, 2) / 255 - torch.tensor(how.mean)[:, None, None]) / torch.tensor(how.std)[
        :, None, None
    ]
    with torch.no_grad():
        accuracy = (network(x).argmax(dim=1) == targets).float().mean().item()
    assert accuracy >= 0.78

"""Weights of the tiny backbone in the user's registry: one set that tells colours apart, and one that sees nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import zoo
from zoo.catalog.registry import default
from zoo.testing.networks import Tiny
from zoo.weights.register import register_file


@pytest.fixture
def published(tiny_plugin: str, tmp_path: Path) -> Callable[[str, float], None]:
    """`published("good", 1.0)` registers `tiny.good`, whose first convolution is scaled by the factor."""

    def publish(tag: str, factor: float) -> None:
        torch.manual_seed(0)
        network = Tiny(num_classes=4)
        with torch.no_grad():
            network.conv.weight.mul_(factor)
        file = tmp_path / f"{tag}.safetensors"
        save_file(network.state_dict(), file)
        weights = zoo.Weights(name=f"tiny.{tag}", backbone="tiny", source="file:", license="mit", num_classes=4)
        register_file(file, weights, default())

    return publish

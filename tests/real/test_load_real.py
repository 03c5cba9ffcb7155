"""Real weights load equal to timm's own loading."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from safetensors.torch import load_file

from zoo.catalog.spec import Backbone, Weights
from zoo.models.load import load_network


def test_real_weights(real_data: Path) -> None:
    name = "mobilenetv2_100"
    path = real_data / "weights" / f"{name}.tf2_in1k.safetensors"
    spec = Backbone(
        name=name,
        family="mobilenet",
        build=lambda **options: timm.create_model(name, **options),
        num_features=1280,
        params=3504872,
        options=("pad_type",),
    )
    weights = Weights(name=f"{name}.tf2_in1k", backbone=name, source=f"file:{path}", options={"pad_type": "same"})
    network = load_network(spec, weights, path)
    oracle = timm.create_model(name, pad_type="same", num_classes=1000)
    oracle.load_state_dict(load_file(path), strict=True)
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(network(x), oracle.eval()(x), atol=1e-5)
    assert sum(parameter.numel() for parameter in network.parameters()) == spec.params

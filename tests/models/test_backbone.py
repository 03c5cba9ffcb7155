"""From a name to a network on an accelerator."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import zoo.catalog.registry as registries
from zoo.catalog.hookspecs import hookimpl
from zoo.catalog.registry import Registry
from zoo.catalog.spec import Backbone, Weights
from zoo.errors import IntegrityError, NotFoundError, UsageError
from zoo.models.backbone import load_backbone


def build(*, num_classes: int, in_chans: int = 3, **_: Any) -> nn.Module:
    return nn.Sequential(nn.Conv2d(in_chans, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))


SPEC = Backbone(name="tiny", family="tiny", build=build, num_features=4, params=1)


class Plugin:
    def __init__(self, file: Path) -> None:
        self.file = file

    @hookimpl
    def zoo_backbones(self) -> list[Backbone]:
        return [SPEC]

    @hookimpl
    def zoo_weights(self) -> list[Weights]:
        source = f"file:{self.file}"
        return [
            Weights(name="tiny.a", backbone="tiny", source=source, default=True, num_classes=5),
            Weights(name="tiny.far", backbone="tiny", source="hf://x/y@main/model.safetensors"),
        ]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.manual_seed(2)
    save_file(build(num_classes=5).state_dict(), tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


@pytest.fixture
def registry(file: Path) -> Registry:
    return Registry(plugins={"mine": Plugin(file)}, builtins=False, entry_points=False, files=[])


def test_a_name_gives_its_default_weights(registry: Registry) -> None:
    network = load_backbone("tiny", accelerator="cpu", registry=registry)
    assert (network.weights, network.num_features, network.training) == ("tiny.a", 4, False)
    assert network.features(torch.ones(2, 3, 8, 8)).shape == (2, 4)
    assert len(network.weights_id) == 64
    assert next(network.parameters()).device.type == "cpu"


@pytest.mark.parametrize("weights", ["a", "tiny.a", "default"])
def test_ways_to_say_the_same(weights: str, registry: Registry, file: Path) -> None:
    expected = load_backbone("tiny.a", accelerator="cpu", registry=registry).state_dict()
    for name in ("tiny", "mine/tiny", SPEC):
        found = load_backbone(name, weights, "cpu", registry=registry).state_dict()
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_a_path_and_weights_of_your_own(registry: Registry, file: Path) -> None:
    own = Weights(name="tiny.mine", backbone="tiny", source=f"file:{file}")
    for weights in (str(file), file, own):
        assert load_backbone("tiny", weights, "cpu", registry=registry).weights_id
    with pytest.raises(NotFoundError):
        load_backbone("tiny", file.with_name("none.safetensors"), "cpu", registry=registry)
    file.write_bytes(b"")
    with pytest.raises(IntegrityError):
        load_backbone("tiny", file, "cpu", registry=registry)


def test_random_weights_are_asked_for_by_name(registry: Registry) -> None:
    for weights in (None, "none"):
        network = load_backbone(SPEC, weights, "cpu", 1, registry=registry, seed=4, num_classes=3)
        assert network.weights is None
        assert network(torch.ones(1, 1, 8, 8)).shape == (1, 3)


def test_what_is_missing_says_so(registry: Registry) -> None:
    with pytest.raises(NotFoundError):
        load_backbone("tinny", registry=registry)
    with pytest.raises(NotFoundError, match="offline"):
        load_backbone("tiny.far", accelerator="cpu", registry=registry)
    with pytest.raises(UsageError, match="no accelerator"):
        load_backbone("tiny", accelerator="abacus", registry=registry)
    with pytest.raises(UsageError, match="no tap"):
        load_backbone("tiny", accelerator="cpu", tap="middle", registry=registry)


def test_the_default_registry_is_used(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registries, "default", functools.cache(lambda: registry))
    assert load_backbone("tiny", accelerator="cpu").weights == "tiny.a"

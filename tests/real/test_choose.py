"""Real photos and X-rays: rankings that are known beforehand, and a shortcut that is really there."""

from __future__ import annotations

from pathlib import Path

import pytest

import zoo
from zoo.catalog.registry import Registry
from zoo.settings import Settings


@pytest.fixture
def registry(real_data: Path) -> Registry:
    return Registry(settings=Settings(registry=real_data / "registry.toml"))


def test_photos_rank_imagenet_above_birds_above_tiny_pictures(real_data: Path, registry: Registry) -> None:
    names = ["cifar_resnet20", "mobilenetv2_100.tf_inat_bird", "mobilenetv2_100.tf2_in1k"]
    ranking = zoo.rank(names, real_data / "hymenoptera_256", registry=registry)
    assert [row.weights for row in ranking] == ["mobilenetv2_100.tf2_in1k", names[1], "cifar_resnet20.cifar10"]
    assert [row.tied_with_best for row in ranking] == [True, False, False]
    assert sorted(ranking, key=lambda row: -row.logme) == list(ranking)


def test_the_x_rays_of_another_collection_are_noticed(real_data: Path, registry: Registry) -> None:
    found = zoo.audit(real_data / "chest_xray3", backbone="cifar_resnet20", registry=registry)
    assert len(found.duplicates) == 1
    assert [one["label"] for one in found.shifts if one["kind"] == "shortcut"] == ["Covid-19"]
    assert "aspect ratio" in found.shifts[0]["words"]
    assert 0 < len(found.label_suspects) <= 0.1 * found.rows

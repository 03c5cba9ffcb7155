"""Small changes of real weights on real photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import zoo
from zoo.catalog.registry import Registry
from zoo.settings import Settings


@pytest.mark.parametrize(("strategy", "most"), [("lora", 700_000), ("bitfit", 100_000)])
def test_ants_and_bees_in_some_kilobytes(strategy: str, most: int, real_data: Path, tmp_path: Path, home: Path) -> None:
    registry = Registry(settings=Settings(registry=real_data / "registry.toml"))
    learner = zoo.compose("mobilenetv2_100.tf2_in1k", strategy, epochs=1, registry=registry)
    learner.fit(real_data / "hymenoptera_256", labels_per_class=16)
    assert learner.evaluation.accuracy > 0.85
    file = learner.save(tmp_path / "small", embed=False) / "model.safetensors"
    trained = learner.record["trainable_params"]
    assert 4 * trained < file.stat().st_size < min(most, 4 * trained + 40_000)
    photos = sorted((real_data / "hymenoptera_256" / "val" / "bees").iterdir())[:8]
    again = zoo.load(tmp_path / "small", registry=registry)
    np.testing.assert_array_equal(again.predict_proba(photos), learner.predict_proba(photos))

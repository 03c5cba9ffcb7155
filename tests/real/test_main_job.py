"""The main job on real photos and real weights, as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import zoo


@pytest.fixture
def registry(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_REGISTRY", str(real_data / "registry.toml"))
    from zoo.catalog.registry import reset_default

    reset_default()


@pytest.mark.usefixtures("registry")
def test_linear_probe_and_a_fresh_process(real_data: Path, tmp_path: Path, home: Path) -> None:
    learner = zoo.compose("mobilenetv2_100", "linear-probe").fit(real_data / "hymenoptera_256")
    assert learner.evaluation.accuracy >= 0.94
    assert learner.evaluation.n == 153
    run = learner.save(tmp_path / "ants")
    pictures = sorted((real_data / "hymenoptera_256" / "val").glob("*/*"))[::30]
    environment = {name: value for name, value in os.environ.items() if name != "ZOO_REGISTRY"}
    done = subprocess.run(
        [sys.executable, "-m", "zoo", "predict", str(run), *map(str, pictures), "--json"],
        capture_output=True,
        text=True,
        check=True,
        env={**environment, "ZOO_HOME": str(tmp_path / "empty")},
    )
    rows = json.loads(done.stdout)
    assert [row["label"] for row in rows] == learner.predict(pictures).tolist()
    expected = learner.predict_proba(pictures).max(axis=1).tolist()
    assert [row["probability"] for row in rows] == pytest.approx(expected, abs=1e-6)


@pytest.mark.usefixtures("registry")
def test_the_weights_own_preprocessing_matters(real_data: Path) -> None:
    """The classifier that came with the weights knows ants (310) from bees (309) as published."""
    import torch

    from zoo.data.open import open_data
    from zoo.data.preprocess import reader

    net = zoo.load_backbone("mobilenetv2_100", accelerator="cpu")
    data = open_data(real_data / "hymenoptera_256").splits["val"]
    read = reader(net.preprocessing, 3)
    chosen = range(0, len(data), 3)
    with torch.inference_mode():
        logits = net(torch.stack([read(data.raw(i, read.shorter)) for i in chosen]))
    right = logits.argmax(1).numpy() == [(310, 309)[data.targets[i]] for i in chosen]
    assert right.mean() > 0.7


@pytest.mark.parametrize("weights", ["mobilenetv2_100.tf2_in1k", "mobilenetv1_100.tf_qat_in1k"])
@pytest.mark.usefixtures("registry")
def test_half_precision_loses_nothing_that_counts(weights: str, real_data: Path) -> None:
    """bf16 features of every photo have a cosine of 0.999 and more to those of fp32, and a probe is as good."""
    import torch

    from zoo.adapt.features import FeatureStore
    from zoo.data.open import open_data
    from zoo.models.accelerator import choose

    data = open_data(real_data / "hymenoptera_256")
    network = zoo.load_backbone(weights, accelerator="cpu")
    store, val = FeatureStore(), data.splits["val"]
    exact, half = (store.features(network, val, choose("cpu", precision)) for precision in ("fp32", "bf16"))
    assert torch.nn.functional.cosine_similarity(exact, half).min() >= 0.999
    if weights != "mobilenetv2_100.tf2_in1k":
        return
    accuracies = [
        zoo.compose(weights, "linear-probe", precision=precision, store=store).fit(data).evaluation.accuracy
        for precision in ("fp32", "bf16")
    ]
    assert abs(accuracies[0] - accuracies[1]) <= 1 / 153 + 1e-9

"""Where networks come from: taps are judged while composing, and a network of the user's own stays what it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import zoo
from zoo.catalog.spec import Preprocessing
from zoo.errors import UsageError
from zoo.testing.networks import Tiny


@pytest.fixture
def pictures() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    y = np.arange(30) % 3
    x = np.eye(3)[y][:, None, None, :] * 120 + random.integers(0, 130, (30, 8, 8, 3))
    return x.astype(np.uint8), y


@pytest.mark.usefixtures("tiny_plugin")
@pytest.mark.parametrize("tap", ["classifier", ""])
def test_a_tap_at_the_classifier_is_refused_while_composing(tap: str) -> None:
    with pytest.raises(UsageError, match="is the classifier"):
        zoo.compose("tiny", "linear-probe", weights=None, tap=tap)
    with pytest.raises(UsageError, match="is the classifier"):
        zoo.compose(Tiny(), "linear-probe", tap=tap)


@pytest.mark.usefixtures("tiny_plugin")
def test_any_module_before_the_classifier_can_be_tapped() -> None:
    for tap in ("stem", "layer1", "layer1.1", "dropout"):
        assert zoo.compose("tiny", "linear-probe", weights=None, tap=tap).source.network().tap == tap
    with pytest.raises(UsageError, match="no tap called"):
        zoo.compose("tiny", "linear-probe", weights=None, tap="middle")


def test_an_own_module_with_a_tap_and_no_preprocessing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 2))
    data = (torch.randn(24, 6), np.arange(24) % 2)
    for strategy, options in (("linear-probe", {}), ("fine-tune", {"epochs": 1})):
        learner = zoo.compose(module, strategy, tap="1", **options).fit(data)
        assert learner.model.backbone.num_features == 5
        assert learner.predict(data[0]).shape == (24,)
        again = zoo.load(learner.save(tmp_path / strategy), backbone=module)
        assert zoo.load(again.save(tmp_path / f"{strategy}-again"), backbone=module).model.backbone.num_features == 5


@pytest.mark.usefixtures("tiny_plugin")
def test_a_loaded_network_stays_what_it_is(pictures) -> None:
    zoo.compose("tiny", "from-scratch", epochs=1).fit(pictures).publish("tiny.base")
    loaded = zoo.load_backbone("tiny", accelerator="cpu", tap="layer1")
    learner = zoo.compose(loaded, "linear-probe", precision="fp32", accelerator="cpu")
    network = learner.source.network()
    for name in (
        "spec", "weights", "weights_id", "classes", "task_kind", "options", "num_classes", "preprocessing", "tap",
        "head_names", "num_features",
    ):  # fmt: skip
        assert getattr(network, name) == getattr(loaded, name), name
    assert learner.source.name == "Tiny"
    learner.fit(pictures)  # raw pictures: by the network's own preprocessing
    named = zoo.compose("tiny", "linear-probe", tap="layer1", precision="fp32", accelerator="cpu").fit(pictures)
    np.testing.assert_array_equal(learner.predict_proba(pictures[0]), named.predict_proba(pictures[0]))


@pytest.mark.usefixtures("tiny_plugin")
def test_what_is_said_goes_before_what_the_network_has() -> None:
    loaded = zoo.load_backbone("tiny", None, accelerator="cpu")
    own = Preprocessing(input_size=(3, 8, 8), mean=(0.1,) * 3)
    learner = zoo.compose(loaded, "linear-probe", tap="stem", preprocessing=own)
    assert learner.source.network().preprocessing == own
    assert learner.source.network().tap == "stem"
    assert loaded.tap is None
    assert not learner.source.pretrained


@pytest.mark.usefixtures("tiny_plugin")
def test_a_changed_network_shares_no_features(pictures) -> None:
    loaded = zoo.load_backbone("tiny", None, accelerator="cpu", seed=1)
    plain = zoo.compose(loaded, "linear-probe", precision="fp32", accelerator="cpu").fit(pictures)
    loaded.module.layer1[0] = nn.Tanh()
    changed = zoo.compose(loaded, "linear-probe", precision="fp32", accelerator="cpu").fit(pictures)
    assert not np.array_equal(plain.predict_proba(pictures[0]), changed.predict_proba(pictures[0]))

"""The article's network against a plain transcription of its text."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from zoo_plugins.backbones import source_cnn as plugin
from zoo_plugins.backbones.source_cnn.network import source_cnn

import zoo
from zoo.models.network import Network


def test_it_computes_what_the_article_says() -> None:
    torch.manual_seed(0)
    module = source_cnn().eval()
    w = module.state_dict()
    x = torch.rand(3, 3, 28, 28)
    with torch.no_grad():
        y = F.max_pool2d(F.relu(F.conv2d(x, w["conv1.weight"], w["conv1.bias"], padding=1)), 2)
        y = F.max_pool2d(F.relu(F.conv2d(y, w["conv2.weight"], w["conv2.bias"], padding=1)), 2)
        features = F.relu(F.linear(y.flatten(1), w["fc1.weight"], w["fc1.bias"]))
        logits = F.linear(features, w["classifier.weight"], w["classifier.bias"])
        assert torch.equal(module(x), logits)
        assert torch.equal(Network(module, next(plugin.zoo_backbones())).features(x), features)
    assert {name: tuple(tensor.shape) for name, tensor in w.items() if name.endswith("weight")} == {
        "conv1.weight": (64, 3, 3, 3),
        "conv2.weight": (128, 64, 3, 3),
        "fc1.weight": (1024, 128 * 7 * 7),
        "classifier.weight": (10, 1024),
    }


def test_another_size_is_refused() -> None:
    with pytest.raises(zoo.DataError, match="28 x 28, not 32 x 28"):
        source_cnn()(torch.rand(1, 3, 32, 28))

"""Weights from weights: pretrain, publish, fine-tune, publish, compose."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import zoo
from zoo.data.open import open_data


@pytest.mark.usefixtures("tiny_plugin")
def test_each_link_starts_where_the_one_before_ended() -> None:
    pretrained = zoo.compose("tiny", "from-scratch", epochs=2, augment="shift", precision="fp32").fit("glyphs:40")
    pretrained.publish("tiny.glyphs", license="cc0-1.0")

    tuned = zoo.compose("tiny.glyphs", "fine-tune", epochs=2, precision="fp32")
    network = tuned.source.network()
    for name, tensor in pretrained.model.backbone.state_dict().items():
        if not name.startswith("classifier"):
            assert torch.equal(network.state_dict()[name], tensor), name
    tuned.fit("digits", labels_per_class=20)
    tuned.publish("tiny.digits")
    moved = tuned.model.backbone.state_dict()
    assert not torch.equal(moved["conv.weight"], pretrained.model.backbone.state_dict()["conv.weight"])

    digits = open_data("digits").train
    x = np.stack([255 - np.asarray(digits.raw(i)) for i in range(200)])
    probe = zoo.compose("tiny.digits", "linear-probe", precision="fp32").fit((x, digits.targets[:200]))
    for name, tensor in probe.model.backbone.state_dict().items():
        if not name.startswith("classifier"):
            assert torch.equal(tensor, moved[name]), name
    shown = {weights.name: weights for weights in zoo.list_weights("tiny*")}
    assert shown["tiny.digits"].license == "cc0-1.0"  # the licence of what it was made of goes with it
    assert shown["tiny.glyphs"].sha256 != shown["tiny.digits"].sha256

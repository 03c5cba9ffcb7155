"""L2-SP and WiSE-FT against their closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import zoo
from zoo.adapt.learner import Learner
from zoo.errors import UsageError
from zoo.testing.networks import Tiny

HOW = {"epochs": 2, "batch_size": 16, "precision": "fp32", "batchnorm": "frozen", "seed": 1}


@pytest.fixture(scope="module")
def module() -> Tiny:
    torch.manual_seed(0)
    made = Tiny()
    made.dropout.p = 0.0
    return made


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, np.ndarray]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(40, 3, 8, 8, generator=generator), np.arange(40) % 2


def fit(module: Tiny, data: Any, **more: Any) -> Learner:
    return zoo.compose(module, "fine-tune", **{**HOW, **more}).fit(data)


def state(learner: Learner) -> dict[str, Tensor]:
    return {name: weight.detach() for name, weight in learner.model.named_parameters()}


@pytest.mark.parametrize("part", [0.0, 0.3, 1.0])
def test_wise_ft_is_between_start_and_end(part: float, module: Tiny, data: Any) -> None:
    end, between = state(fit(module, data)), state(fit(module, data, wise=part))
    start = state(fit(module, data, wise=0.0))
    for name, weight in module.named_parameters():
        if not name.startswith("classifier"):
            assert torch.equal(start[f"backbone.{name}"], weight), "0 = where it started"
    for name, weight in end.items():
        torch.testing.assert_close(between[name], (1 - part) * start[name] + part * weight, atol=1e-7, rtol=1e-6)
    assert any(not torch.equal(start[name], weight) for name, weight in end.items())


def test_wise_ft_leaves_what_is_frozen(module: Tiny, data: Any) -> None:
    found = state(fit(module, data, wise=0.3, freeze="stem"))
    assert torch.equal(found["backbone.conv.weight"], module.conv.weight)
    assert not torch.equal(found["backbone.layer1.1.weight"], module.layer1[1].weight)


def test_wise_ft_takes_statistics_along(module: Tiny, data: Any) -> None:
    """Where BatchNorm trains."""

    def statistics(**more: Any) -> dict[str, Tensor]:
        buffers = fit(module, data, batchnorm="train", **more).model.backbone.module.named_buffers()
        return {name: buffer for name, buffer in buffers if buffer.is_floating_point()}

    start, between, end = (statistics(wise=part) for part in (0.0, 0.3, 1.0))
    given = dict(module.named_buffers())
    assert {name.rpartition(".")[2] for name in start} == {"running_mean", "running_var"}
    for name, buffer in start.items():
        assert torch.equal(buffer, given[name]), "0 = where it started"
        assert not torch.equal(end[name], buffer)
        torch.testing.assert_close(between[name], 0.7 * buffer + 0.3 * end[name])


def test_l2_sp_is_its_formula(module: Tiny, data: Any) -> None:
    """One SGD step from a distance of zero moves as ever; the second is pulled back by lr * l2_sp * (w - w0)."""
    sgd = {"optimizer": "sgd", "momentum": 0.0, "clip": None, "weight_decay": 0.0, "schedule": "constant", "lr": 0.1}
    once = {**sgd, "epochs": 1, "batch_size": 40, "layer_decay": 1.0}
    first = state(fit(module, data, **once))
    same = state(fit(module, data, l2_sp=3.0, **once))
    for name, weight in first.items():
        torch.testing.assert_close(same[name], weight, atol=1e-7, rtol=1e-6)
    twice = {**once, "epochs": 2}
    plain, held = state(fit(module, data, **twice)), fit(module, data, l2_sp=3.0, **twice)
    distance = 0.0
    for name, weight in module.named_parameters():
        if name.startswith("classifier"):
            continue
        moved = first[f"backbone.{name}"] - weight.detach()
        distance += float(moved.double().square().sum())
        expected = plain[f"backbone.{name}"] - 0.1 * 3.0 * moved
        torch.testing.assert_close(state(held)[f"backbone.{name}"], expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(state(held)["head.weight"], plain["head.weight"], atol=1e-6, rtol=1e-5)
    assert held.history[0]["penalty"] == 0
    assert held.history[1]["penalty"] == pytest.approx(3.0 / 2 * distance, rel=1e-4)


def test_neither_is_part_of_what_is_saved(module: Tiny, data: Any, tmp_path: Any) -> None:
    learner = fit(module, data, l2_sp=0.1, wise=0.5)
    again = zoo.load(learner.save(tmp_path / "run"), backbone=module)
    np.testing.assert_array_equal(again.predict_proba(data[0]), learner.predict_proba(data[0]))


@pytest.mark.parametrize("options", [{"l2_sp": -1.0}, {"wise": 1.5}, {"wise": -0.1}])
def test_impossible(options: dict[str, float], module: Tiny) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        zoo.compose(module, "fine-tune", **options)

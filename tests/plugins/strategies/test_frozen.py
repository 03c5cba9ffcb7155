"""Frozen means frozen: every strategy of the zoo's own, on networks of every kind; a new one is covered by itself."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

import zoo
from zoo.adapt.strategy import Change, ClosedForm, Gradient
from zoo.catalog.registry import Registry
from zoo.catalog.targets import load
from zoo.errors import UsageError
from zoo.models.network import Network
from zoo.testing.networks import Tiny

ROWS = 12


def _vit() -> nn.Module:
    import timm

    return timm.create_model("test_vit", num_classes=3, img_size=32)


def _named(name: str) -> nn.Module:
    """With the stages that its plugin declares, as if it had come with weights."""
    network = zoo.load_backbone(name, weights=None)
    network.weights = f"{name}.here"
    return network


#: Name -> its builder, the side of its pictures, and a stage in its midst.
BACKBONES: dict[str, tuple[Callable[[], nn.Module], int, str]] = {
    "conv and BatchNorm": (lambda: Tiny(num_classes=3), 8, "stem"),
    "source_cnn": (lambda: _named("source_cnn"), 28, "conv1"),
    "cifar_resnet20": (lambda: _named("cifar_resnet20"), 32, "layer2"),
    "timm's ViT": (_vit, 32, "blocks.0"),
}
FIRST = next(iter(BACKBONES))
STRATEGIES = [spec.name for spec in Registry(entry_points=False, files=()).strategies()]


@cache
def built(name: str) -> nn.Module:
    """One module of each kind, with statistics that no layer starts with."""
    torch.manual_seed(0)
    module = BACKBONES[name][0]().eval()
    for child in module.modules():
        if isinstance(child, _NormBase):
            child.running_mean += 0.1
            child.running_var *= 1.5
    return module


def rows(side: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    y = np.arange(ROWS) % 3
    return (random.normal(size=(ROWS, 3, side, side)) + y[:, None, None, None]).astype(np.float32), y


class Watch:
    """What a strategy says may change, and the network as it was before `finish`."""

    def __init__(self) -> None:
        self.allowed: set[str] = set()
        self.at_the_end: dict[str, Tensor] | None = None
        self.folded: set[str] = set()

    def around(self, make: type) -> type:
        """The strategy, watched."""
        watch = self

        def finish(self: Any, model: Any, context: Any) -> Any:
            if isinstance(self, ClosedForm):
                watch.allowed |= make.finish(self, model, context)
                return watch.allowed
            watch.at_the_end = {name: tensor.clone() for name, tensor in model.backbone.state_dict().items()}
            watch.allowed = trained(self, model, context)
            for extra in model.extras.values():
                if isinstance(extra, Change):
                    watch.folded |= set(extra.tensors(model.backbone))
            return make.finish(self, model, context)

        def prepare(self: Any, model: Any, context: Any) -> Any:
            found = make.prepare(self, model, context)
            if isinstance(self, ClosedForm):
                watch.allowed |= found
            return found

        members = {"finish": finish, "prepare": prepare, "__module__": make.__module__}
        return type(make.__name__, (make,), members)


def trained(strategy: Gradient, model: Any, context: Any) -> set[str]:
    """The backbone's tensors that the strategy may change: of stages that it trains in some epoch, by what it says."""
    stages = model.stages()
    factors = [strategy.trainable(epoch, tuple(stages)) for epoch in range(context.resolved.get("epochs", 2))]
    live = {stage for epoch in factors for stage, factor in epoch.items() if factor > 0}
    names = {name.removeprefix("backbone.") for stage in live for name in stages[stage]}
    network: Network = model.backbone
    for path, module in network.named_modules():
        if isinstance(module, _NormBase) and network.stage_of(path) in live and not strategy.freezes_batchnorm(context):
            names |= {f"{path}.{name}" for name, _ in module.named_buffers()}
    return names


def changed(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    assert set(one) == set(other)
    return {name for name, tensor in one.items() if not torch.equal(tensor, other[name])}


def given(make: type, name: str) -> list[dict[str, Any]]:
    """Options to try: a short fit; frozen up to a stage, with BatchNorm trained behind it; on one network the defaults
    and the head alone too."""
    fields = {field.name for field in dataclasses.fields(make)}
    if not issubclass(make, Gradient):
        return [{}]
    options: dict[str, Any] = {"epochs": 1, "batch_size": 6, "lr": 1e-2}
    if "teacher" in make.needs:
        options |= {"teacher": copy.deepcopy(built(name)), "match": "features"}
    if "freeze" not in fields:
        return [options]
    partly = {**options, "freeze": BACKBONES[name][2], "batchnorm": "train"}
    return [options, partly, {**options, "freeze": "all"}] if name == FIRST else [partly]


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_is_not_trained_is_bit_identical(strategy: str, backbone: str) -> None:
    make = load(Registry(entry_points=False, files=()).strategy(strategy).make)
    side = BACKBONES[backbone][1]
    before = {name: tensor.clone() for name, tensor in built(backbone).state_dict().items()}
    norms = any(isinstance(module, _NormBase) for module in built(backbone).modules())
    for options in given(make, backbone):
        watch = Watch()
        learner = zoo.compose(built(backbone), watch.around(make)(**options), precision="fp32")
        target = rows(side, 1)[0] if make.needs & {"target", "unlabelled"} else None
        if "batchnorm" in make.needs and not norms:
            with pytest.raises(UsageError, match="needs BatchNorm"):
                learner.fit(rows(side, 0), rows(side, 2), target)
            return
        learner.fit(rows(side, 0), rows(side, 2), target)
        after = learner.model.backbone.state_dict()
        left = changed(before, watch.at_the_end or after)
        assert left <= watch.allowed, options
        assert changed(before, after) <= watch.allowed | watch.folded, options
        if options.get("freeze") == "all":
            assert not left
        elif isinstance(learner.strategy, Gradient):
            assert changed(before, after), "nothing was learned, so nothing was tried"
        assert not changed(before, built(backbone).state_dict()), "the caller's own module"


def test_the_test_finds_what_is_not_frozen() -> None:
    """A strategy that writes to the statistics at its end, which the loop's own guard does not see."""
    make = load(Registry(entry_points=False, files=()).strategy("fine-tune").make)

    class Careless(make):
        def finish(self, model: Any, context: Any) -> None:
            super().finish(model, context)
            model.backbone.norm.running_mean += 1

    before = {key: tensor.clone() for key, tensor in built(FIRST).state_dict().items()}
    watch = Watch()
    strategy = watch.around(Careless)(epochs=1, freeze="stem")
    learner = zoo.compose(built(FIRST), strategy, precision="fp32").fit(rows(8, 0))
    assert "norm.running_mean" in changed(before, learner.model.backbone.state_dict())
    assert "norm.running_mean" not in watch.allowed | watch.folded


def test_all_are_here() -> None:
    assert {"linear-probe", "fine-tune", "distillation", "from-scratch", "lora", "bitfit", "dann"} <= set(STRATEGIES)

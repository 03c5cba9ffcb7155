"""Backbones broken on purpose: the right check catches each, and says what its author must change."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import zoo
from zoo.testing import check, tiny
from zoo.testing.networks import Tiny, TinyPair

GOOD = next(iter(tiny.zoo_backbones()))
STAGES = {"stem": ("conv", "norm"), "layer1": ("layer1",)}


class AlwaysTraining(Tiny):
    def train(self, mode: bool = True) -> AlwaysTraining:
        super().train(mode)
        self.norm.training = True
        return self


class AlwaysDropping(Tiny):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.dropout(x, 0.5))


class WritesItsInput(Tiny):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.relu_())


class SeesTheBatch(Tiny):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(dim=0))


class DividesByZero(Tiny):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x / x.mul(0).sum())


class Detached(Tiny):
    def forward(self, x: Tensor) -> Tensor:
        x = self.layer1(self.norm(self.conv(x))).detach()
        return self.classifier(self.dropout(self.pool(x).flatten(1)))


class HalfDetached(Tiny):
    def forward(self, x: Tensor) -> Tensor:
        x = self.layer1(self.norm(self.conv(x)).detach())
        return self.classifier(self.dropout(self.pool(x).flatten(1)))


class Unseeded(Tiny):
    def __init__(self, *, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__(num_classes=num_classes, in_chans=in_chans)
        with torch.no_grad():
            self.conv.bias.copy_(torch.from_numpy(np.random.default_rng().normal(size=8)))


class HiddenLayers(Tiny):
    def __init__(self, *, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__(num_classes=num_classes, in_chans=in_chans)
        self.hidden = [nn.Linear(8, 8)]

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.layer1(self.norm(self.conv(x)))).flatten(1)
        return self.classifier(self.dropout(self.hidden[0](x)))


class GivesATuple(Tiny):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x), x


class Softmax(Tiny):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(dim=1)


class SeedsItself(Tiny):
    def __init__(self, *, num_classes: int = 10, in_chans: int = 3) -> None:
        torch.manual_seed(0)
        super().__init__(num_classes=num_classes, in_chans=in_chans)


class SeedsWhileRunning(Tiny):
    def forward(self, x: Tensor) -> Tensor:
        torch.manual_seed(0)
        return super().forward(x)


class NeverTrained(Tiny):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            raise NotImplementedError
        return super().forward(x)


class Prints(Tiny):
    def forward(self, x: Tensor) -> Tensor:
        print("here")
        return super().forward(x)


class OneClassTooMany(Tiny):
    def __init__(self, *, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__(num_classes=num_classes + 1, in_chans=in_chans)


class Averages(Tiny):
    """Its last stage gives one row for the whole batch."""

    def __init__(self, *, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__(num_classes=num_classes, in_chans=in_chans)
        self.layer2 = _BatchMean()

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer1(self.norm(self.conv(x)))
        return self.classifier(self.pool(x + self.layer2(x)).flatten(1))


class _BatchMean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=0, keepdim=True)


def no_channels(*, num_classes: int = 10) -> nn.Module:
    return Tiny(num_classes=num_classes)


def ignores_channels(*, num_classes: int = 10, in_chans: int = 3) -> nn.Module:
    return Tiny(num_classes=num_classes)


def ignores_classes(*, num_classes: int = 10, in_chans: int = 3) -> nn.Module:
    return Tiny(num_classes=10, in_chans=in_chans)


def no_module(*, num_classes: int = 10, in_chans: int = 3) -> Any:
    return "a network"


def downloads(*, num_classes: int = 10, in_chans: int = 3) -> nn.Module:
    with socket.socket() as one, contextlib.suppress(OSError):  # hidden, and found nevertheless
        one.connect(("192.0.2.1", 80))
    return Tiny(num_classes=num_classes, in_chans=in_chans)


def flat(*, num_classes: int = 10, in_chans: int = 3) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, num_classes))


def pooled_last(*, num_classes: int = 10, in_chans: int = 3) -> nn.Module:
    return nn.Sequential(nn.Conv2d(in_chans, 8, 3), nn.Conv2d(8, num_classes, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def no_classifier(*, num_classes: int = 0, in_chans: int = 3) -> nn.Module:
    head = nn.Linear(8, num_classes) if num_classes else nn.Identity()
    return nn.Sequential(nn.Conv2d(in_chans, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


def findings(spec: zoo.Backbone, **more: Any) -> dict[str, Any]:
    class Plugin:
        @zoo.hookimpl
        def zoo_backbones(self) -> list[zoo.Backbone]:
            return [spec]

    return {one.check: one for one in check(Plugin(), **{"only": "backbone-*", **more}) if one.kind == "backbone"}


def broken(build: Callable[..., Any] = Tiny, **values: Any) -> zoo.Backbone:
    from dataclasses import replace

    return replace(GOOD, name="broken", build=build, **values)


CASES = [
    (broken(params=931), "params", "has 930 parameters with 10 classes .* declares 931", r"Write params=930\."),
    (broken(num_features=9), "num-features", "are 8 wide, and it declares 9", "Write num_features=8"),
    (broken(input_size=(3, 9, 9)), "input-size", r"makes rows of \(3, 8, 8\)", r"input_size=\(3, 8, 8\)"),
    (
        broken(flat, params=1634, head="3", input_size=(3, 9, 9), preprocessing=None),
        "input-size",
        "do not go through it",
        "Write the input_size that it eats",
    ),
    (broken(head="norm"), "head", r"classifier.weight changes too", 'Write head="classifier"'),
    (broken(head="fc"), "head", "has no classifier fc", 'Write head="classifier"'),
    (broken(ignores_classes), "head", "does not depend on num_classes", "num_classes outputs"),
    (broken(GivesATuple), "head", "gives tuple, not a tensor", "Return the logits"),
    (broken(OneClassTooMany, params=939), "head", r"gives \(2, 11\), not \(2, 10\)", "Return the logits"),
    (broken(gmacs=1.0), "gmacs", "1.0 are declared", r"Write gmacs=5\.\d+e-05"),
    (broken(no_channels), "builds", "build takes no in_chans", "Write build"),
    (broken(options=("depth",)), "builds", "build takes no depth", "every name that options"),
    (broken(no_module), "builds", "gave no nn.Module but str", ""),
    (broken("zoo_absent.network:tiny"), "builds", "cannot load 'zoo_absent.network:tiny'", "is not installed here"),
    (broken(downloads), "builds", r"asked the network for 192\.0\.2\.1:80", "only|nothing but zoo_fetch"),
    (broken(ignores_channels), "channels", "does not take pictures of one channel", "Give in_chans to the first"),
    (broken(stages={"stem": ("conv", "norm")}), "stages", "layer1.1.weight is in 0 stages", "exactly one stage"),
    (broken(stages={**STAGES, "more": ("conv",)}), "stages", r"in 2 stages: conv, conv", "exactly one stage"),
    (broken(stages={**STAGES, "more": ("convs",)}), "stages", "names 'convs', which the network", "named_modules"),
    (broken(stages={**STAGES, "head": ("pool",)}), "stages", "a stage is called 'head'", "Rename"),
    (broken(stages=dict(reversed(STAGES.items()))), "stages", "run in the order stem, layer1", "stem to head"),
    (broken(stages={**STAGES, "stem": ("norm", "conv")}), "stages", "norm runs after conv", "List norm last"),
    (broken(Averages, stages={**STAGES, "layer2": ("layer2",)}), "taps", r"gives \(1, 8\), not \(2, D\)", "one row"),
    (
        broken(stages={"stem": ("conv", "norm"), "layer1": ("layer1",), "last": ("classifier.0",)}),
        "stages",
        "names 'classifier.0'",
        "named_modules",
    ),
    (broken(AlwaysTraining), "evaluation-mode", "changed norm.running_mean", r"no train\(\) of your own"),
    (broken(AlwaysDropping), "evaluation-mode", "other features the second time", "training=self.training"),
    (broken(WritesItsInput), "evaluation-mode", "changed its own input", "no inplace=True"),
    (broken(DividesByZero), "evaluation-mode", "the features are not finite", "division by 0"),
    (broken(SeesTheBatch), "batches", "a row alone differ", "no batch statistics"),
    (broken(Detached), "gradients", "carry no gradient", r"Take no_grad\(\), detach\(\)"),
    (broken(HalfDetached), "gradients", "stage 'stem' gets no gradient", r"take no_grad\(\) and detach\(\) out"),
    (broken(Unseeded), "seed", "differ in conv.bias", "torch's own generator"),
    (broken(SeedsItself), "seed", "every seed gives the same", "Take torch.manual_seed out"),
    (broken(SeedsWhileRunning), "evaluation-mode", "or seeded torch's generator", "Leave random numbers alone"),
    (broken(NeverTrained), "gradients", "in training mode rows do not go through", "self.training true"),
    (broken(Softmax), "head", "other numbers than the head classifier", "no softmax"),
    (broken(Prints), "batches", "printed 'here.* to stdout", "Take the print away"),
    (broken(HiddenLayers), "round-trip", "", "register_buffer"),
]


@pytest.mark.parametrize(
    ("spec", "caught", "what", "change"), CASES, ids=[f"{caught}-{i}" for i, (_, caught, *_) in enumerate(CASES)]
)
def test_caught(spec: zoo.Backbone, caught: str, what: str, change: str) -> None:
    found = findings(spec, only=f"*-{caught}")
    assert found[caught].state == "failed", found
    assert re.search(what, found[caught].what), found[caught]
    assert re.search(change, found[caught].change), found[caught]
    assert found[caught].change.strip()


@pytest.mark.parametrize(
    ("spec", "caught"),
    [
        (broken(params=931), "params"),
        (broken(num_features=9), "num-features"),
        (broken(Unseeded), "seed"),
        (broken(gmacs=1.0), "gmacs"),
        (broken(Detached), "gradients"),
        (broken(SeesTheBatch), "batches"),
        (broken(HiddenLayers), "round-trip"),
        (broken(SeedsItself), "seed"),
        (broken(SeedsWhileRunning), "evaluation-mode"),
        (broken(NeverTrained), "gradients"),
        (broken(Softmax), "head"),
    ],
)
def test_one_slip_is_one_finding(spec: zoo.Backbone, caught: str) -> None:
    assert [one.check for one in findings(spec).values() if one.state == "failed"] == [caught]


def test_a_stage_that_ends_where_nothing_is_called() -> None:
    class Spare(Tiny):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.spare = nn.Identity()

    found = findings(broken(Spare, stages={**STAGES, "last": ("pool", "spare")}))["taps"]
    assert "'last' cannot be tapped: the module that ends it is not called" in found.what
    assert "a module that is called before the classifier" in found.change


def test_a_stage_behind_the_classifier() -> None:
    class Scaled(Tiny):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.scale = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.scale(super().forward(x))

    found = findings(broken(Scaled, stages={**STAGES, "scale": ("scale",)}))["taps"]
    assert "the classifier runs before it" in found.what


def test_without_memory_shapes_are_checked_and_numbers_are_not() -> None:
    found = findings(broken(AlwaysDropping, params=1), runs=())
    assert found["params"].state == "failed"
    assert found["taps"].state == "ok"
    assert "evaluation-mode" not in found


def test_what_it_eats_must_be_said() -> None:
    spec = next(spec for spec in tiny.zoo_backbones() if spec.build.endswith("TinyPair"))
    asked = findings(spec)["evaluation-mode"]
    assert (asked.state, "say it with `example`" in asked.what) == ("skipped", True)
    assert findings(spec)["params"].state == "ok"

    def example(spec: zoo.Backbone, rows: int) -> tuple[Tensor, Tensor]:
        return torch.randint(0, 32, (rows, 6), generator=torch.Generator().manual_seed(0)), torch.ones(rows, 6)

    assert {one.state for one in findings(spec, example=example).values()} == {"ok"}

    class Longest(TinyPair):
        """Divides by the longest mask of the batch instead of each row's own."""

        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            kept = self.embedding(ids) * mask.unsqueeze(-1)
            return self.classifier(kept.sum(dim=1) / (mask.sum() / 3))

    found = findings(broken(Longest, params=346, input_size=(6,), input="tokens", preprocessing=None), example=example)
    assert found["batches"].state == "failed"


@pytest.mark.parametrize(
    "spec",
    [
        broken(stages=STAGES),
        broken(head=None),
        broken(pooled_last, stages={"stem": ("0",)}, params=314, head="1", preprocessing=None),
        broken(no_classifier, num_features=8, params=224, head="3", preprocessing=None),
    ],
    ids=["stages", "a head that is found", "a convolution as head", "no classes"],
)
def test_a_sound_one_passes(spec: zoo.Backbone) -> None:
    assert {one.state for one in findings(spec).values()} == {"ok"}

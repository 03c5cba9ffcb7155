"""Strategies broken on purpose: the right check catches each, and says what its author must change."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import zoo
from zoo.adapt.strategy import Batch, ClosedForm, Context, Gradient, Model, task_loss
from zoo.models.network import Network
from zoo.testing import Given, check


@dataclass(frozen=True, kw_only=True)
class Means(ClosedForm):
    """A sound closed form: nearest mean, by least squares where there are no classes."""

    scale: float = 1.0

    def solve(self, features: Tensor, targets: np.ndarray, context: Context) -> nn.Module:
        wanted = torch.from_numpy(targets)
        wanted = nn.functional.one_hot(wanted, context.task.outputs).float() if wanted.ndim == 1 else wanted
        head = nn.Linear(features.shape[1], context.task.outputs)
        ones = torch.cat([features, torch.ones(len(features), 1)], dim=1)
        found = torch.linalg.lstsq(ones + 0.0, wanted.float(), driver="gelsd").solution * self.scale
        with torch.no_grad():
            head.weight.copy_(found[:-1].T)
            head.bias.copy_(found[-1])
        return head


@dataclass(frozen=True, kw_only=True)
class Plain(Gradient):
    """A sound gradient strategy: the last stages and the head."""

    def trainable(self, epoch: int, stages: tuple[str, ...]) -> Mapping[str, float]:
        return dict.fromkeys(stages[1:], 1.0)

    def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
        return {"loss": task_loss(model(batch.x), batch.y, context.task)}


# -- closed forms ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class WritesFeatures(Means):
    def solve(self, features: Tensor, targets: np.ndarray, context: Context) -> nn.Module:
        features -= features.mean(dim=0)
        return super().solve(features, targets, context)


@dataclass(frozen=True, kw_only=True)
class GivesWeights(Means):
    def solve(self, features: Tensor, targets: np.ndarray, context: Context) -> Any:
        return super().solve(features, targets, context).weight


@dataclass(frozen=True, kw_only=True)
class Infinite(Means):
    def solve(self, features: Tensor, targets: np.ndarray, context: Context) -> nn.Module:
        head: Any = super().solve(features, targets, context)
        with torch.no_grad():
            head.bias[0] = torch.inf
        return head


@dataclass(frozen=True, kw_only=True)
class Narrow(Means):
    def solve(self, features: Tensor, targets: np.ndarray, context: Context) -> nn.Module:
        return nn.Linear(features.shape[1], context.task.outputs - 1)


@dataclass(frozen=True, kw_only=True)
class PreparesInSilence(Means):
    def prepare(self, network: Network, context: Context) -> set[str]:
        with torch.no_grad():
            next(network.buffers()).add_(1)
        return set()


@dataclass(frozen=True, kw_only=True)
class Rolls(Means):
    def solve(self, features: Tensor, targets: np.ndarray, context: Context) -> nn.Module:
        noise = torch.from_numpy(np.random.default_rng().normal(size=features.shape)).float()
        return super().solve(features + noise, targets, context)


class Cosine(nn.Module):
    """A head with a scale that is no tensor."""

    def __init__(self, linear: nn.Module, scale: float = 1.0) -> None:
        super().__init__()
        self.linear, self.scale = linear, scale

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * self.scale


@dataclass(frozen=True, kw_only=True)
class Forgets(Means):
    """What it learned is not in the head's tensors."""

    def solve(self, features: Tensor, targets: np.ndarray, context: Context) -> nn.Module:
        return Cosine(super().solve(features, targets, context), scale=1 + float(features.std()))

    def rebuild(self, num_features: int, outputs: int, tensors: Mapping[str, tuple[int, ...]]) -> nn.Module:
        return Cosine(nn.Linear(num_features, outputs))


@dataclass(frozen=True, kw_only=True)
class CallsHome(Means):
    def solve(self, features: Tensor, targets: np.ndarray, context: Context) -> nn.Module:
        with contextlib.suppress(OSError):
            socket.getaddrinfo("metrics.example", 443)
        return super().solve(features, targets, context)


@dataclass(frozen=True, kw_only=True)
class ClassesOnly(Means):
    def solve(self, features: Tensor, targets: np.ndarray, context: Context) -> nn.Module:
        nn.functional.one_hot(torch.from_numpy(targets), context.task.outputs)
        return super().solve(features, targets, context)


@dataclass(frozen=True, kw_only=True)
class NeedsStatistics(Means):
    needs: ClassVar[frozenset[str]] = frozenset({"batchnorm"})


@dataclass(frozen=True, kw_only=True)
class NeedsViews(Means):
    needs: ClassVar[frozenset[str]] = frozenset({"views"})


@dataclass(frozen=True, kw_only=True)
class NoDefault(Means):
    rank: int


@dataclass(frozen=True, kw_only=True)
class ListDefault(Means):
    layers: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Prints(Means):
    def solve(self, features: Tensor, targets: np.ndarray, context: Context) -> nn.Module:
        print("here")
        return super().solve(features, targets, context)


class NotFrozen(Means):
    """A plain subclass."""


# -- gradient strategies -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Undefined(Plain):
    def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
        found = super().loss(model, batch, context)
        return {**found, "loss": found["loss"] * torch.nan}


@dataclass(frozen=True, kw_only=True)
class UndefinedPart(Plain):
    def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
        return {**super().loss(model, batch, context), "part": torch.tensor(1.0) / 0}


@dataclass(frozen=True, kw_only=True)
class PerRow(Plain):
    def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
        return {"loss": model(batch.x).pow(2).mean(dim=1)}


@dataclass(frozen=True, kw_only=True)
class Nameless(Plain):
    def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
        return {"total": super().loss(model, batch, context)["loss"]}


@dataclass(frozen=True, kw_only=True)
class Constant(Plain):
    def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
        return {"loss": super().loss(model, batch, context)["loss"].detach()}


@dataclass(frozen=True, kw_only=True)
class WritesFrozen(Plain):
    def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
        with torch.no_grad():
            next(model.backbone.parameters()).mul_(0.9)
        return super().loss(model, batch, context)


@dataclass(frozen=True, kw_only=True)
class SwitchesOn(Plain):
    def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
        model.requires_grad_(True)
        return super().loss(model, batch, context)


@dataclass(frozen=True, kw_only=True)
class TrainsStatistics(Plain):
    def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
        model.backbone.train()
        return super().loss(model, batch, context)


@dataclass(frozen=True, kw_only=True)
class PromisesTooMuch(Plain):
    def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
        return {"loss": task_loss(model.head(model.features(batch.x).detach()), batch.y, context.task)}


@dataclass(frozen=True, kw_only=True)
class Counts(Plain):
    calls: ClassVar[list[int]] = []

    def trainable(self, epoch: int, stages: tuple[str, ...]) -> Mapping[str, float]:
        self.calls.append(epoch)
        return dict.fromkeys(stages[len(self.calls) % 2 + 1 :], 1.0)


@dataclass(frozen=True, kw_only=True)
class Thaws(Plain):
    """Trains everything, whatever freeze says."""

    freeze: str = "none"


@dataclass(frozen=True, kw_only=True)
class Shuffles(Plain):
    def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
        order = torch.from_numpy(np.random.default_rng().permutation(len(batch.y)))
        return {"loss": task_loss(model(batch.x), batch.y[order], context.task)}


@dataclass(frozen=True, kw_only=True)
class SeesPixels(Plain):
    def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
        return {"loss": task_loss(model(batch.x.flip(3)), batch.y, context.task)}


@dataclass(frozen=True, kw_only=True)
class Remembers(Plain):
    """Counts its steps where no checkpoint looks."""

    steps: ClassVar[list[int]] = []

    def prepare(self, model: Model, context: Context) -> dict[str, nn.Module]:
        self.steps.clear()
        return {}

    def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
        self.steps.append(batch.epoch)
        return {"loss": super().loss(model, batch, context)["loss"] / len(self.steps)}


GRADIENT = zoo.GRADIENT_OPTIONS


def findings(
    make: Any, name: str = "broken", given: Mapping[str, Given] | None = None, only: str = "strategy-*", **values: Any
) -> dict:
    gradient = isinstance(make, type) and issubclass(make, Gradient)
    options = GRADIENT if gradient else {"scale": 1.0}
    kind = "gradient" if gradient else "closed-form"
    facts: dict[str, Any] = {"name": name, "kind": kind, "make": make, "options": options}

    class Plugin:
        @zoo.hookimpl
        def zoo_strategies(self) -> list[zoo.Strategy]:
            return [zoo.Strategy(**{**facts, **values})]

    return {one.check: one for one in check(Plugin(), only=only, given=given or {}) if one.kind == "strategy"}


VIEWS = {"needs": ("views",)}
CASES = [
    (Means, {"options": {}}, "declares", "option 'scale' of Means is not declared", '"scale": 1.0'),
    (Means, {"options": {"scale": 1.0, "k": 3}}, "declares", "'k' is declared, and Means has no such", "add the field"),
    (Means, {"options": {"scale": 2.0}}, "declares", "'scale' is 2.0 in the spec and 1.0 in Means", "same default"),
    (Plain, {"options": {}}, "declares", "'epochs' of Plain is not declared", r"with \*\*zoo.GRADIENT_OPTIONS"),
    (Means, {"kind": "gradient"}, "declares", "kind='gradient', and its class is a closed-form", 'kind="closed-form"'),
    (Means, {"needs": ("target",)}, "declares", r"the spec needs \['target'\], and Means \[\]", r"needs=\(\)"),
    (NotFrozen, {}, "declares", "NotFrozen is no frozen dataclass", r"@dataclass\(frozen=True, kw_only=True\)"),
    (NoDefault, {}, "declares", "the option 'rank' has no default", "every hyper-parameter a default"),
    (ListDefault, {"options": {"scale": 1.0, "layers": ["a"]}}, "declares", r"'layers' is \['a'\]", "same default"),
    (ListDefault, {"options": {"scale": 1.0, "layers": []}}, "declares", "can be changed in place", "a tuple, or None"),
    (Prints, {}, "learns", "printed 'here.* to stdout", "use logging"),
    (lambda **options: Means(**options), {}, "declares", "no subclass of ClosedForm or Gradient", "zoo.adapt.strategy"),
    ("zoo_absent:Means", {}, "declares", "cannot load 'zoo_absent:Means'", "not installed"),
    (WritesFeatures, {}, "head", "solve changes the features", "Work on a copy"),
    (GivesWeights, {}, "head", "solve gives Parameter|Tensor", "Return the head"),
    (Infinite, {}, "head", "not finite", "finite outputs"),
    (Narrow, {}, "head", r"gives \(19, 2\) for 19 rows of 3 classes", r"finite outputs \(N, C\)"),
    (PreparesInSilence, {}, "head", r"prepare changes \['norm.running_mean'\]", "Return the names"),
    (Rolls, {}, "seeded", "two fits with one seed differ in head.weight", "seeded by context.seed"),
    (Forgets, {}, "kept", "predicts something else", r"Let rebuild\(\)"),
    (CallsHome, {}, "learns", "asked the network for metrics.example", "nothing but zoo_fetch"),
    (ClassesOnly, {}, "tasks", "several labels end in", "or raise zoo.UsageError to refuse"),
    (
        NeedsStatistics,
        {"needs": ("batchnorm",)},
        "two-tensors",
        "took a backbone that has none",
        "UsageError in prepare",
    ),
    (NeedsViews, VIEWS, "learns", "it needs views, which the kit does not know", r"given=\{'broken': Given"),
    (Undefined, {}, "loss", "'loss' of the loss is nan", "one finite number"),
    (Undefined, {}, "learns", "the loss is nan in epoch 0", "."),
    (UndefinedPart, {}, "loss", "'part' of the loss is inf", "one finite number"),
    (PerRow, {}, "loss", "'loss' of the loss is", "a mean over the rows"),
    (Nameless, {}, "loss", "without an entry called 'loss'", 'Return {"loss"'),
    (Constant, {}, "loss", "carries no gradient", "Compute it from model"),
    (WritesFrozen, {}, "frozen", "backbone.conv.weight changed while training", "leave the model's tensors alone"),
    (SwitchesOn, {}, "frozen", "gives backbone.conv.weight a gradient", "Leave requires_grad to the core"),
    (TrainsStatistics, {}, "frozen", r"backbone\.(norm|layer1\.2)\.\w+ changed while training", "name their stage"),
    (PromisesTooMuch, {}, "frozen", "promises the stage 'layer1', and the loss gives it no", "Leave it out"),
    (Counts, {}, "frozen", "gives something else the second time", "pure function"),
    (Thaws, {"options": {**GRADIENT, "freeze": "none"}}, "frozen", "with freeze=all the backbone's", "stages 0 then"),
    (Shuffles, {}, "seeded", "two fits with one seed differ in", "not from random or numpy.random"),
    (Remembers, {}, "resumes", "broken off after two thirds and resumed it differs", r"modules that prepare\(\) gives"),
    (SeesPixels, {}, "two-tensors", "a backbone of two tensors end in AttributeError", "model.features"),
]


@pytest.mark.parametrize(
    ("make", "values", "caught", "what", "change"), CASES, ids=[f"{case[2]}-{i}" for i, case in enumerate(CASES)]
)
def test_caught(make: Any, values: dict[str, Any], caught: str, what: str, change: str) -> None:
    found = findings(make, only=f"*-{caught}", **values)
    assert found[caught].state == "failed", found
    assert re.search(what, found[caught].what), found[caught]
    assert re.search(change, found[caught].change), found[caught]


@pytest.mark.parametrize("make", [Means, Plain])
def test_a_sound_one_passes(make: Any) -> None:
    assert {one.state for one in findings(make).values()} == {"ok"}


@pytest.mark.parametrize(("make", "caught"), [(Rolls, "seeded"), (Forgets, "kept"), (Remembers, "resumes")])
def test_one_slip_is_one_finding(make: Any, caught: str) -> None:
    assert [one.check for one in findings(make).values() if one.state == "failed"] == [caught]


def test_what_the_kit_does_not_know_can_be_given() -> None:
    found = findings(NeedsViews, needs=("views",), given={"broken": Given(options={"scale": 2.0})})
    assert {one.state for one in found.values()} == {"ok"}


def test_needs_are_served() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Everything(Plain):
        teacher: Any = None
        needs: ClassVar[frozenset[str]] = frozenset({"teacher", "target", "source-head"})

        def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
            assert context.source_head is not None
            assert context.target is not None
            assert context.teacher is not None
            assert context.teacher.logits.shape == (context.rows, context.task.outputs)
            known = batch.labelled
            return {"loss": task_loss(model(batch.x)[known], batch.y[known], context.task)}

    options = {**GRADIENT, "teacher": None}
    found = findings(Everything, needs=("teacher", "target", "source-head"), options=options)
    assert {one.state for one in found.values()} == {"ok"}, found


def test_a_refusal_is_told() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Refuses(Means):
        def solve(self, features: Tensor, targets: np.ndarray, context: Context) -> nn.Module:
            if context.task.kind != "classes":
                raise zoo.UsageError("this is for classes")
            return super().solve(features, targets, context)

    found = findings(Refuses)["tasks"]
    assert (found.state, "refuses both" in found.what) == ("skipped", True)

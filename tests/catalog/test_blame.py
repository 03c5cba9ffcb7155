"""An error that a plugin's code raises names plugin, distribution and version."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import zoo
from zoo.catalog.registry import Registry

SOURCE = """
from dataclasses import dataclass

import zoo
from zoo.adapt.strategy import ClosedForm
from zoo.testing.networks import Tiny

@zoo.hookimpl
def zoo_backbones():
    facts = dict(family="f", num_features=8, params=930, input_size=(3, 8, 8), head="classifier")
    yield zoo.Backbone(name="sound", build="zoo_t_blame:Tiny", **facts)
    yield zoo.Backbone(name="unbuilt", build="zoo_t_blame:build", **facts)
    yield zoo.Backbone(name="absent", build="zoo_t_blame:nowhere", **facts)

@zoo.hookimpl
def zoo_strategies():
    yield zoo.Strategy(name="falls", kind="closed-form", make="zoo_t_blame:Falls")
    yield zoo.Strategy(name="gives-nothing", kind="closed-form", make="zoo_t_blame:GivesNothing")
    yield zoo.Strategy(name="no-class", kind="closed-form", make="zoo_t_blame:helper")

def build(num_classes, in_chans=3):
    raise ZeroDivisionError("oh")

@dataclass(frozen=True, kw_only=True)
class Falls(ClosedForm):
    def solve(self, features, targets, context):
        return helper()

@dataclass(frozen=True, kw_only=True)
class GivesNothing(ClosedForm):
    def prepare(self, network, context):
        return 7

    def solve(self, features, targets, context):
        return None

def helper():
    return [][0]
"""
DATA = (np.random.default_rng(0).random((12, 3, 8, 8), dtype=np.float32), [0, 1] * 6)


@pytest.fixture
def registry(install: Callable[..., Path]) -> Registry:
    install("zoo-blame", "0.7", {"blame": "zoo_t_blame"}, zoo_t_blame=SOURCE)
    return Registry(files=())


def notes(error: BaseException) -> str:
    return "\n".join(getattr(error, "__notes__", ()))


def test_a_strategy_that_raises(registry: Registry) -> None:
    learner = zoo.compose("sound", "falls", weights=None, registry=registry)
    with pytest.raises(IndexError) as caught:
        learner.fit(DATA)
    assert notes(caught.value) == "Raised by the plugin 'blame' (zoo-blame 0.7), in zoo_t_blame:helper."


def test_what_a_strategy_gave_and_the_zoo_cannot_use(registry: Registry) -> None:
    """No frame of the plugin is left when it turns out."""
    learner = zoo.compose("source_cnn", "gives-nothing", weights=None, registry=registry)
    with pytest.raises(TypeError) as caught:
        learner.fit("digits", labels_per_class=2)
    assert notes(caught.value) == "It may come from the plugin 'blame' (zoo-blame 0.7), used here."
    with pytest.raises(zoo.ZooError) as refused:
        learner.fit("digits", labels_per_class=2, val="no such split")
    assert "blame" not in notes(refused.value)
    with pytest.raises(zoo.PluginError, match="plugin 'blame': the strategy 'no-class' is made by <function helper"):
        zoo.compose("source_cnn", "no-class", weights=None, registry=registry)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("unbuilt", "Raised by the plugin 'blame' (zoo-blame 0.7), in zoo_t_blame:build."),
        ("absent", "It concerns the plugin 'blame' (zoo-blame 0.7)."),
    ],
)
def test_a_builder_that_raises(registry: Registry, name: str, says: str) -> None:
    with pytest.raises(zoo.PluginError) as caught:
        zoo.load_backbone(name, weights=None, registry=registry)
    assert notes(caught.value) == says
    with pytest.raises(zoo.PluginError) as caught:
        zoo.compose(name, "linear-probe", weights=None, registry=registry).fit(DATA)
    assert notes(caught.value) == says


def test_what_the_user_did_wrong_names_nobody(registry: Registry) -> None:
    learner = zoo.compose("sound", "linear-probe", weights=None, registry=registry)
    with pytest.raises(zoo.DataError) as caught:
        learner.fit((DATA[0], [0] * 12))
    assert notes(caught.value) == ""

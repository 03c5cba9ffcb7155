"""Specs, plugins and registries made in one call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import zoo
from zoo.catalog.loaded import PluginReport
from zoo.catalog.registry import Registry
from zoo.settings import Settings

#: Source of a plugin with one backbone.
GOOD = """
import zoo
@zoo.hookimpl
def zoo_backbones():
    yield zoo.Backbone(name="{name}", family="f", build="a:b", num_features=1, params=1)
"""


def backbone(name: str = "tiny", **values: Any) -> zoo.Backbone:
    """A spec with all that must be given."""
    return zoo.Backbone(**{"name": name, "family": "f", "build": "a.b:c", "num_features": 4, "params": 9, **values})


def weights(name: str, **values: Any) -> zoo.Weights:
    """Weights by name."""
    arch = name.partition(".")[0]
    return zoo.Weights(**{"name": name, "backbone": arch, "source": "hf://o/r@main/m.safetensors", **values})


def strategy(name: str, **values: Any) -> zoo.Strategy:
    """A strategy by name."""
    return zoo.Strategy(**{"name": name, "kind": "gradient", "make": "a.b:C", **values})


class Gives:
    """A plugin object that gives what it is made of."""

    def __init__(self, *specs: Any) -> None:
        self.specs = specs

    def _of(self, kind: type | tuple[type, ...]) -> list[Any]:
        return [spec for spec in self.specs if isinstance(spec, kind)]

    @zoo.hookimpl
    def zoo_backbones(self) -> list[Any]:
        return self._of(zoo.Backbone)

    @zoo.hookimpl
    def zoo_strategies(self) -> list[Any]:
        return self._of(zoo.Strategy)

    @zoo.hookimpl
    def zoo_weights(self) -> list[Any]:
        return self._of((zoo.Weights, str, Path))


def alone(plugins: Any = None, *, files: Any = (), **settings: Any) -> Registry:
    """A registry of these plugins and files only."""
    return Registry(plugins, settings=Settings(**settings), builtins=False, entry_points=False, files=files)


def installed(**settings: Any) -> Registry:
    """A registry of what is installed, without the built-ins."""
    return Registry(settings=Settings(**settings), builtins=False, files=())


def report(registry: Registry, name: str) -> PluginReport:
    """What is reported of one plugin."""
    return {one.name: one for one in registry.reports() if one.state != "shadowed"}[name]


def hook(function: Callable[..., Any]) -> Any:
    """A plugin of one hook."""
    return type("Plugin", (), {function.__name__: staticmethod(zoo.hookimpl(function))})()

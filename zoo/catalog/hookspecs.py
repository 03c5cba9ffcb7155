"""The hooks a plugin may implement. Each is one typed function; mark yours with `@zoo.hookimpl`."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

import pluggy

from zoo.catalog.spec import Backbone, Strategy, Weights

hookspec = pluggy.HookspecMarker("zoo")
hookimpl = pluggy.HookimplMarker("zoo")


@hookspec
def zoo_backbones() -> Iterable[Backbone]:
    """Give the architectures this plugin can build."""


@hookspec
def zoo_strategies() -> Iterable[Strategy]:
    """Give the ways to adapt a backbone that this plugin knows."""


@hookspec
def zoo_find_backbone(name: str) -> Backbone | None:
    """Give the architecture called `name` if this plugin can build it; asked only when nobody listed it."""


@hookspec
def zoo_weights() -> Iterable[Weights | str | PathLike[str]]:
    """Give weights, or paths of registry files that this plugin ships."""


@hookspec
def zoo_fetch(weights: Weights, target: Path) -> bool | None:
    """Write the bytes of a source scheme of your own to `target` and return True; the core hashes them."""


@hookspec
def zoo_composed(learner: Any) -> None:
    """Be told that a backbone and a strategy were composed."""


@hookspec
def zoo_epoch_end(learner: Any, epoch: int, metrics: dict[str, float]) -> None:
    """Be told that an epoch ended, with its metrics."""

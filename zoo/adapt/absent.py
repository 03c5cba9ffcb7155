"""What stands in a loaded run for a strategy, or for source weights, that this machine does not have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
from torch import Tensor, nn

from zoo.adapt.source import NamedSource
from zoo.adapt.strategy import ClosedForm, Context
from zoo.errors import NotFoundError
from zoo.models.network import Network


@dataclass(frozen=True)
class AbsentStrategy(ClosedForm):
    """It predicts with the head that was saved, and cannot learn.

    Args:
        name: of the strategy.
        plugin: whose it is; None for an object of the user's own.
        plugin_version: of the fit.
        options: of the fit, as run.json has them.
        head: name of the saved head; see `zoo.adapt.heads.build_head`.
    """

    name: str
    plugin: str | None
    plugin_version: str | None
    options: Mapping[str, Any] = field(default_factory=dict)
    head: str = "linear"

    def prepare(self, network: Network, context: Context) -> NoReturn:
        """It fails before any feature is computed."""
        raise strategy_missing(self.name, self.plugin, self.plugin_version)

    def solve(self, features: Tensor, targets: np.ndarray, context: Context) -> nn.Module:
        """It fails."""
        raise strategy_missing(self.name, self.plugin, self.plugin_version)


def strategy_missing(name: str, plugin: str | None, version: str | None) -> NotFoundError:
    """The error for a run whose strategy is not here."""
    if not plugin:
        return NotFoundError(
            f"the run was made with a strategy object of its author's own, {name}",
            hint="Compose again with that object to learn.",
        )
    made = f"plugin {plugin} {version or ''}".rstrip()
    return NotFoundError(
        f"no strategy called {name!r} here",
        why=f"The run was made with {made}.",
        hint=f"Install {made}, or name its folder with --plugins-dir.",
    )


class LostSource(NamedSource):
    """A backbone whose source weights are known by their record alone: the file is nowhere here."""

    def network(self, progress: Any = None) -> NoReturn:
        """Raise `NotFoundError`: the record holds no tensors."""
        assert self.weights is not None
        raise NotFoundError(
            f"the source weights {self.weights.name} are nowhere here",
            why=f"Their sha256 is {self.weights.sha256}." if self.weights.sha256 else None,
            hint=f"Register the file: zoo register FILE --name {self.weights.name}",
        )

"""Where a learner's network comes from: the registry, or a module of the user's own."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from zoo.catalog.spec import Backbone, Preprocessing, Weights
from zoo.models.network import Network, default_preprocessing

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry


class NamedSource:
    """A backbone of the registry with its weights, or with random ones.

    Args:
        spec: the architecture.
        weights: what to load; None = random, from the seed.
        registry: for pulling.
        in_chans: channels of the input.
        tap: where features are read.
        seed: of random weights.
    """

    def __init__(
        self,
        spec: Backbone,
        weights: Weights | None,
        registry: Registry,
        *,
        in_chans: int = 3,
        tap: str | None = None,
        seed: int = 0,
    ) -> None:
        self.spec = spec
        self.weights = weights
        self.registry = registry
        self.in_chans = in_chans
        self.tap = tap
        self.seed = seed

    @property
    def name(self) -> str:
        """The architecture's name."""
        return self.spec.name

    @property
    def pretrained(self) -> bool:
        """Whether it comes with weights."""
        return self.weights is not None

    @property
    def preprocessing(self) -> Preprocessing | None:
        """The weights' own, else the architecture's."""
        own = self.weights.preprocessing if self.weights else None
        return own or default_preprocessing(self.spec)

    def network(self, progress: Any = None) -> Network:
        """Pull what is missing, check it, and build the network (on the CPU, evaluation mode)."""
        from zoo.models.load import load_network
        from zoo.weights.pull import pull

        path: Path | None = None
        if self.weights is not None:
            told = (lambda have, total: progress("pull", have, total or 0)) if progress else None
            path = pull(self.weights, settings=self.registry.settings, registry=self.registry, progress=told).path
        return load_network(self.spec, self.weights, path, in_chans=self.in_chans, tap=self.tap, seed=self.seed)


class ModuleSource:
    """A module of the user's own. Each call of `network` gives a fresh copy of it.

    Args:
        module: kept as it was given.
        head: dotted name of its classifier; None = the last linear layer.
        tap: where features are read.
        preprocessing: how raw samples become its input; None = it is given tensors.
    """

    spec: None = None
    weights: None = None
    #: What a module of the user's own holds is theirs to say; it is taken as learned.
    pretrained = True

    def __init__(
        self,
        module: nn.Module,
        *,
        head: str | None = None,
        tap: str | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        self.module = module
        self.head = head
        self.tap = tap
        self.preprocessing = preprocessing
        self.network()  # a wrong head or tap is said now

    @property
    def name(self) -> str:
        """The class of the module."""
        return type(self.module).__name__

    @property
    def in_chans(self) -> int:
        """Channels of the input."""
        return self.network().in_chans

    def network(self, progress: Any = None) -> Network:
        """A copy of the module behind the network contract (evaluation mode)."""
        module = copy.deepcopy(self.module).eval()
        with torch.no_grad():
            return Network(module, head=self.head, tap=self.tap, preprocessing=self.preprocessing)


Source = NamedSource | ModuleSource

"""Changes of a backbone that are learned beside its tensors, which stay as they are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from zoo.models.network import Network


class Change(nn.Module, ABC):
    """An extra module that stands in for tensors of the backbone whenever features are computed.

    A strategy gives it in `prepare`, and puts what it learned in place in `finish`.
    """

    @abstractmethod
    def tensors(self, network: Network) -> dict[str, Tensor]:
        """By the backbone's own names, what is used instead of its tensors now; gradients flow through."""


def changed_features(network: Network, instead: Mapping[str, Tensor], x: Any) -> Tensor:
    """(N, D) at the tap, with some of the tensors exchanged; tied ones are exchanged together.

    A layer sees the exchanged tensor as its attribute, so whatever it does with it (pad, group, standardise, read it
    from another module) is done with the change.
    """
    return functional_call(_Features(network), {f"network.{name}": value for name, value in instead.items()}, (x,))


class _Features(nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Any) -> Tensor:
        return self.network.features(x)

"""The two factors of each change, which are what LoRA trains."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from zoo_plugins.strategies.lora.layers import Layer

from zoo.adapt.strategy import Change, LowRank
from zoo.models.network import Network


class Adapters(Change):
    """For each layer `up` (G, rows, R), zeros, and `down` (G, R, columns), random; the change is
    (alpha / R) up @ down.

    Args:
        layers: of the backbone.
        alpha: see above.
        dropout: probability by which each of the R terms sits out a forward pass while training.
    """

    def __init__(self, layers: Sequence[Layer], *, alpha: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.alpha, self.dropout = alpha, dropout
        for number, layer in enumerate(self.layers):
            bound = 1 / math.sqrt(layer.columns)  # as torch draws a layer's own weights
            down = torch.empty(layer.groups, layer.rank, layer.columns).uniform_(-bound, bound)
            self.register_parameter(f"down{number}", nn.Parameter(down))
            self.register_parameter(f"up{number}", nn.Parameter(torch.zeros(layer.groups, layer.rows, layer.rank)))

    def tensors(self, network: Network) -> dict[str, Tensor]:
        """The changed weights; in full precision, as they will be when the changes are put in place."""
        changed = {}
        for layer, up, down in self._factors():
            weight = network.get_parameter(layer.weight)
            with torch.autocast(weight.device.type, enabled=False):
                changed[layer.weight] = weight + torch.bmm(self._thinned(up), down).reshape(weight.shape)
        return changed

    @torch.no_grad()
    def changes(self) -> dict[str, LowRank]:
        """What was learned, by the tensors' names."""
        return {layer.weight: LowRank(up.cpu(), down.cpu().clone()) for layer, up, down in self._factors()}

    def _factors(self) -> Iterator[tuple[Layer, Tensor, Tensor]]:
        """Layer, `up` times alpha / R, and `down`."""
        for number, layer in enumerate(self.layers):
            yield layer, getattr(self, f"up{number}") * (self.alpha / layer.rank), getattr(self, f"down{number}")

    def _thinned(self, up: Tensor) -> Tensor:
        if not self.training or not self.dropout:
            return up
        kept = torch.rand(up.shape[0], 1, up.shape[2], device=up.device) >= self.dropout
        return up * kept / (1 - self.dropout)

"""BitFit: every weight stays, every bias is trained (Ben Zaken, Ravfogel & Goldberg 2022, arXiv:2106.10199)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from zoo_plugins.strategies.lora.beside import Beside

from zoo.adapt.strategy import Change, Context, Model
from zoo.errors import UsageError
from zoo.models.network import Network


@dataclass(frozen=True, kw_only=True)
class BitFit(Beside):
    """The biases of all layers before the tap, and a head; everything else stays as it is.

    In a convolutional network the convolutions in front of BatchNorm have no bias: there it is BatchNorm's own bias
    that is trained, while its scale and statistics stay.

    Options are those of every strategy that learns from labels (`Supervised`), and `init` (see `Beside`).
    """

    stage: ClassVar[str] = "bitfit"

    def change(self, model: Model, context: Context) -> Change:
        """The biases to train.

        Raises:
            UsageError: there are none.
        """
        found = biases(model.backbone)
        if not found:
            raise UsageError("this backbone has no biases before the tap", hint="Choose lora or fine-tune.")
        return Biases(found)

    def finish(self, model: Model, context: Context) -> None:
        """Put the biases in place."""
        learned = model.extras.pop(self.stage)
        assert isinstance(learned, Biases)
        with torch.no_grad():
            for name, value in learned.tensors(model.backbone).items():
                model.backbone.get_parameter(name).copy_(value)


def biases(network: Network) -> dict[str, Tensor]:
    """Vectors before the tap that are called `bias` or `..._bias`, by name."""
    behind = set(network.behind_tap())
    names = [name for stage, members in network.stages().items() if stage not in behind for name in members]
    found = {name: network.get_parameter(name) for name in names}
    return {name: value for name, value in found.items() if name.endswith("bias") and value.ndim == 1}


class Biases(Change):
    """Biases that are used instead of the backbone's.

    Args:
        start: the backbone's, by name.
    """

    def __init__(self, start: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.names = tuple(start)
        self.values = nn.ParameterList(nn.Parameter(value.detach().clone()) for value in start.values())

    def tensors(self, network: Network) -> dict[str, Tensor]:
        """By name."""
        return dict(zip(self.names, self.values, strict=True))

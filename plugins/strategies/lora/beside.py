"""What strategies have in common that leave the backbone alone and train a head and something small beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from zoo_plugins.strategies.linear_probe.start import start_at_probe

from zoo.adapt.strategy import Batch, Change, Context, Model, one_of
from zoo.adapt.supervised import Supervised
from zoo.models.stages import HEAD


@dataclass(frozen=True, kw_only=True)
class Beside(Supervised):
    """Trains the head and a change of the backbone, whose own tensors and BatchNorm statistics stay as they are.

    Args:
        init: where the head starts: "probe" = as linear-probe leaves it on the labelled rows' features; "random";
            "auto" = the probe where the backbone came with weights.
    """

    init: str = "auto"

    #: The stage of the change, an extra module.
    stage: ClassVar[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self, "init", "auto", "probe", "random")

    def resolve(self, context: Context) -> Beside:
        """Settle `init`."""
        automatic = "probe" if context.pretrained else "random"
        return dataclasses.replace(self, init=automatic if self.init == "auto" else self.init)

    def change(self, model: Model, context: Context) -> Change:
        """What is learned beside the backbone; at first it changes nothing."""
        raise TypeError(f"{type(self).__name__} must give what is learned beside the backbone")

    def prepare(self, model: Model, context: Context) -> dict[str, nn.Module]:
        """Start the head, and give the change."""
        self.check_task(context.task)
        change = self.change(model, context)  # a backbone that it cannot be learned for is refused first
        if self.init == "probe":
            start_at_probe(model, self.head, context)
        return {self.stage: change, **self.weights(context)}

    def trainable(self, epoch: int, stages: tuple[str, ...]) -> Mapping[str, float]:
        """Head and change, nothing else."""
        return {HEAD: 1.0, self.stage: 1.0}

    def freezes_batchnorm(self, context: Context) -> bool:
        """Always."""
        return True

    def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
        """The task's loss."""
        return {"loss": self.supervised_loss(model, batch, context)}

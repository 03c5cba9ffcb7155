"""Train a random network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from zoo.adapt.strategy import Batch, Context, Gradient, Model, one_of, task_loss


@dataclass(frozen=True, kw_only=True)
class FromScratch(Gradient):
    """Every weight is trained, from random values; BatchNorm learns its statistics.

    Args:
        recipe: "default" = the options as they are; "article" = the source article's own training: plain SGD at a
            constant 0.01 for ten epochs, no momentum, no decay, no clipping; it overrides those options.
        label_smoothing: of the cross-entropy, in [0, 1).
    """

    recipe: str = "default"
    label_smoothing: float = 0.0

    needs: ClassVar[frozenset[str]] = frozenset({"random-weights"})
    min_epochs: ClassVar[int] = 20

    def __post_init__(self) -> None:
        one_of(self, "recipe", "default", "article")
        if self.recipe == "article":
            article = {
                "epochs": 10, "lr": 0.01, "weight_decay": 0.0, "optimizer": "sgd", "momentum": 0.0,
                "schedule": "constant", "clip": None,
            }  # fmt: skip
            for name, value in article.items():
                object.__setattr__(self, name, value)
        super().__post_init__()

    def freezes_batchnorm(self, context: Context) -> bool:
        """Random statistics have to be learned."""
        return False

    def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
        """The task's loss."""
        return {"loss": task_loss(model(batch.x), batch.y, context.task, label_smoothing=self.label_smoothing)}

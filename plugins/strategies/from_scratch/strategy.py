"""Train a random network."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

from torch import Tensor, nn

from zoo.adapt.strategy import Batch, Context, Model, check_types, one_of
from zoo.adapt.supervised import Supervised

#: What an option says that leaves its value to the recipe.
RECIPE: Final = "recipe"

Recipe = Literal["recipe"]

RECIPES: Final[dict[str, dict[str, Any]]] = {
    "default": {
        "epochs": None,
        "lr": 1e-3,
        "weight_decay": 0.01,
        "optimizer": "adamw",
        "momentum": 0.9,
        "schedule": "cosine",
        "clip": 1.0,
    },
    "article": {
        "epochs": 10,
        "lr": 0.01,
        "weight_decay": 0.0,
        "optimizer": "sgd",
        "momentum": 0.0,
        "schedule": "constant",
        "clip": None,
    },
}


@dataclass(frozen=True, kw_only=True)
class FromScratch(Supervised):
    """Every weight is trained from random values; BatchNorm learns its statistics.

    Args:
        recipe: the values of all options below that are left at "recipe". "default": AdamW, peak learning rate 1e-3,
            cosine, decay 0.01, clipping at 1, at least 20 epochs. "article": the source article's own training, plain
            SGD at a constant 0.01 for ten epochs, without momentum, decay or clipping.
    """

    recipe: str = "default"
    epochs: int | Recipe | None = RECIPE
    lr: float | Recipe = RECIPE
    weight_decay: float | Recipe = RECIPE
    optimizer: str = RECIPE
    momentum: float | Recipe = RECIPE
    schedule: str = RECIPE
    clip: float | Recipe | None = RECIPE

    needs: ClassVar[frozenset[str]] = frozenset({"random-weights"})
    min_epochs: ClassVar[int] = 20

    def __post_init__(self) -> None:
        check_types(self)
        one_of(self, "recipe", *RECIPES)
        options = self._settled()
        if options:
            dataclasses.replace(self, **options)  # the values given and the recipe's are checked together
        else:
            super().__post_init__()

    def resolve(self, context: Context) -> FromScratch:
        """Fill in the recipe."""
        self.check_task(context.task)
        return dataclasses.replace(self, **self._settled())

    def prepare(self, model: Model, context: Context) -> dict[str, nn.Module]:
        """The weights of the classes, where there are some."""
        return self.weights(context)

    def freezes_batchnorm(self, context: Context) -> bool:
        """Random statistics have to be learned."""
        return False

    def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
        """The task's loss."""
        return {"loss": self.supervised_loss(model, batch, context)}

    def _settled(self) -> dict[str, Any]:
        return {name: value for name, value in RECIPES[self.recipe].items() if getattr(self, name) == RECIPE}

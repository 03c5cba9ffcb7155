"""The linear probe's hyper-parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn
from zoo_plugins.strategies.linear_probe.mlp import LR, train_mlp

from zoo.adapt.heads import check_head, hidden_units
from zoo.adapt.solve import check_options, solve_head
from zoo.adapt.strategy import ClosedForm, Context, positive
from zoo.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class LinearProbe(ClosedForm):
    """A head on frozen features.

    Args:
        head: "linear", solved to the optimum; or "mlp(N)", trained on the features by gradient descent ("mlp(512)" on
            the source CNN's features is the article's target network).
        regularizer: penalty lambda ||W||^2 / 2 beside the mean loss, on standardised features; "auto" = chosen by
            cross-validation of the training rows (an mlp's is fixed, see `train_mlp`).
        class_weight: None, or "balanced": rows count inversely to the frequency of their class.
        floor: least scale of a feature when features are standardised; see `zoo.adapt.solve.solve_head`.
        epochs: of an mlp; None = enough for 500 steps, 20 at least.
        lr: peak learning rate of an mlp; None = 0.003.
    """

    head: str = "linear"
    regularizer: float | str = "auto"
    class_weight: str | None = None
    floor: float | None = None
    epochs: int | None = None
    lr: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self.regularizer, self.class_weight, self.floor)
        check_head(self.head)
        given = [name for name in ("epochs", "lr") if getattr(self, name) is not None]
        if self.head == "linear" and given:
            raise UsageError(
                f"a linear head has no {' and no '.join(given)}: it is solved, not trained",
                hint="Leave them out, or choose head=mlp(N).",
            )
        positive(self, "epochs", "lr")

    def solve(self, features: Tensor, targets: np.ndarray, context: Context) -> nn.Module:
        """The head for raw features (N, D), mean and scale folded in."""
        shared = {"regularizer": self.regularizer, "class_weight": self.class_weight, "floor": self.floor}
        if hidden := hidden_units(self.head):
            return train_mlp(
                features,
                targets,
                context.task,
                hidden,
                epochs=self.epochs,
                lr=self.lr or LR,
                seed=context.seed,
                **shared,
            )
        return solve_head(features, targets, context.task, seed=context.seed, **shared)

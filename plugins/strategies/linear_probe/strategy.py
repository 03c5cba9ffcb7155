"""The linear probe's hyper-parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from zoo_plugins.strategies.linear_probe.mlp import LR, train_mlp

from zoo.adapt.heads import check_head, hidden_units
from zoo.adapt.solve import check_options, solve
from zoo.adapt.strategy import ClosedForm, Context, positive
from zoo.data.task import REGRESSION
from zoo.data.views import VIEWS
from zoo.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class LinearProbe(ClosedForm):
    """A head on frozen features.

    Args:
        head: "linear", solved to the optimum; or "mlp(N)", trained on the features by gradient descent ("mlp(512)" on
            the source CNN's features is the article's target network).
        regularizer: penalty lambda ||W||^2 / 2 beside the mean loss, on standardised features; "auto" = chosen by
            cross-validation of the training rows, groups whole; of very many (2^26 numbers, see
            `zoo.adapt.streamed`) on a seeded, stratified sample, which a note says (an mlp's is fixed, see
            `train_mlp`).
        class_weight: None; "balanced": rows count inversely to the frequency of their class; or class -> weight, for
            instance {"ants": 2.0}: classes not named have weight 1, and a label's weight is that of the rows that
            have it.
        floor: least scale of a feature when features are standardised; see `zoo.adapt.solve.solve_head`.
        epochs: of an mlp; None = enough for 500 steps, 20 at least.
        lr: peak learning rate of an mlp; None = 0.003.
        calibrate: divide a linear head's scores by the temperature under which training rows that were left out are
            predicted best (Guo et al. 2017); it changes no prediction, only how sure it is. None = for classes and
            labels. The record of the fit keeps the temperature.
        views: of every training row, the row itself included: fixed crops (see `zoo.data.views`), each with features
            of its own in the feature store. A row is held out with all its views. What is reported and predicted is
            seen as it is.
    """

    head: str = "linear"
    regularizer: float | str = "auto"
    class_weight: str | Mapping[str, float] | None = None
    floor: float | None = None
    epochs: int | None = None
    lr: float | None = None
    calibrate: bool | None = None
    views: int = 1

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
        if self.head != "linear" and self.calibrate:
            raise UsageError(
                "calibrate is for a linear head: an mlp has no rows left out of its training",
                hint="Leave it out, or choose head=linear.",
            )
        positive(self, "epochs", "lr")
        if not 1 <= self.views <= VIEWS:
            raise UsageError(f"views must be 1 to {VIEWS}, not {self.views}", hint="1 = every row as it is.")

    def solve(self, features: Tensor, targets: np.ndarray, context: Context) -> nn.Module:
        """The head for raw features (N, D), mean and scale folded in."""
        rows = self.training_features(features, context)
        shared = {"regularizer": self.regularizer, "class_weight": self.class_weight, "floor": self.floor}
        if hidden := hidden_units(self.head):
            return train_mlp(
                rows,
                np.concatenate([targets] * self.views),
                context.task,
                hidden,
                epochs=self.epochs,
                lr=self.lr or LR,
                seed=context.seed,
                **shared,
            )
        calibrate = context.task.kind != REGRESSION if self.calibrate is None else self.calibrate
        solved = solve(
            rows,
            targets,
            context.task,
            calibrate=calibrate,
            views=self.views,
            seed=context.seed,
            groups=context.groups,
            **shared,
        )
        context.notes.extend(solved.notes)
        context.resolved.update(solved.settled())
        return solved.head

    def training_features(self, features: Tensor, context: Context) -> Tensor:
        """Features of all views (views * N, D), one block after the other; `features` are those of the first."""
        if self.views == 1:
            return features
        if context.features is None:
            raise UsageError("views need the rows that the features are of", hint="Leave `views` out.")
        return torch.cat([features, *(context.features(view)[0] for view in range(1, self.views))])

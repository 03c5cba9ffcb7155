"""LP-FT: first the head in closed form, then the rest of the network (Kumar et al. 2022, arXiv:2202.10054)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from zoo.adapt.solve import solve_head
from zoo.adapt.strategy import Batch, Context, Gradient, Model, at_least_zero, one_of, positive, task_loss
from zoo.errors import UsageError
from zoo.models.network import HEAD


@dataclass(frozen=True, kw_only=True)
class FineTune(Gradient):
    """Train the weights further.

    Args:
        freeze: "none"; "all" = the head alone is trained; or a stage's name: it and all before it stay as they are,
            and no gradient is computed below.
        init: where the head starts: "probe" = the closed-form linear probe on the same rows, so that training begins
            at the probe's accuracy; "random"; "auto" = the probe where the weights are pretrained and the head linear.
        batchnorm: "frozen" = layers use the pretrained statistics and keep them; "train"; "auto" = frozen where the
            weights are pretrained.
        layer_decay: a stage's learning rate is `layer_decay` times that of the next one, counted from the head.
        label_smoothing: of the cross-entropy, in [0, 1).
    """

    lr: float = 3e-4
    freeze: str = "none"
    init: str = "auto"
    batchnorm: str = "auto"
    layer_decay: float = 1.0
    label_smoothing: float = 0.0

    min_epochs: ClassVar[int] = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self, "init", "auto", "probe", "random")
        one_of(self, "batchnorm", "auto", "frozen", "train")
        positive(self, "layer_decay")
        at_least_zero(self, "label_smoothing")

    def prepare(self, model: Model, context: Context) -> dict[str, nn.Module]:
        """Give the head the probe's solution."""
        start_head(model, context, self.init)
        return {}

    def trainable(self, epoch: int, stages: tuple[str, ...]) -> Mapping[str, float]:
        """Geometric factors from the head down to the boundary; 0 below it."""
        return stage_factors(stages, self.freeze, self.layer_decay)

    def freezes_batchnorm(self, context: Context) -> bool:
        """See `batchnorm`."""
        return context.pretrained if self.batchnorm == "auto" else self.batchnorm == "frozen"

    def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
        """The task's loss."""
        return {"loss": task_loss(model(batch.x), batch.y, context.task, label_smoothing=self.label_smoothing)}


def start_head(model: Model, context: Context, init: str) -> None:
    """Copy the closed-form probe of the labelled rows into the head, where `init` says so.

    Raises:
        UsageError: "probe" for a head that is not linear.
    """
    linear = isinstance(model.head, nn.Linear)
    if init == "random" or (init == "auto" and not (linear and context.pretrained)):
        return
    if not linear:
        raise UsageError("init=probe gives a linear head", hint="Use head=linear, or init=random.")
    assert context.features is not None
    features, targets = context.features()
    solved = solve_head(features, targets, context.task, seed=context.seed)
    with torch.no_grad():
        model.head.weight.copy_(solved.weight)
        model.head.bias.copy_(solved.bias)


def stage_factors(stages: tuple[str, ...], freeze: str, layer_decay: float) -> dict[str, float]:
    """Learning-rate factor by stage: layer_decay ** (stages up to the head); 0 up to and including `freeze`.

    Raises:
        UsageError: no stage of that name.
    """
    head = stages.index(HEAD)
    boundary = {"none": -1, "all": head - 1}.get(freeze)
    if boundary is None:
        if freeze not in stages[:head]:
            raise UsageError(
                f"freeze={freeze} names no stage", hint=f"Stages: {', '.join(stages[:head])}; or none, or all."
            )
        boundary = stages.index(freeze)
    return {
        stage: 0.0 if place <= boundary else layer_decay ** max(0, head - place) for place, stage in enumerate(stages)
    }

"""The one training loop."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Final

import torch
from torch import nn

from zoo.adapt.features import to_device
from zoo.adapt.freezing import FrozenGuard, any_batchnorm_trains, set_trainable
from zoo.adapt.schedule import make_optimizer, parameter_groups, resolved_epochs, scale
from zoo.adapt.strategy import Batch, Context, Gradient, Model
from zoo.data import loading
from zoo.errors import TrainingError
from zoo.models.accelerator import Placement

#: Row numbers named when a loss is not finite.
_NAMED: Final = 8

Batches = Callable[[int], Iterable[loading.Batch]]


def train(
    model: Model,
    strategy: Gradient,
    batches: Batches,
    context: Context,
    *,
    steps_per_epoch: int,
    on_epoch: Callable[[int, dict[str, Any]], None] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Train `model` as `strategy` says, in place.

    Args:
        model: on its device; the head is fresh.
        strategy: what is trained when, and by which loss.
        batches: epoch -> its batches; their order is a pure function of the epoch.
        context: what the strategy may know.
        steps_per_epoch: number of batches of an epoch.
        on_epoch: told (epoch, metrics) at the end of each.
        progress: told ("train", steps done, steps in all).

    Returns:
        One dict per epoch: epoch, loss (mean over rows), the strategy's other losses, lr, seconds, rows_per_second.

    Raises:
        TrainingError: the loss is not finite (the batch is named), a frozen tensor changed, or nothing is trainable.
    """
    for name, module in strategy.prepare(model, context).items():
        model.extras[name] = module.to(context.placement.device)
    model.to(memory_format=context.placement.memory_format)
    epochs = resolved_epochs(strategy, steps_per_epoch)
    stages = tuple(model.stages())
    factors = [dict(strategy.trainable(epoch, stages)) for epoch in range(epochs)]
    frozen_batchnorm = strategy.freezes_batchnorm(context)
    guard = FrozenGuard(model, factors, frozen_batchnorm=frozen_batchnorm)
    stepper = _Stepper(model, strategy, context, factors, total=epochs * steps_per_epoch)
    history = []
    for epoch in range(epochs):
        set_trainable(model, factors[epoch], frozen_batchnorm=frozen_batchnorm)
        told = (lambda step: progress("train", step, epochs * steps_per_epoch)) if progress else None
        metrics = _epoch(stepper, batches(epoch), epoch, told)
        history.append(metrics)
        if on_epoch:
            on_epoch(epoch, metrics)
    model.eval().requires_grad_(True)
    guard.check(model)
    strategy.finish(model, context)
    return history


def _epoch(
    stepper: _Stepper, batches: Iterable[loading.Batch], epoch: int, told: Callable[[int], None] | None
) -> dict[str, Any]:
    began = time.perf_counter()
    sums: dict[str, float] = defaultdict(float)
    rows = 0
    for batch in batches:
        losses = stepper.step(batch, epoch)
        for name, value in losses.items():
            sums[name] += value * len(batch.index)
        rows += len(batch.index) if losses else 0
        if told:
            told(stepper.done)
    if not rows:
        raise TrainingError(
            "no batch could be trained on",
            why="BatchNorm cannot train on a batch of one row.",
            hint="Give more rows, or choose batchnorm=frozen.",
        )
    seconds = time.perf_counter() - began
    means = {name: total / rows for name, total in sums.items()}
    return {
        "epoch": epoch,
        **means,
        "lr": stepper.lr,
        "seconds": round(seconds, 4),
        "rows_per_second": round(rows / seconds, 1),
    }


class _Stepper:
    """One optimizer step at a time."""

    def __init__(
        self, model: Model, strategy: Gradient, context: Context, factors: list[dict[str, float]], total: int
    ) -> None:
        self.model, self.strategy, self.context = model, strategy, context
        self.factors: Final = factors
        self.total: Final = total
        self.done = 0
        self.lr = 0.0
        ever = {stage for epoch in factors for stage, factor in epoch.items() if factor > 0}
        stages = {stage: names for stage, names in model.stages().items() if stage in ever}
        if not stages:
            raise TrainingError(
                "nothing is trainable", why=f"Stages: {', '.join(model.stages())}.", hint="Freeze less."
            )
        placement = context.placement
        self.accelerator = make_accelerator(placement)
        groups = parameter_groups(model, stages, strategy)
        self.optimizer = self.accelerator.prepare_optimizer(make_optimizer(strategy, groups, placement.device))

    def step(self, raw: loading.Batch, epoch: int) -> dict[str, float]:
        """Take one step; give its losses, or nothing where the batch cannot be trained on."""
        if len(raw.index) == 1 and any_batchnorm_trains(self.model):
            self.done += 1
            return {}
        placement = self.context.placement
        y = raw.y.to(placement.device)
        batch = Batch(to_device(raw.x, placement), y, raw.index.to(placement.device), epoch)
        self._set_rates(epoch)
        self.optimizer.zero_grad(set_to_none=True)
        with self.accelerator.autocast():
            losses = self.strategy.loss(self.model, batch, self.context)
        values = {name: float(value.detach()) for name, value in losses.items()}
        self._expect_finite(values["loss"], batch, epoch)
        self.accelerator.backward(losses["loss"])
        if self.strategy.clip is not None:
            self.accelerator.clip_grad_norm_(self._trainable(), self.strategy.clip)
        self.optimizer.step()
        self.done += 1
        return values

    def _set_rates(self, epoch: int) -> None:
        self.lr = self.strategy.lr * scale(self.done, self.total, self.strategy.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * self.factors[epoch].get(group["stage"], 0.0)

    def _trainable(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.model.parameters() if parameter.grad is not None]

    def _expect_finite(self, loss: float, batch: Batch, epoch: int) -> None:
        if not torch.isfinite(torch.tensor(loss)):
            rows = ", ".join(map(str, batch.index[:_NAMED].tolist()))
            raise TrainingError(
                f"the loss is {loss} in epoch {epoch}, step {self.done}",
                why=f"Rows of the batch: {rows}{' ...' if len(batch.index) > _NAMED else ''}. The step was not taken.",
                hint="Lower lr, set clip, use fp32, or look at those rows.",
            )


def make_accelerator(placement: Placement) -> Any:
    """An `accelerate.Accelerator` for this placement.

    accelerate keeps one state per process and refuses a second precision, but two learners may differ in theirs.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(
        cpu=placement.device.type == "cpu",
        mixed_precision="no" if placement.precision == "fp32" else placement.precision,
        device_placement=False,
    )

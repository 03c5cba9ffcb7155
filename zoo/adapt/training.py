"""The one training loop."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from zoo.adapt.accelerated import accelerated
from zoo.adapt.features import to_device
from zoo.adapt.freezing import FrozenGuard, batchnorm_may_train, check_factors, left_as_found, set_trainable
from zoo.adapt.optim import make_optimizer, parameter_groups, set_rates
from zoo.adapt.schedule import rate_factor, resolve_epochs
from zoo.adapt.strategy import Batch, Context, Gradient, Model
from zoo.data import loading
from zoo.errors import TrainingError, UsageError

if TYPE_CHECKING:
    from accelerate import Accelerator

#: Row numbers named when a loss is not finite.
_NAMED: Final = 8

#: epoch -> its batches; their order is a pure function of the epoch.
Batches = Callable[[int], Iterable[loading.Batch]]
OnEpoch = Callable[[int, dict[str, Any]], None]
Progress = Callable[[str, int, int], None]


def train(
    model: Model,
    strategy: Gradient,
    batches: Batches,
    context: Context,
    *,
    steps_per_epoch: int,
    on_epoch: OnEpoch | None = None,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Train `model` as `strategy` says, in place. `context.resolved` then holds the options that were left open.

    Dropout is active in trained stages only; biases and norms do not decay. Where BatchNorm trains, a last batch of
    one row joins the one before it.

    Args:
        model: on its device; the head is fresh.
        strategy: what is trained when, and by which loss.
        batches: epoch -> its batches; their order is a pure function of the epoch.
        context: what the strategy may know.
        steps_per_epoch: number of batches of an epoch.
        on_epoch: told (epoch, metrics) at the end of each.
        progress: told ("train", steps done, steps in all).

    Returns:
        One dict per epoch: epoch and epochs (how many there are), loss and the strategy's other losses (means over
        rows), lr (of the last step, before factors), seconds, rows_per_second. The model is in evaluation mode.

    Raises:
        TrainingError: the loss or the gradient is not finite (epoch, step and rows are named; the step was not taken),
            or a frozen tensor changed.
        UsageError: a stage that does not exist, or nothing to train.
    """
    given, strategy = strategy, strategy.resolve(context)
    _add_extras(model, strategy.prepare(model, context), context.placement.device)
    model.to(memory_format=context.placement.memory_format)
    freeze_batchnorm = strategy.freezes_batchnorm(context)
    joins = batchnorm_may_train(model, freeze_batchnorm=freeze_batchnorm)
    if joins and steps_per_epoch > 1 and context.rows % strategy.batch_size == 1 < strategy.batch_size:
        steps_per_epoch -= 1
    plan = _Plan(model, strategy, steps_per_epoch)
    context.resolved.update(_settled(given, strategy, plan.epochs))
    history: list[dict[str, Any]] = []
    with left_as_found(model), accelerated(context.placement) as accelerator:
        guard = FrozenGuard(model, plan.factors, freeze_batchnorm=freeze_batchnorm)
        stepper = _Stepper(model, strategy, context, plan, accelerator)
        for epoch in range(plan.epochs):
            set_trainable(model, plan.factors[epoch], freeze_batchnorm=freeze_batchnorm)
            stepper.tell = (lambda done: progress("train", done, plan.steps)) if progress else None
            parts = batches(epoch)
            metrics = _epoch(stepper, _without_lone_row(parts) if joins else parts, epoch)
            history.append(metrics)
            if on_epoch:
                on_epoch(epoch, metrics)
    guard.check(model)
    strategy.finish(model, context)
    model.eval()
    return history


def _settled(given: Gradient, used: Gradient, epochs: int) -> dict[str, Any]:
    """The options, by name, whose value was settled for this fit."""
    settled: dict[str, Any] = {}
    for field in dataclasses.fields(used):
        before = getattr(given, field.name, None)
        now = epochs if field.name == "epochs" else getattr(used, field.name)
        if now is not before and now != before:
            settled[field.name] = now
    return settled


def _add_extras(model: Model, extras: Mapping[str, nn.Module], device: torch.device) -> None:
    for name, module in extras.items():
        if name in model.stages():
            raise UsageError(f"a stage is called {name!r} already", hint="Give the extra module another name.")
        model.extras[name] = module.to(device)


class _Plan:
    """How many epochs and steps there are, and what each epoch trains."""

    def __init__(self, model: Model, strategy: Gradient, steps_per_epoch: int) -> None:
        if steps_per_epoch < 1:
            raise TrainingError("there are no rows to train on")
        stages = model.stages()
        self.epochs: Final = resolve_epochs(strategy.epochs, strategy.min_epochs, strategy.min_steps, steps_per_epoch)
        self.steps: Final = self.epochs * steps_per_epoch
        self.factors: Final = [dict(strategy.trainable(epoch, tuple(stages))) for epoch in range(self.epochs)]
        check_factors(self.factors, tuple(stages))
        ever = {stage for epoch in self.factors for stage, factor in epoch.items() if factor > 0}
        #: Stages that are trained in some epoch, with their parameters.
        self.stages: Final = {stage: names for stage, names in stages.items() if stage in ever}


def _epoch(stepper: _Stepper, batches: Iterable[loading.Batch], epoch: int) -> dict[str, Any]:
    began = time.perf_counter()
    sums: dict[str, Any] = {}
    rows = 0
    for batch in batches:
        losses = stepper.step(batch, epoch)
        for name, value in losses.items():
            part = value.detach().float() * len(batch.index)
            sums[name] = sums.get(name, 0.0) + part
        rows += len(batch.index)
    if not rows:
        raise TrainingError(f"epoch {epoch} had no batches")
    means = {name: float(total) / rows for name, total in sums.items()}
    seconds = time.perf_counter() - began
    return {
        "epoch": epoch,
        "epochs": stepper.plan.epochs,
        **means,
        "lr": stepper.lr,
        "seconds": round(seconds, 4),
        "rows_per_second": round(rows / seconds, 1),
    }


class _LossModule(nn.Module):
    """The loss as the forward pass of a module, which is what accelerate wraps: autocast now, many processes later.

    It is thrown away after the fit, so that nothing accelerate does to it stays with the model.
    """

    def __init__(self, model: Model, strategy: Gradient, context: Context) -> None:
        super().__init__()
        self.model, self.strategy, self.context = model, strategy, context

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.strategy.loss(self.model, batch, self.context)


class _Stepper:
    """Takes one optimizer step at a time."""

    def __init__(
        self, model: Model, strategy: Gradient, context: Context, plan: _Plan, accelerator: Accelerator
    ) -> None:
        self.model, self.strategy, self.context, self.plan = model, strategy, context, plan
        self.accelerator: Final = accelerator
        self.losses: Final = accelerator.prepare_model(_LossModule(model, strategy, context))
        groups = parameter_groups(model, plan.stages, strategy.weight_decay)
        self.parameters: Final = [parameter for group in groups for parameter in group["params"]]
        self.optimizer: Final = accelerator.prepare_optimizer(
            make_optimizer(strategy, groups, context.placement.device)
        )
        self.tell: Callable[[int], None] | None = None
        self.done = 0
        self.lr = 0.0

    def step(self, raw: loading.Batch, epoch: int) -> dict[str, Tensor]:
        """Take one step; give its losses."""
        batch = self._batch(raw, epoch)
        self.lr = self.strategy.lr * rate_factor(self.done, self.plan.steps, self.strategy.schedule)
        set_rates(self.optimizer, self.lr, self.plan.factors[epoch])
        self.optimizer.zero_grad(set_to_none=True)
        losses = self._forward(batch)
        self.accelerator.backward(losses["loss"])
        finite = losses["loss"].detach().isfinite()
        if self.strategy.clip is not None:
            norm = self.accelerator.clip_grad_norm_(self.parameters, self.strategy.clip)
            if self.accelerator.scaler is None:  # a gradient scaler sees to overflows itself
                finite = finite & norm.isfinite()
        if not finite:
            raise self._not_finite(losses["loss"], batch)
        self.optimizer.step()
        self.done += 1
        if self.tell:
            self.tell(self.done)
        return losses

    def _batch(self, raw: loading.Batch, epoch: int) -> Batch:
        placement = self.context.placement
        if raw.y is None:
            raise TrainingError("these rows have no targets")
        y = raw.y.to(placement.device, non_blocking=True)
        return Batch(to_device(raw.x, placement), y, raw.index, epoch)

    def _forward(self, batch: Batch) -> dict[str, Tensor]:
        try:
            return self.losses(batch)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise UsageError(
                "BatchNorm cannot train on a batch of one row",
                why=str(error),
                hint="Give a larger batch_size or more rows, or keep its statistics with batchnorm=frozen.",
            ) from error

    def _not_finite(self, loss: Tensor, batch: Batch) -> TrainingError:
        what = f"the loss is {loss.item()}" if not loss.isfinite() else "the gradient is not finite"
        bad = batch.index[~_finite_rows(batch.x, len(batch.index))].tolist()
        rows = bad or batch.index.tolist()
        named = ", ".join(map(str, rows[:_NAMED])) + (", ..." if len(rows) > _NAMED else "")
        return TrainingError(
            f"{what} in epoch {batch.epoch}, step {self.done}",
            why=f"{'Rows whose input is not finite' if bad else 'Rows of the batch'}: {named}. The step was not taken.",
            hint="Remove or mend those rows." if bad else "Lower lr, set clip, use fp32, or look at the rows.",
        )


def _finite_rows(x: Any, rows: int) -> Tensor:
    """(N,) mask on the CPU."""
    parts = x.values() if isinstance(x, Mapping) else x if isinstance(x, (tuple, list)) else (x,)
    finite = torch.ones(rows, dtype=torch.bool)
    for part in parts:
        finite &= part.detach().isfinite().reshape(rows, -1).all(dim=1).cpu()
    return finite


def _without_lone_row(batches: Iterable[loading.Batch]) -> Iterator[loading.Batch]:
    """Join a last batch of one row to the one before it."""
    held: loading.Batch | None = None
    for batch in batches:
        if held is not None and len(batch.index) == 1 < len(held.index):
            batch = _join(held, batch)
        elif held is not None:
            yield held
        held = batch
    if held is not None:
        yield held


def _join(one: loading.Batch, other: loading.Batch) -> loading.Batch:
    y = None if one.y is None or other.y is None else torch.cat([one.y, other.y])
    return loading.Batch(_cat(one.x, other.x), y, torch.cat([one.index, other.index]))


def _cat(one: Any, other: Any) -> Any:
    if isinstance(one, Mapping):
        return {name: torch.cat([one[name], other[name]]) for name in one}
    if isinstance(one, (tuple, list)):
        return tuple(torch.cat(pair) for pair in zip(one, other, strict=True))
    return torch.cat([one, other])

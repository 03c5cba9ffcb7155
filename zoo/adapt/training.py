"""The one training loop."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from zoo.adapt.accelerated import accelerated
from zoo.adapt.averaging import Averaged
from zoo.adapt.checkpoint import Checkpoints, read_checkpoint
from zoo.adapt.freezing import FrozenGuard, batchnorm_may_train, check_factors, left_as_found, set_trainable
from zoo.adapt.front import Front
from zoo.adapt.group import ALONE, Group
from zoo.adapt.interrupt import Interrupt, held_back
from zoo.adapt.memory import is_out_of_memory, release, too_large
from zoo.adapt.progress import Progress, restore, snapshot
from zoo.adapt.schedule import resolve_epochs
from zoo.adapt.stepper import BeforeStep, Stepper, part_of, rows_of
from zoo.adapt.strategy import Context, Gradient, Model
from zoo.data import loading
from zoo.errors import DiskError, TrainingError, UsageError

if TYPE_CHECKING:
    from accelerate import Accelerator

#: epoch -> its batches; their order is a pure function of the epoch.
Batches = Callable[[int], Iterable[loading.Batch]]
OnEpoch = Callable[[int, dict[str, Any]], None]
OnResume = Callable[[list[dict[str, Any]], int], None]
Tell = Callable[[str, int, int], None]


def train(
    model: Model,
    strategy: Gradient,
    batches: Batches,
    context: Context,
    *,
    steps_per_epoch: int,
    on_epoch: OnEpoch | None = None,
    progress: Tell | None = None,
    checkpoints: Checkpoints | None = None,
    on_resume: OnResume | None = None,
    inner: Callable[[], float] | None = None,
    front: Front | None = None,
    group: Group = ALONE,
) -> list[dict[str, Any]]:
    """Train `model` as `strategy` says, in place. `context.resolved` then holds the options that were left open,
    and `context.facts` how many parameters were trained.

    Dropout is active in trained stages only; biases and norms do not decay. Where BatchNorm trains, a last batch of
    one row joins the one before it.

    With `checkpoints`, a fit that was broken off goes on from the newest whole one, and ends as if it had never been:
    on the CPU bit for bit. One is written at the end of each epoch, every few minutes within long ones, and when the
    fit is broken off by an error or by Ctrl-C, which then waits for the step under way.

    Args:
        model: on its device; the head is fresh.
        strategy: what is trained when, and by which loss.
        batches: epoch -> its batches; their order is a pure function of the epoch.
        context: what the strategy may know.
        steps_per_epoch: number of batches of an epoch.
        on_epoch: told (epoch, metrics) at the end of each.
        progress: told ("train", steps done, steps in all).
        checkpoints: where they are kept; None = nowhere.
        on_resume: told (history, steps done) when the fit goes on from a checkpoint.
        inner: gives the loss on rows that are not learned from; for `early_stop`.
        front: frozen stages that the batches have behind them already.
        group: the processes that train together: each computes a part of every batch, and all take the same step.
            Only the leading one is given `checkpoints`, `on_epoch` and `progress`.

    Returns:
        One dict per epoch: epoch and epochs (how many there are), loss and the strategy's other losses (means over
        rows), lr (of the last step, before factors), seconds, rows_per_second, and with `inner` the inner_loss. The
        model is in evaluation mode.

    Raises:
        TrainingError: the loss or the gradient is not finite (epoch, step and rows are named; the step was not taken),
            or a frozen tensor changed.
        OutOfMemoryError: it says which batch fits.
        UsageError: a stage that does not exist, or nothing to train.
        IntegrityError: a checkpoint of this fit, but of other source weights.
        KeyboardInterrupt: Ctrl-C; its notes say where the checkpoint is.
    """
    given, strategy = strategy, strategy.resolve(context)
    _add_extras(model, strategy.prepare(model, context), context.placement.device)
    group.align(itertools.chain(model.parameters(), model.buffers()))
    model.to(memory_format=context.placement.memory_format)
    freeze_batchnorm = strategy.freezes_batchnorm(context)
    joins = batchnorm_may_train(model, freeze_batchnorm=freeze_batchnorm)
    size = strategy.batch_size
    if size == "auto":
        raise UsageError("the loop needs a number as batch_size", hint="Fit through a learner, which finds one.")
    if joins and steps_per_epoch > 1 and context.rows % size == 1 < size:
        steps_per_epoch -= 1
    plan = _Plan(model, strategy, steps_per_epoch, freeze_batchnorm=freeze_batchnorm, joins=joins)
    context.resolved.update(_settled(given, strategy, plan.epochs))
    context.facts["trainable_params"] = plan.parameters(model)
    with (
        left_as_found(model),
        accelerated(context.placement) as accelerator,
        held_back(checkpoints is not None or group.together) as interrupt,
    ):
        loop = _Loop(model, strategy, context, plan, accelerator, checkpoints, interrupt, inner, front, group)
        loop.begin(on_resume)
        history = loop.run(batches, on_epoch, progress)
        group.align(tensor for tensor in loop.guard.changing(model).values() if not isinstance(tensor, nn.Parameter))
    loop.guard.check(model)
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

    def __init__(
        self, model: Model, strategy: Gradient, steps_per_epoch: int, *, freeze_batchnorm: bool, joins: bool
    ) -> None:
        if steps_per_epoch < 1:
            raise TrainingError("there are no rows to train on")
        stages = model.stages()
        self.epochs: Final = resolve_epochs(
            strategy.epochs, strategy.least_epochs(tuple(stages)), strategy.min_steps, steps_per_epoch
        )
        self.steps: Final = self.epochs * steps_per_epoch
        self.factors: Final = [dict(strategy.trainable(epoch, tuple(stages))) for epoch in range(self.epochs)]
        check_factors(self.factors, tuple(stages))
        ever = {stage for epoch in self.factors for stage, factor in epoch.items() if factor > 0}
        #: Stages that are trained in some epoch, with their parameters.
        self.stages: Final = {stage: names for stage, names in stages.items() if stage in ever}
        first = (next(i for i, epoch in enumerate(self.factors) if epoch.get(stage, 0.0) > 0) for stage in ever)
        #: The epoch in which the last of them joins.
        self.whole_from: Final = max(first)
        self.freeze_batchnorm: Final = freeze_batchnorm
        #: Whether a last batch of one row joins the one before it.
        self.joins: Final = joins

    def parameters(self, model: Model) -> int:
        """How many numbers are trained in some epoch, head and extra modules included."""
        trained = {name for names in self.stages.values() for name in names}
        return sum(parameter.numel() for name, parameter in model.named_parameters() if name in trained)


class _Loop:
    """The epochs of one fit."""

    def __init__(
        self,
        model: Model,
        strategy: Gradient,
        context: Context,
        plan: _Plan,
        accelerator: Accelerator,
        checkpoints: Checkpoints | None,
        interrupt: Interrupt,
        inner: Callable[[], float] | None,
        front: Front | None = None,
        group: Group = ALONE,
    ) -> None:
        self.model, self.plan, self.checkpoints, self.interrupt = model, plan, checkpoints, interrupt
        self.group: Final = group
        self.guard: Final = FrozenGuard(model, plan.factors, freeze_batchnorm=plan.freeze_batchnorm)
        changing = self.guard.changing(model)
        self.stepper: Final = Stepper(
            model,
            strategy,
            context,
            plan.stages,
            plan.steps,
            accelerator,
            least=2 if plan.joins else 1,
            front=front,
            group=group,
            norms=[module for module in model.modules() if isinstance(module, _NormBase)],
        )
        self.average: Final = Averaged(changing, strategy.ema) if strategy.ema is not None else None
        self.inner: Final = inner if strategy.early_stop else None
        self.patience: Final = strategy.early_stop if self.inner and strategy.early_stop else 0
        self.under_way: loading.Batch | None = None
        self.at = Progress()
        self.tell: Tell | None = None
        self.before: BeforeStep | None = None

    def begin(self, on_resume: OnResume | None) -> None:
        """Go where the newest checkpoint is, if there is one."""
        found = self.checkpoints.newest() if self.checkpoints else None
        place = self.group.first(str(found.path) if found else None)
        if place is not None and found is None:
            found = read_checkpoint(Path(place))
        if found is not None:
            self.at = restore(found, self.model, self.guard, self.stepper, self.average)
            if on_resume:
                on_resume(self.at.history, self.stepper.done)

    def run(self, batches: Batches, on_epoch: OnEpoch | None, tell: Tell | None) -> list[dict[str, Any]]:
        """All epochs that are left."""
        self.tell = tell
        self.before = BeforeStep(self.guard.changing(self.model)) if self.checkpoints else None
        try:
            while self.at.epoch < self.plan.epochs and not self.at.stale(self.patience, self.plan.whole_from):
                metrics = self._epoch(batches(self.at.epoch))
                self._measure(metrics)
                self.at.end_epoch(metrics)
                if on_epoch:
                    on_epoch(metrics["epoch"], metrics)
                if self.checkpoints and self.checkpoints.due(epoch_ended=True):
                    self._keep()
                self._stop_if_asked()
        except Exception as error:
            self._keep_last_good(error)
            if self.under_way is None or not is_out_of_memory(error):
                raise
            if self.group.together:  # the others wait in their step
                raise too_large(len(self.under_way.whole or self.under_way), None, str(error)) from None
            why, notes = str(error), getattr(error, "__notes__", [])
        else:
            self._end()
            return self.at.history
        failed = too_large(len(self.under_way), self._what_fits(self.under_way), why)  # the frames of `error` are gone
        for note in notes:
            failed.add_note(note)
        raise failed

    def _end(self) -> None:
        """The best weights, or their average, where that was asked for."""
        if self.at.best:
            with torch.no_grad():
                for name, tensor in self.guard.changing(self.model).items():
                    tensor.copy_(self.at.best[name])
        elif self.average:
            self.average.end()

    def _measure(self, metrics: dict[str, Any]) -> None:
        if self.inner is None:
            return
        with self.average.in_place() if self.average else contextlib.nullcontext():
            loss = self.inner()
            metrics["inner_loss"] = loss if math.isfinite(loss) else None
            if math.isfinite(loss) and (self.at.best_epoch is None or loss < self.at.best_loss):
                self.at.best_epoch, self.at.best_loss = self.at.epoch, loss
                changing = self.guard.changing(self.model)
                self.at.best = {name: tensor.detach().to("cpu", copy=True) for name, tensor in changing.items()}

    def _what_fits(self, batch: loading.Batch) -> int | None:
        """Rows of the largest part of a batch, halved again and again, of which a step fits. The model is spent."""
        rows = len(batch) // 2
        while rows >= self.stepper.least:
            release()
            try:
                self.stepper.step(rows_of(batch, slice(rows)), self.at.epoch, self.plan.factors[self.at.epoch])
                return rows
            except Exception as error:
                if not is_out_of_memory(error):
                    return rows
            rows //= 2
        return None

    def _epoch(self, batches: Iterable[loading.Batch]) -> dict[str, Any]:
        at, stepper, plan = self.at, self.stepper, self.plan
        factors = plan.factors[at.epoch]
        if not at.batch:
            self.guard.check_opening(self.model, at.epoch)
        set_trainable(self.model, factors, freeze_batchnorm=plan.freeze_batchnorm)
        began, before = time.perf_counter(), at.seconds
        self._note()
        for batch in self._parts(batches, at.batch):
            self.under_way = batch
            losses = stepper.step(batch, at.epoch, factors)
            self.under_way = None
            if self.average:
                self.average.update(stepper.done)
            rows = len(batch.whole or batch)
            for name, value in losses.items():
                at.sums[name] = at.sums.get(name, 0.0) + value.detach().float() * rows
            at.rows += rows
            at.batch += 1
            at.seconds = before + time.perf_counter() - began
            self._note()
            if self.tell:
                self.tell("train", stepper.done, plan.steps)
            self._stop_if_asked()
            if self.checkpoints and self.checkpoints.due(epoch_ended=False):
                self._keep()
        if not at.rows:
            raise TrainingError(f"epoch {at.epoch} had no batches")
        at.seconds = before + time.perf_counter() - began
        return {
            "epoch": at.epoch,
            "epochs": plan.epochs,
            **{name: float(total) / at.rows for name, total in at.sums.items()},
            "lr": stepper.lr,
            "seconds": round(at.seconds, 4),
            "rows_per_second": round(at.rows / at.seconds, 1),
        }

    def _parts(self, batches: Iterable[loading.Batch], start: int) -> Iterable[loading.Batch]:
        """The batches without the first `start`, or this process's part of each."""
        group, least = self.group, self.stepper.least
        if self.plan.joins:  # before any is left out, since steps are counted in joined ones
            batches = batches.joined() if isinstance(batches, loading.Batches) else _without_lone_row(batches)
        batches = _from(batches, start)
        if not group.together:
            return batches
        if isinstance(batches, loading.Batches):
            return batches.parts(lambda rows: group.part(rows, least))
        return (part_of(batch, group.part(len(batch), least)) for batch in batches)

    def _note(self) -> None:
        if self.before:
            self.before.note()

    def _stop_if_asked(self) -> None:
        if self.group.any(bool(self.interrupt)):
            stopped = KeyboardInterrupt()
            if self.checkpoints:
                stopped.add_note(f"Step {self.stepper.done} of {self.plan.steps} is kept in {self._keep()}.")
            raise stopped

    def _keep(self) -> Any:
        """Write a checkpoint of this moment."""
        assert self.checkpoints is not None
        facts, tensors = snapshot(self.at, self.model, self.guard, self.stepper, self.average)
        return self.checkpoints.write(self.stepper.done, facts, tensors)

    def _keep_last_good(self, error: Exception) -> None:
        """Write a checkpoint of the state before the step that failed; the error says where it is."""
        if self.before is None or not self.stepper.whole:
            return
        if not self.stepper.done and not isinstance(error, TrainingError):
            return  # nothing was learned yet, and what is wrong is wrong from the start
        self.before.restore()
        try:
            kept = self._keep()
        except DiskError as failure:  # what went wrong first is what matters
            error.add_note(f"The last good state could not be kept: {failure.message}")
        else:
            error.add_note(f"The last good state is kept in {kept}.")


def _from(batches: Iterable[loading.Batch], start: int) -> Iterable[loading.Batch]:
    """Without the first `start`; they are not read where that can be helped."""
    if not start:
        return batches
    return (
        batches.starting_at(start) if isinstance(batches, loading.Batches) else itertools.islice(batches, start, None)
    )


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

"""One optimizer step at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from zoo.adapt import recomputed
from zoo.adapt.features import to_device
from zoo.adapt.front import Front
from zoo.adapt.group import ALONE, Group
from zoo.adapt.optim import make_optimizer, parameter_groups, set_rates
from zoo.adapt.randomness import RandomState, reseed
from zoo.adapt.schedule import rate_factor
from zoo.adapt.strategy import Batch, Context, Gradient, Model, has_label
from zoo.data import loading
from zoo.errors import TrainingError, UsageError

if TYPE_CHECKING:
    from accelerate import Accelerator

#: Row numbers named when a loss is not finite.
_NAMED: Final = 8


class LossModule(nn.Module):
    """The loss as the forward pass of a module, which is what accelerate wraps.

    It is thrown away after the fit, so that nothing accelerate does to it stays with the model.
    """

    def __init__(self, model: Model, strategy: Gradient, context: Context, front: Front | None = None) -> None:
        super().__init__()
        self.model, self.strategy, self.context, self.front = model, strategy, context, front

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        with self.front.left_out() if self.front else contextlib.nullcontext():
            return self.strategy.loss(self.model, batch, self.context)


class Stepper:
    """Takes one optimizer step at a time.

    Args:
        model: prepared.
        strategy: resolved.
        context: of the fit.
        stages: parameter names by stage, of what is trained in some epoch.
        steps: of the whole fit.
        accelerator: of the fit.
        least: fewest rows of a part of a batch: 2 where BatchNorm trains.
        front: frozen stages that the batches have behind them already.
        group: the processes that share each batch.
        norms: normalisation layers whose running statistics the processes average after each step in which they train.
    """

    def __init__(
        self,
        model: Model,
        strategy: Gradient,
        context: Context,
        stages: Mapping[str, list[str]],
        steps: int,
        accelerator: Accelerator,
        *,
        least: int = 1,
        front: Front | None = None,
        group: Group = ALONE,
        norms: Sequence[_NormBase] = (),
    ) -> None:
        self.model, self.strategy, self.context, self.steps = model, strategy, context, steps
        self.accelerator: Final = accelerator
        self.group, self.norms, self.front = group, norms, front
        # "Evaluation" leaves out DistributedDataParallel alone: gradients are summed by `Group.gradients`.
        module = LossModule(model, strategy, context, front)
        self.losses: Final = accelerator.prepare_model(module, evaluation_mode=True)
        groups = parameter_groups(model, stages, strategy.weight_decay)
        self.parameters: Final = [parameter for group in groups for parameter in group["params"]]
        self.optimizer: Final = accelerator.prepare_optimizer(
            make_optimizer(strategy, groups, context.placement.device)
        )
        #: Fewest rows of a part of a batch.
        self.least = least
        self.done = 0
        #: Whether the parameters are whole: no step was broken off in its midst.
        self.whole = True

    @property
    def lr(self) -> float:
        """The learning rate of the last step, before factors."""
        return self._rate(max(0, self.done - 1))

    def _rate(self, step: int) -> float:
        return self.strategy.lr * rate_factor(step, self.steps, self.strategy.schedule)

    def step(self, raw: loading.Batch, epoch: int, factors: Mapping[str, float]) -> dict[str, Tensor]:
        """Take one step; give its losses, of the whole batch where `raw` is a part of one.

        Raises:
            TrainingError: the loss or the gradient is not finite; the step was not taken.
            UsageError: gradient checkpointing where it would give wrong gradients.
        """
        group, whole = self.group, raw.whole or raw
        if group.together:  # so that a process draws what it would draw whichever processes went before
            reseed(self.context.seed, self.done, group.rank)
        set_rates(self.optimizer, self._rate(self.done), factors)
        self.optimizer.zero_grad(set_to_none=True)
        losses: dict[str, Tensor] = {}
        finite = torch.ones((), dtype=torch.bool, device=self.context.placement.device)
        for part in parts_of(raw, self.strategy.accumulate, least=self.least):
            batch = self._batch(part, whole, epoch)
            found = self._forward(batch)
            share = 0.0 if group.repeats(len(whole), self.least) else len(part) / len(whole)
            with recomputed.refused(self.model, self.front):
                self.accelerator.backward(found["loss"] if share == 1 else found["loss"] * share)
            finite = finite & found["loss"].detach().isfinite()
            for name, value in found.items():
                mean = value.detach().float() * share
                losses[name] = losses[name] + mean if name in losses else mean
        if group.together:
            wrong = (~finite).float()
            group.sum([wrong, *losses.values()])
            finite = wrong == 0
            group.gradients(self.parameters)
            group.average(self._statistics())
        if self.strategy.clip is not None:
            norm = self.accelerator.clip_grad_norm_(self.parameters, self.strategy.clip)
            if self.accelerator.scaler is None:  # a gradient scaler sees to overflows itself
                finite = finite & norm.isfinite()
        if not finite:
            raise self._not_finite(losses["loss"], raw, epoch)
        self.whole = False
        self.optimizer.step()
        self.whole = True
        self.done += 1
        return losses

    def _statistics(self) -> list[Tensor]:
        """Those that this step changed. What is the same everywhere is left alone: a mean would round it."""
        found = [(norm.running_mean, norm.running_var) for norm in self.norms if norm.training]
        return [tensor for pair in found for tensor in pair if tensor is not None]

    def _batch(self, raw: loading.Batch, whole: loading.Batch, epoch: int) -> Batch:
        placement = self.context.placement
        if raw.y is None or whole.y is None:
            raise TrainingError("these rows have no targets")
        y = raw.y.to(placement.device, non_blocking=True)
        share = labelled_share(raw.y, whole.y)
        return Batch(to_device(raw.x, placement), y, raw.index, epoch, self.done / self.steps, share)

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

    def _not_finite(self, loss: Tensor, batch: loading.Batch, epoch: int) -> TrainingError:
        what = f"the loss is {loss.item()}" if not loss.isfinite() else "the gradient is not finite"
        mine = batch.index[~_finite_rows(batch.x, len(batch))].tolist()
        bad = sorted(set(itertools.chain.from_iterable(self.group.each(mine))))
        rows = bad or (batch.whole or batch).index.tolist()
        named = ", ".join(map(str, rows[:_NAMED])) + (", ..." if len(rows) > _NAMED else "")
        return TrainingError(
            f"{what} in epoch {epoch}, step {self.done}",
            why=f"{'Rows whose input is not finite' if bad else 'Rows of the batch'}: {named}. The step was not taken.",
            hint="Remove or mend those rows." if bad else "Lower lr, set clip, use fp32, or look at the rows.",
        )


class BeforeStep:
    """What a forward pass changes besides the losses: buffers that train, and the random state.

    Args:
        changing: the model's tensors that may change; parameters are left out, since only a step changes them.
    """

    def __init__(self, changing: Mapping[str, Tensor]) -> None:
        self._buffers: Final = [tensor for tensor in changing.values() if not isinstance(tensor, nn.Parameter)]
        self._kept: Final = [tensor.clone() for tensor in self._buffers]
        self._random = RandomState.now()

    def note(self) -> None:
        """Remember this moment."""
        with torch.no_grad():
            for kept, buffer in zip(self._kept, self._buffers, strict=True):
                kept.copy_(buffer)
        self._random = RandomState.now()

    def restore(self) -> None:
        """Go back to the moment noted."""
        with torch.no_grad():
            for kept, buffer in zip(self._kept, self._buffers, strict=True):
                buffer.copy_(kept)
        self._random.set()


def parts_of(batch: loading.Batch, count: int, *, least: int = 1) -> list[loading.Batch]:
    """A batch in so many parts of nearly equal size; fewer where a part would have under `least` rows."""
    count = max(1, min(count, len(batch) // least))
    if count == 1:
        return [batch]
    cuts = [round(i * len(batch) / count) for i in range(count + 1)]
    return [rows_of(batch, slice(*pair)) for pair in itertools.pairwise(cuts)]


def part_of(batch: loading.Batch, rows: slice) -> loading.Batch:
    """Some rows of a batch, which know the whole."""
    return dataclasses.replace(rows_of(batch, rows), whole=loading.Batch((), batch.y, batch.index))


def rows_of(batch: loading.Batch, rows: slice) -> loading.Batch:
    """Some rows of a batch."""
    x: Any = batch.x
    if isinstance(x, Mapping):
        x = {name: value[rows] for name, value in x.items()}
    elif isinstance(x, (tuple, list)):
        x = tuple(value[rows] for value in x)
    else:
        x = x[rows]
    return loading.Batch(x, None if batch.y is None else batch.y[rows], batch.index[rows])


def labelled_share(part: Tensor, whole: Tensor) -> float:
    """How far labels are more frequent in a part of a batch, by its targets, than in the whole; see `Batch`."""
    labelled = int(has_label(whole).sum()) if len(part) < len(whole) else 0
    return int(has_label(part).sum()) / labelled * (len(whole) / len(part)) if labelled else 1.0


def _finite_rows(x: Any, rows: int) -> Tensor:
    """(N,) mask on the CPU."""
    parts = x.values() if isinstance(x, Mapping) else x if isinstance(x, (tuple, list)) else (x,)
    finite = torch.ones(rows, dtype=torch.bool)
    for part in parts:
        finite &= part.detach().isfinite().reshape(rows, -1).all(dim=1).cpu()
    return finite

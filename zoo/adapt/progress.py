"""How far a fit has come: all that a checkpoint keeps, and putting it back bit for bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor

from zoo.adapt.averaging import Averaged
from zoo.adapt.checkpoint import Checkpoint
from zoo.adapt.freezing import FrozenGuard
from zoo.adapt.randomness import RandomState
from zoo.adapt.stepper import Stepper
from zoo.adapt.strategy import Model
from zoo.errors import IntegrityError

#: The first part of a tensor's name says what it is.
MODEL: Final = "model"
OPTIMIZER: Final = "optimizer"
SUM: Final = "sum"
RANDOM: Final = "random"
AVERAGE: Final = "average"
BEST: Final = "best"


@dataclass
class Progress:
    """Where a fit stands.

    Attributes:
        epoch: under way, counted from 0.
        batch: batches of it that are done.
        rows: rows of them.
        seconds: spent on them.
        sums: by loss, over these rows.
        history: one dict for each epoch that ended.
        best_epoch, best_loss: of the inner split, where early stopping looks at one; None = no loss was finite yet.
        best: the tensors that may change, as they were then, on the CPU.
    """

    epoch: int = 0
    batch: int = 0
    rows: int = 0
    seconds: float = 0.0
    sums: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int | None = None
    best_loss: float = math.inf
    best: dict[str, Tensor] = field(default_factory=dict)

    def stale(self, patience: int, since: int = 0) -> bool:
        """Whether the inner loss has not fallen for `patience` epochs (0 = never) after epoch `since`."""
        return bool(patience) and self.epoch - 1 - max(self.best_epoch or 0, since) >= patience

    def end_epoch(self, metrics: dict[str, Any]) -> None:
        """Go to the start of the next one."""
        self.history.append(metrics)
        self.epoch += 1
        self.batch = self.rows = 0
        self.seconds = 0.0
        self.sums = {}


def snapshot(
    progress: Progress, model: Model, guard: FrozenGuard, stepper: Stepper, average: Averaged | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a checkpoint holds: facts for JSON, and tensors. Frozen tensors are told by one hash."""
    random = RandomState.now()
    scalars, moments = _optimizer_state(model, stepper)
    scaler = stepper.accelerator.scaler
    facts = {
        "epoch": progress.epoch,
        "batch": progress.batch,
        "rows": progress.rows,
        "seconds": progress.seconds,
        "history": progress.history,
        "best": None if progress.best_epoch is None else [progress.best_epoch, progress.best_loss],
        "batch_size": stepper.strategy.batch_size,
        "frozen": guard.digest,
        "optimizer": scalars,
        "scaler": None if scaler is None else scaler.state_dict(),
        "random": random.facts(),
    }
    parts = {MODEL: guard.changing(model), OPTIMIZER: moments, SUM: progress.sums, RANDOM: random.torch}
    parts |= {BEST: progress.best, AVERAGE: average.values if average else {}}
    return facts, {f"{part}.{name}": tensor for part, found in parts.items() for name, tensor in found.items()}


def restore(
    checkpoint: Checkpoint, model: Model, guard: FrozenGuard, stepper: Stepper, average: Averaged | None = None
) -> Progress:
    """Put a fit that was prepared again where the checkpoint left it; all is compared before anything is changed.

    Raises:
        IntegrityError: it does not belong to this model.
    """
    facts, tensors = checkpoint.facts, checkpoint.tensors
    if facts["frozen"] != guard.digest:
        raise _foreign(checkpoint, "What was to stay as it was is not what it was: the source weights are others.")
    changing = guard.changing(model)
    kinds = {name: _kind(tensor) for name, tensor in changing.items()}
    best = _under(BEST, tensors)
    wanted = [MODEL, *([AVERAGE] if average else []), *([BEST] if facts["best"] else [])]
    for part in wanted:
        if {name: _kind(tensor) for name, tensor in _under(part, tensors).items()} != kinds:
            raise _foreign(checkpoint, "Its tensors have other names, shapes or types than the model's.")
    parameters = dict(model.named_parameters())
    moments = _moments(_under(OPTIMIZER, tensors), parameters)
    if moments is None:
        raise _foreign(checkpoint, "Its optimizer is of another model.")
    with torch.no_grad():
        for name, tensor in _under(MODEL, tensors).items():
            changing[name].copy_(tensor)
        for name, value in average.values.items() if average else ():
            value.copy_(tensors[f"{AVERAGE}.{name}"])
    state = stepper.optimizer.optimizer.state
    for name, values in moments.items():
        state[parameters[name]] = values
    for name, values in facts["optimizer"].items():
        state[parameters[name]].update(values)
    if stepper.accelerator.scaler is not None and facts["scaler"]:
        stepper.accelerator.scaler.load_state_dict(facts["scaler"])
    stepper.done = facts["step"]
    device = stepper.context.placement.device
    sums = {name: tensor.to(device, copy=True) for name, tensor in _under(SUM, tensors).items()}
    RandomState.of(facts["random"], _under(RANDOM, tensors)).set()
    found = Progress(
        facts["epoch"], facts["batch"], facts["rows"], facts["seconds"], sums, [dict(one) for one in facts["history"]]
    )
    if facts["best"]:
        found.best_epoch, found.best_loss = facts["best"]
        found.best = {name: tensor.clone() for name, tensor in best.items()}
    return found


def _optimizer_state(model: Model, stepper: Stepper) -> tuple[dict[str, dict[str, Any]], dict[str, Tensor]]:
    """By parameter: numbers; and "KEY.PARAMETER" -> tensor."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    scalars: dict[str, dict[str, Any]] = {}
    tensors: dict[str, Tensor] = {}
    for parameter, values in stepper.optimizer.optimizer.state.items():
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{key}.{names[parameter]}"] = value
            else:
                scalars.setdefault(names[parameter], {})[key] = value
    return scalars, tensors


def _moments(saved: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]] | None:
    """By parameter, in its memory format, which fused kernels take for granted; None where one does not fit."""
    found: dict[str, dict[str, Tensor]] = {}
    for full, tensor in saved.items():
        key, _, name = full.partition(".")
        parameter = parameters.get(name)
        if parameter is None or (tensor.ndim and tensor.shape != parameter.shape):
            return None
        if tensor.ndim:
            value = torch.empty_like(parameter, dtype=tensor.dtype, requires_grad=False).copy_(tensor)
        else:
            value = tensor.to(parameter.device, copy=True)
        found.setdefault(name, {})[key] = value
    return found


def _under(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}."): value for name, value in tensors.items() if name.startswith(f"{part}.")}


def _kind(tensor: Tensor) -> tuple[Any, ...]:
    return tuple(tensor.shape), tensor.dtype


def _foreign(checkpoint: Checkpoint, why: str) -> IntegrityError:
    return IntegrityError(
        f"the checkpoint {checkpoint.path} is not of this fit", why=why, hint="Remove it, or fit into another folder."
    )

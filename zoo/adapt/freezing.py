"""Frozen means frozen: who may change in an epoch, and the proof afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from zoo.adapt.strategy import Model
from zoo.errors import TrainingError
from zoo.models.network import HEAD


def set_trainable(model: Model, factors: Mapping[str, float], *, frozen_batchnorm: bool) -> None:
    """Make the stages with a factor above 0 trainable and put all others in evaluation mode.

    A pure function of `factors`: what an earlier epoch did leaves no trace.

    Args:
        factors: learning-rate factor by stage; absent = 0.
        frozen_batchnorm: every BatchNorm layer of the backbone uses its statistics and keeps them.
    """
    members = {name for stage, names in model.stages().items() if factors.get(stage, 0) > 0 for name in names}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in members)
        if name not in members:
            parameter.grad = None
    model.train()
    unused = set(model.backbone.behind_tap())
    live = {stage for stage, factor in factors.items() if factor > 0} - unused - {HEAD}
    model.backbone.train(bool(live))
    for path, module in model.backbone.named_modules():
        frozen = bool(path) and model.backbone.stage_of(path) not in live
        if frozen or (frozen_batchnorm and isinstance(module, _BatchNorm)):
            module.training = False
    model.head.train(factors.get(HEAD, 0) > 0)


class FrozenGuard:
    """Remembers every tensor that no epoch may change, bit for bit, and checks it afterwards.

    Args:
        model: before training.
        factors: the factors of every epoch.
        frozen_batchnorm: whether BatchNorm statistics stay even in trained stages.
    """

    def __init__(self, model: Model, factors: Sequence[Mapping[str, float]], *, frozen_batchnorm: bool) -> None:
        stages = model.stages()
        trained = {stage for stage in stages if any(epoch.get(stage, 0) > 0 for epoch in factors)}
        parameters = {name for stage in trained for name in stages[stage]}
        buffers = set() if frozen_batchnorm else self._statistics(model, trained)
        self._hashes: Final = {
            name: _hash(tensor)
            for name, tensor in model.state_dict().items()
            if name not in parameters | buffers and not name.startswith(("head.", "extras."))
        }

    @staticmethod
    def _statistics(model: Model, trained: set[str]) -> set[str]:
        network = model.backbone
        return {f"backbone.{name}" for name, _ in network.named_buffers() if network.stage_of(name) in trained}

    def check(self, model: Model) -> None:
        """Raise `TrainingError` if a tensor that was to stay is not bit-identical."""
        state = model.state_dict()
        changed = [name for name, value in self._hashes.items() if _hash(state[name]) != value]
        if changed:
            raise TrainingError(
                f"{len(changed)} frozen tensors changed while training, first {changed[0]}",
                why="A strategy or a module wrote to tensors that were to stay as they were.",
            )


def any_batchnorm_trains(model: nn.Module) -> bool:
    """Whether a BatchNorm layer would normalise by the batch's own statistics."""
    return any(isinstance(module, _BatchNorm) and module.training for module in model.modules())


def _hash(tensor: Tensor) -> bytes:
    plain = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(plain.numpy()).digest()

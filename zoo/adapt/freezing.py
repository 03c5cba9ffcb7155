"""Frozen means frozen: what may change in an epoch, and the proof afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from zoo.adapt.strategy import Model
from zoo.errors import TrainingError, UsageError
from zoo.models.network import Network
from zoo.models.stages import HEAD

#: Learning-rate factor by stage; 0 or absent = frozen.
Factors = Mapping[str, float]


def check_factors(factors: Sequence[Factors], stages: Sequence[str]) -> None:
    """Raise `UsageError` where an epoch trains nothing, or names a stage that the model has not."""
    for epoch, named in enumerate(factors):
        if unknown := sorted(set(named) - set(stages)):
            raise UsageError(f"no stage called {unknown[0]!r}", hint=f"Stages: {', '.join(stages)}.")
        if not _live(named):
            raise UsageError(
                f"nothing is trained in epoch {epoch}", why=f"Stages: {', '.join(stages)}.", hint="Freeze less."
            )


def set_trainable(model: Model, factors: Factors, *, freeze_batchnorm: bool) -> None:
    """Prepare the model for one epoch: a pure function of `factors`, whatever an earlier epoch did.

    Parameters of frozen stages, of what lies behind the tap and of the source head need no gradients and have none.
    Modules of frozen stages are in evaluation mode (dropout does nothing, BatchNorm keeps its statistics).

    Args:
        factors: of this epoch.
        freeze_batchnorm: the backbone's normalisation layers are in evaluation mode in trained stages too.
    """
    live = _live(factors)
    trained = {name for stage, names in model.stages().items() if stage in live for name in names}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
        if name not in trained:
            parameter.grad = None
    model.train()  # modules that keep parts of themselves in evaluation mode say so here
    _set_modes(model.backbone, live, freeze_batchnorm)
    model.head.train(HEAD in live)
    for name, module in model.extras.items():
        module.train(name in live or next(module.parameters(), None) is None)


def _set_modes(network: Network, live: set[str], freeze_batchnorm: bool) -> None:
    """A container is in training mode where anything inside it is: it may drop out by itself."""
    live = _with_silent(network, live)
    modes: dict[str, bool] = {}
    for path, module in reversed(list(network.named_modules())):
        inside = [modes[f"{path}.{name}" if path else name] for name, _ in module.named_children()]
        if isinstance(module, _NormBase):
            on = network.stage_of(path) in live and not freeze_batchnorm
        else:
            on = any(inside) if inside else network.stage_of(path) in live
        modes[path] = on
        module.training = module.training and on
    network.training = network.module.training = modes[""]


def _with_silent(network: Network, live: set[str]) -> set[str]:
    """Stages of the backbone that are live; one without parameters (dropout, pooling) goes with the one before it."""
    behind, speaking = network.behind_tap(), network.stages()
    found: set[str] = set()
    on = False
    for stage in network.taps():
        on = stage in live if stage in speaking else on
        if on and stage not in behind:
            found.add(stage)
    return found


def batchnorm_may_train(model: Model, *, freeze_batchnorm: bool) -> bool:
    """Whether some normalisation layer may use the statistics of a batch."""
    parts = [model.head, model.extras] if freeze_batchnorm else [model]
    return any(isinstance(module, _NormBase) for part in parts for module in part.modules())


@contextmanager
def left_as_found(model: nn.Module) -> Iterator[None]:
    """Afterwards every parameter needs gradients as it did before and has none, and the model is in evaluation mode."""
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    try:
        yield
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(before.get(name, True))
            parameter.grad = None
        model.eval()


class FrozenGuard:
    """Remembers, bit for bit, every parameter and buffer that no epoch may change.

    These are the stages frozen in all epochs, what lies behind the tap, the source head, and with `freeze_batchnorm`
    the statistics of the backbone's normalisation layers.

    Args:
        model: before training, its extra modules in place.
        factors: of every epoch.
        freeze_batchnorm: as for `set_trainable`.
    """

    def __init__(self, model: Model, factors: Sequence[Factors], *, freeze_batchnorm: bool) -> None:
        opened: set[str] = set()
        free: set[str] = set()
        #: epoch -> tensors that may change from then on, as they were at the start.
        self._opening: Final[dict[int, dict[str, bytes]]] = {}
        for epoch, named in enumerate(factors):
            if _live(named) <= opened:
                continue
            opened |= _live(named)
            now = _free(model, opened, freeze_batchnorm)
            if epoch:
                self._opening[epoch] = {name: _hash(tensor) for name, tensor in _tensors(model) if name in now - free}
            free = now
        self._hashes: Final = {name: _hash(tensor) for name, tensor in _tensors(model) if name not in free}
        #: Names of what may change, in the model's order.
        self.free: Final = tuple(name for name, _ in _tensors(model) if name in free)

    def __len__(self) -> int:
        return len(self._hashes)

    @property
    def digest(self) -> str:
        """sha256 over all that was to stay, names included."""
        whole = hashlib.sha256()
        for name, value in sorted(self._hashes.items()):
            whole.update(name.encode() + b"\0" + value)
        return whole.hexdigest()

    def changing(self, model: Model) -> dict[str, Tensor]:
        """The tensors that may change, by name: the model's own, not copies."""
        now = dict(_tensors(model))
        return {name: now[name] for name in self.free}

    def check(self, model: Model) -> None:
        """Raise `TrainingError`, naming it, if a tensor that was to stay is not bit-identical."""
        self._compare(model, self._hashes)

    def check_opening(self, model: Model, epoch: int) -> None:
        """The same, at the start of an epoch, of what was to stay until then."""
        self._compare(model, self._opening.get(epoch, {}))

    def _compare(self, model: Model, hashes: Mapping[str, bytes]) -> None:
        now = dict(_tensors(model)) if hashes else {}
        changed = [name for name, value in hashes.items() if name not in now or _hash(now[name]) != value]
        if changed:
            raise TrainingError(
                f"the frozen tensor {changed[0]!r} changed while training",
                why=f"{len(changed)} of {len(hashes)} tensors that were to stay as they were did not: something wrote "
                "to them outside the optimizer.",
                hint="Let the strategy's loss leave the model's tensors alone, or train that stage.",
            )


def _live(factors: Factors) -> set[str]:
    return {stage for stage, factor in factors.items() if factor > 0}


def _free(model: Model, trained: set[str], freeze_batchnorm: bool) -> set[str]:
    """Names of the tensors that may change where these stages are trained."""
    free = {name for stage, names in model.stages().items() if stage in trained for name in names}
    return free | {name for name, _ in model.named_buffers() if _may_change(model, name, trained, freeze_batchnorm)}


def _may_change(model: Model, buffer: str, trained: set[str], freeze_batchnorm: bool) -> bool:
    part, _, name = buffer.partition(".")
    if part == "head":
        return HEAD in trained
    if part == "extras":
        extra = name.partition(".")[0]
        return extra in trained or next(model.extras[extra].parameters(), None) is None
    network = model.backbone
    if freeze_batchnorm and isinstance(network.get_submodule(name.rpartition(".")[0]), _NormBase):
        return False
    return network.stage_of(name) in _with_silent(network, trained)


def _tensors(model: Model) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _hash(tensor: Tensor) -> bytes:
    return hashlib.sha256(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data).digest()

"""LP-FT: first the head in closed form, then the whole network (Kumar et al. 2022, arXiv:2202.10054)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import torch
from torch import Tensor, nn

from zoo.adapt.heads import hidden_units
from zoo.adapt.solve import solve_head
from zoo.adapt.strategy import Batch, Context, Gradient, Model, at_least_zero, below_one, one_of, positive, task_loss
from zoo.data.task import CLASSES
from zoo.errors import UsageError
from zoo.models.stages import HEAD

#: The extra module of `l2_sp` and `wise`.
START: Final = "start"
#: Peak learning rates where none is given: gentle to weights that know something, the usual one for random ones.
PRETRAINED_LR: Final = 3e-4
RANDOM_LR: Final = 1e-3


@dataclass(frozen=True, kw_only=True)
class Tuning(Gradient):
    """What fine-tuning and distillation have in common: which stages are trained how fast, and where the head starts.

    Args:
        lr: peak learning rate of the head; None = 3e-4 where the backbone came with weights, else 1e-3.
        freeze: "none"; "all" = the head alone is trained; or a stage's name: it and all before it stay as they are,
            and no gradient is computed or stored below.
        layer_decay: the learning rate of a stage is `layer_decay` times that of the next one, counted from the head.
        init: where the head starts. "probe" = as linear-probe leaves it on the labelled rows' features (solved in
            closed form; an mlp trained on them), so that training begins at the probe's accuracy and distorts the
            features less (LP-FT). "random". "auto" = the probe where the backbone came with weights.
        batchnorm: "frozen" = the backbone's layers use their statistics and keep them; "train"; "auto" = frozen where
            the backbone came with weights.
    """

    lr: float | None = None  # type: ignore[assignment]
    freeze: str = "none"
    layer_decay: float = 1.0
    init: str = "auto"
    batchnorm: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self, "init", "auto", "probe", "random")
        one_of(self, "batchnorm", "auto", "frozen", "train")
        positive(self, "layer_decay")

    def resolve(self, context: Context) -> Tuning:
        """Settle `lr`, `init` and `batchnorm`."""
        return dataclasses.replace(
            self,
            lr=self.lr or (PRETRAINED_LR if context.pretrained else RANDOM_LR),
            init=_settle(self.init, "probe" if context.pretrained else "random"),
            batchnorm=_settle(self.batchnorm, "frozen" if context.pretrained else "train"),
        )

    def prepare(self, model: Model, context: Context) -> dict[str, nn.Module]:
        """Give the head the probe's solution, where `init` says so and the head is not one of your own."""
        if self.init == "probe" and isinstance(self.head, str) and context.features is not None:
            solved = _probe(self.head, *context.features(), context)
            model.head.load_state_dict(solved.state_dict())
        return {}

    def trainable(self, epoch: int, stages: tuple[str, ...]) -> Mapping[str, float]:
        """Geometric factors from the head down to the boundary, 0 below it; the same in every epoch."""
        return stage_factors(stages, self.freeze, self.layer_decay)

    def freezes_batchnorm(self, context: Context) -> bool:
        """See `batchnorm`."""
        return self.batchnorm == "frozen"


@dataclass(frozen=True, kw_only=True)
class FineTune(Tuning):
    """Train the weights further on labelled rows.

    Starting from the probe's head, few passes do: `epochs=None` is at least 5 and at least 40 steps.

    Args:
        label_smoothing: of the cross-entropy, in [0, 1).
        l2_sp: adds l2_sp / 2 times the squared distance of the backbone's trained weights from where they started
            (L2-SP, Li, Grandvalet & Davoine 2018, arXiv:1802.01483); "penalty" in the history.
        wise: what the fit ends with is (1 - wise) times the weights it started from plus wise times those it found,
            head included (WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903), in [0, 1]; None = those it found.
    """

    layer_decay: float = 0.8
    label_smoothing: float = 0.0
    l2_sp: float = 0.0
    wise: float | None = None

    min_epochs: ClassVar[int] = 5
    min_steps: ClassVar[int] = 40

    def __post_init__(self) -> None:
        super().__post_init__()
        below_one(self, "label_smoothing")
        at_least_zero(self, "l2_sp")
        if self.wise is not None and not 0 <= self.wise <= 1:
            raise UsageError(f"wise must be between 0 and 1, not {self.wise!r}")

    def prepare(self, model: Model, context: Context) -> dict[str, nn.Module]:
        """As for `Tuning`.

        Raises:
            UsageError: label smoothing for a task without classes.
        """
        if self.label_smoothing and context.task.kind != CLASSES:
            raise UsageError(f"label_smoothing is for classes; these targets are {context.task.kind}")
        extras = super().prepare(model, context)
        if self.l2_sp or self.wise is not None:
            extras[START] = Start(model)
        return extras

    def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
        """The task's loss, with `l2_sp` plus the penalty."""
        loss = task_loss(model(batch.x), batch.y, context.task, label_smoothing=self.label_smoothing)
        if not self.l2_sp:
            return {"loss": loss}
        penalty = self.l2_sp / 2 * _start(model).distance(model)
        return {"loss": loss + penalty, "penalty": penalty}

    def finish(self, model: Model, context: Context) -> None:
        """Interpolate, with `wise`."""
        if self.wise is not None:
            _start(model).interpolate(model, self.wise)


class Start(nn.Module):
    """The weights that a fit starts from; no part of what is saved.

    Args:
        model: with the head in place.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.names = [name for name, _ in _weights(model)]
        for number, (_, weight) in enumerate(_weights(model)):
            self.register_buffer(f"w{number}", weight.detach().clone())

    def distance(self, model: Model) -> Tensor:
        """Squared distance of the backbone's trained weights, summed."""
        now = dict(_weights(model))
        parts = [
            (now[name].float() - getattr(self, f"w{number}")).square().sum()
            for number, name in enumerate(self.names)
            if name.startswith("backbone.") and now[name].requires_grad
        ]
        return torch.stack(parts).sum() if parts else torch.zeros((), device=next(self.buffers()).device)

    @torch.no_grad()
    def interpolate(self, model: Model, found: float) -> None:
        """Give the model (1 - found) start + found now."""
        now = dict(_weights(model))
        for number, name in enumerate(self.names):
            start = getattr(self, f"w{number}")
            if not torch.equal(start, now[name]):  # what is frozen stays to the last bit
                now[name].copy_((1 - found) * start + found * now[name])


def _start(model: Model) -> Start:
    start = model.extras[START]
    assert isinstance(start, Start)
    return start


def _weights(model: Model) -> list[tuple[str, Tensor]]:
    return [(name, weight) for name, weight in model.named_parameters() if not name.startswith("extras.")]


def stage_factors(stages: tuple[str, ...], freeze: str, layer_decay: float) -> dict[str, float]:
    """Learning-rate factor by stage: layer_decay ** (stages up to the head); 0 up to and including `freeze`.

    Stages behind the head (extra modules) have factor 1.

    Raises:
        UsageError: no stage of that name.
    """
    head = stages.index(HEAD)
    if freeze in ("none", "all"):
        boundary = head if freeze == "all" else 0
    elif freeze in stages[:head]:
        boundary = stages.index(freeze) + 1
    else:
        raise UsageError(
            f"freeze={freeze!r} names no stage", hint=f"Stages: {', '.join(stages[:head])}; or 'none', or 'all'."
        )
    return {
        stage: 0.0 if place < boundary else layer_decay ** max(0, head - place) for place, stage in enumerate(stages)
    }


def _probe(head: str, features: Tensor, targets: np.ndarray, context: Context) -> nn.Module:
    hidden = hidden_units(head)
    if hidden is None:
        return solve_head(features, targets, context.task, seed=context.seed)
    from zoo_plugins.strategies.linear_probe.mlp import train_mlp

    return train_mlp(features, targets, context.task, hidden, seed=context.seed)


def _settle(option: str, automatic: str) -> str:
    return automatic if option == "auto" else option

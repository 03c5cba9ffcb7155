"""LP-FT: first the head in closed form, then the whole network (Kumar et al. 2022, arXiv:2202.10054)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from torch import Tensor, nn
from zoo_plugins.strategies.linear_probe.start import start_at_probe

from zoo.adapt.strategy import Batch, Context, Gradient, Model, at_least_zero, one_of, positive
from zoo.adapt.supervised import Supervised
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
        unfreeze: "at-once"; or "gradual" = in the first epoch the head alone is trained, and with each epoch the next
            stage below joins, down to the boundary (Howard & Ruder 2018, arXiv:1801.06146); `epochs=None` is then at
            least the epochs that this takes.
        layer_decay: the learning rate of a stage is `layer_decay` times that of the next one, counted from the head.
        init: where the head starts. "probe" = as linear-probe leaves it on the labelled rows' features (solved in
            closed form; an mlp trained on them), so that training begins at the probe's accuracy and distorts the
            features less (LP-FT). "random". "auto" = the probe where the backbone came with weights.
        batchnorm: "frozen" = the backbone's layers use their statistics and keep them; "train"; "auto" = frozen where
            the backbone came with weights.
    """

    lr: float | None = None  # type: ignore[assignment]
    freeze: str = "none"
    unfreeze: str = "at-once"
    layer_decay: float = 1.0
    init: str = "auto"
    batchnorm: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self, "init", "auto", "probe", "random")
        one_of(self, "batchnorm", "auto", "frozen", "train")
        one_of(self, "unfreeze", "at-once", "gradual")
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
        if self.init == "probe":
            start_at_probe(model, self.head, context)
        needed = self._live(tuple(model.stages()))
        if self._gradual and self.epochs is not None and self.epochs < needed:
            context.notes.append(
                f"unfreeze=gradual takes {needed} epochs to reach the last stage; in {self.epochs} "
                f"{needed - self.epochs} of {needed} stages stay as they are"
            )
        return {}

    def trainable(self, epoch: int, stages: tuple[str, ...]) -> Mapping[str, float]:
        """Geometric factors from the head down to the boundary, 0 below it; with `unfreeze` "gradual" down to the stage
        that joined last."""
        factors = stage_factors(stages, self.freeze, self.layer_decay)
        if not self._gradual:
            return factors
        lowest = stages.index(HEAD) - epoch
        return {stage: factor if place >= lowest else 0.0 for place, (stage, factor) in enumerate(factors.items())}

    def least_epochs(self, stages: tuple[str, ...]) -> int:
        """With `unfreeze` "gradual" one for each stage that is trained, the head's included."""
        return max(self.min_epochs, self._live(stages)) if self._gradual else self.min_epochs

    def _live(self, stages: tuple[str, ...]) -> int:
        """Stages that are trained in the end, up to the head."""
        factors = stage_factors(stages, self.freeze, self.layer_decay)
        return sum(factors[stage] > 0 for stage in stages[: stages.index(HEAD) + 1])

    @property
    def _gradual(self) -> bool:
        return self.unfreeze == "gradual"

    def freezes_batchnorm(self, context: Context) -> bool:
        """See `batchnorm`."""
        return self.batchnorm == "frozen"


@dataclass(frozen=True, kw_only=True)
class FineTune(Tuning, Supervised):
    """Train the weights further on labelled rows.

    Starting from the probe's head, few passes do: `epochs=None` is at least 5 and at least 40 steps.

    Args:
        cache: with `freeze`, compute what the frozen stages give once for each row, and keep it in memory (up to
            1 GiB), so that a step begins behind them. Where rows change from epoch to epoch (augment, mixup, cutmix),
            or the network cannot be cut there, they are computed in each step.
        l2_sp: adds l2_sp / 2 times the squared distance of the backbone's trained weights from where they started
            (L2-SP, Li, Grandvalet & Davoine 2018, arXiv:1802.01483); "penalty" in the history.
        wise: what the fit ends with is (1 - wise) times the weights it started from plus wise times those it found,
            head and BatchNorm's statistics included (WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903), in [0, 1];
            None = those it found.
    """

    layer_decay: float = 0.8
    cache: bool = True
    l2_sp: float = 0.0
    wise: float | None = None

    min_epochs: ClassVar[int] = 5
    min_steps: ClassVar[int] = 40

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_zero(self, "l2_sp")
        if self.wise is not None and not 0 <= self.wise <= 1:
            raise UsageError(f"wise must be between 0 and 1, not {self.wise!r}")

    def prepare(self, model: Model, context: Context) -> dict[str, nn.Module]:
        """As for `Tuning`.

        Raises:
            UsageError: an option that means nothing for the task, as label smoothing for one without classes.
        """
        self.check_task(context.task)
        extras = {**super().prepare(model, context), **self.weights(context)}
        if self.l2_sp or self.wise is not None:
            extras[START] = Start(model)
        return extras

    def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
        """The task's loss, with `l2_sp` plus the penalty."""
        loss = self.supervised_loss(model, batch, context)
        if not self.l2_sp:
            return {"loss": loss}
        penalty = self.l2_sp / 2 * _start(model).distance(model)
        return {"loss": loss + penalty, "penalty": penalty}

    def keeps_front(self) -> bool:
        """See `cache`."""
        return self.cache and not (self.augment or self.mixup or self.cutmix)

    def finish(self, model: Model, context: Context) -> None:
        """Interpolate, with `wise`."""
        if self.wise is not None:
            _start(model).interpolate(model, self.wise)


class Start(nn.Module):
    """The weights and statistics that a fit starts from; no part of what is saved.

    Args:
        model: with the head in place.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.names = [name for name, _ in _tensors(model)]
        for number, (_, weight) in enumerate(_tensors(model)):
            self.register_buffer(f"w{number}", weight.detach().clone())

    def distance(self, model: Model) -> Tensor:
        """Squared distance of the backbone's trained weights, summed."""
        now = dict(_tensors(model))
        parts = [
            (now[name].float() - getattr(self, f"w{number}")).square().sum()
            for number, name in enumerate(self.names)
            if name.startswith("backbone.") and now[name].requires_grad
        ]
        return torch.stack(parts).sum() if parts else torch.zeros((), device=next(self.buffers()).device)

    @torch.no_grad()
    def interpolate(self, model: Model, found: float) -> None:
        """Give the model (1 - found) start + found now."""
        now = dict(_tensors(model))
        for number, name in enumerate(self.names):
            start = getattr(self, f"w{number}")
            if not torch.equal(start, now[name]):  # what is frozen stays to the last bit
                now[name].copy_((1 - found) * start + found * now[name])


def _start(model: Model) -> Start:
    start = model.extras[START]
    assert isinstance(start, Start)
    return start


def _tensors(model: Model) -> list[tuple[str, Tensor]]:
    """Parameters and floating buffers, by name."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return [(name, one) for name, one in named if one.is_floating_point() and not name.startswith("extras.")]


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


def _settle(option: str, automatic: str) -> str:
    return automatic if option == "auto" else option

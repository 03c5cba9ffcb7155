"""What strategies that learn from labelled rows have in common: how rows count, and how they are varied."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from torch import Tensor, nn
from torch.nn import functional as F

from zoo.adapt.options import at_least_zero, below_one
from zoo.adapt.strategy import Batch, Context, Gradient, Model, full_precision, task_loss
from zoo.adapt.targets import check_class_weight, class_factors
from zoo.data.augment import Policy, parse
from zoo.data.task import CLASSES, REGRESSION, Task
from zoo.errors import UsageError

#: The extra module of `class_weight`.
WEIGHTS: Final = "class_weight"


@dataclass(frozen=True, kw_only=True)
class Supervised(Gradient):
    """Learn from labelled rows by the task's loss.

    Args:
        label_smoothing: of the cross-entropy, in [0, 1).
        class_weight: None; "balanced": rows count inversely to the frequency of their class; or class -> weight, 1 for
            classes not named; a label's weight is that of the rows that have it. The rows count 1 in the mean.
        augment: how training pictures are changed, anew in each epoch; see `zoo.data.augment`. "crop,flip,trivial" for
            photos, "shift" for digits. None = not at all.
        mixup: alpha of Beta(alpha, alpha), by which a batch is mixed with itself, rows and targets alike (Zhang et al.
            2018, arXiv:1710.09412). 0 = not at all.
        cutmix: alpha, as for `mixup`; a rectangle of each picture comes from another, and the targets are mixed by its
            area (Yun et al. 2019, arXiv:1905.04899). With both, each batch has one of them, by even chance. Parts of a
            batch (`accumulate`, several processes) are mixed each with itself.
    """

    label_smoothing: float = 0.0
    class_weight: str | Mapping[str, float] | None = None
    augment: str | None = None
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        below_one(self, "label_smoothing")
        check_class_weight(self.class_weight)
        at_least_zero(self, "mixup", "cutmix")
        self.augmentation()

    def augmentation(self) -> Policy | None:
        """See `augment`."""
        return None if self.augment is None else parse(self.augment)

    def check_task(self, task: Task) -> None:
        """Raise `UsageError` for an option that means nothing for these targets."""
        if self.label_smoothing and task.kind != CLASSES:
            raise UsageError(f"label_smoothing is for classes; these targets are {task.kind}")
        for name in ("mixup", "cutmix"):
            if getattr(self, name) and task.kind == REGRESSION:
                raise UsageError(f"{name} is for classes and labels; these targets are numbers")
        check_class_weight(self.class_weight, task)

    def weights(self, context: Context) -> dict[str, nn.Module]:
        """The extra module of `class_weight`, if there is to be one."""
        if self.class_weight is None:
            return {}
        assert context.targets is not None
        return {WEIGHTS: ClassWeights(class_factors(context.targets, context.task, self.class_weight))}

    def supervised_loss(self, model: Model, batch: Batch, context: Context) -> Tensor:
        """The task's loss of the batch, mixed and weighted as the options say."""
        x, y = batch.x, batch.y
        if self.mixup or self.cutmix:
            x, y = mixed(batch, context, mixup=self.mixup, cutmix=self.cutmix)
        outputs = model(x)
        if self.class_weight is None:
            return task_loss(outputs, y, context.task, label_smoothing=self.label_smoothing)
        weights = model.extras[WEIGHTS]
        assert isinstance(weights, ClassWeights)
        return weighted_loss(outputs, y, context.task, weights.factors, label_smoothing=self.label_smoothing)


class ClassWeights(nn.Module):
    """What `zoo.adapt.targets.class_factors` gives; no part of what is saved."""

    factors: Tensor

    def __init__(self, factors: Tensor) -> None:
        super().__init__()
        self.register_buffer("factors", factors)


def weighted_loss(outputs: Tensor, y: Tensor, task: Task, factors: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Mean over rows of the loss of each times the factor of its class; over labels too.

    Args:
        outputs: (N, C).
        y: (N,) class indices, or (N, C) of what each class has of a row.
        task: of classes, or of labels.
        factors: (C,), or (2, C) for labels.
        label_smoothing: of the cross-entropy.
    """
    outputs = full_precision(outputs)
    if task.kind != CLASSES:
        each = F.binary_cross_entropy_with_logits(outputs, y, reduction="none")
        return (each * (factors[0] + (factors[1] - factors[0]) * y)).mean()
    parts = (y if y.ndim == 2 else F.one_hot(y, outputs.shape[1])) * factors
    smooth = label_smoothing / outputs.shape[1]
    wanted = (1 - label_smoothing) * parts + smooth * parts.sum(dim=1, keepdim=True)
    return -(wanted * outputs.log_softmax(dim=1)).sum(dim=1).mean()


def mixed(batch: Batch, context: Context, *, mixup: float, cutmix: float) -> tuple[Tensor, Tensor]:
    """x and y, each row with the one before it in the batch: a pure function of seed, epoch and the rows.

    Returns:
        x as it was shaped, and y (N, C): what each class has of a row.

    Raises:
        UsageError: x is no single floating tensor, or for `cutmix` no pictures.
    """
    x = batch.x
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise UsageError("mixup and cutmix are for input of one floating tensor", hint="Leave them out.")
    draw = random.Random(f"{context.seed}/{batch.epoch}/{batch.index.tolist()}")
    cut = bool(cutmix) and not (mixup and draw.random() < 0.5)
    alpha = cutmix if cut else mixup
    kept = draw.betavariate(alpha, alpha)
    other = x.roll(1, 0)
    if cut:
        if x.ndim != 4:
            raise UsageError(f"cutmix is for pictures; this input has shape {tuple(x.shape[1:])}", hint="Use mixup.")
        rows, columns, kept = _rectangle(x.shape[2], x.shape[3], kept, draw)
        x = x.clone()
        x[:, :, rows, columns] = other[:, :, rows, columns]
    else:
        x = x * kept + other * (1 - kept)
    y = batch.y
    whole = y if y.ndim == 2 else F.one_hot(y, context.task.outputs).float()
    return x, whole * kept + whole.roll(1, 0) * (1 - kept)


def _rectangle(height: int, width: int, kept: float, draw: random.Random) -> tuple[slice, slice, float]:
    """Rows and columns of a rectangle with a centre anywhere, and the part of the picture outside it."""
    side = (1 - kept) ** 0.5 / 2
    y, x = draw.randrange(height), draw.randrange(width)
    half = round(height * side), round(width * side)
    top, bottom = max(0, y - half[0]), min(height, y + half[0])
    left, right = max(0, x - half[1]), min(width, x + half[1])
    return slice(top, bottom), slice(left, right), 1 - (bottom - top) * (right - left) / (height * width)

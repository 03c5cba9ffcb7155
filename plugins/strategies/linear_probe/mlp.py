"""A head with one hidden layer, trained on features that were computed once."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

from zoo.adapt.heads import build_head
from zoo.adapt.solve import check_options
from zoo.adapt.spectrum import standardise
from zoo.adapt.targets import ClassWeight, row_weights, target_columns
from zoo.data.task import CLASSES, REGRESSION, Task
from zoo.errors import TrainingError

LR: Final = 3e-3
BATCH: Final = 64
MIN_EPOCHS: Final = 20
MIN_STEPS: Final = 500
#: The penalty where none is given.
PENALTY: Final = 1e-3


def train_mlp(
    features: Tensor,
    targets: np.ndarray,
    task: Task,
    hidden: int,
    *,
    regularizer: float | str = "auto",
    class_weight: ClassWeight = None,
    floor: float | None = None,
    epochs: int | None = None,
    lr: float = LR,
    seed: int = 0,
) -> nn.Module:
    """Return a head D -> hidden, ReLU -> C for raw features, trained with AdamW and a cosine schedule.

    Args:
        features: (N, D), any float type, finite.
        targets: as `zoo.data.task.infer_task` encodes them.
        task: kind and classes.
        hidden: number of hidden units.
        regularizer: lambda of mean loss + lambda (||W1||^2 + ||W2||^2) / 2; "auto" = 0.001.
        class_weight: as in `solve`.
        floor: least scale of a feature, as in `solve`; None = 1.
        epochs: passes over the rows; None = enough for 500 steps, 20 at least.
        lr: peak learning rate.
        seed: of the first weights and the order of the rows.

    Raises:
        DataError: as `solve`.
        UsageError: as `solve`.
        TrainingError: the loss became non-finite.
    """
    check_options(regularizer, class_weight, floor, task)
    columns = target_columns(features, np.asarray(targets), task)
    standard, mean, inverse_scale = standardise(features, 1.0 if floor is None else floor)
    centre, spread = torch.zeros(columns.shape[1]).double(), torch.ones(columns.shape[1]).double()
    weights = torch.ones_like(columns[:, :1])
    if task.kind == REGRESSION:
        centre, deviation = columns.mean(dim=0), columns.std(dim=0, correction=0)
        spread = torch.where(deviation > 0, deviation, 1.0)
    else:
        weights = row_weights(columns, task.kind == CLASSES, class_weight, task.classes)
        weights = weights / weights.mean(dim=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = build_head(f"mlp({hidden})", standard.shape[1], columns.shape[1])
        penalty = PENALTY if regularizer == "auto" else float(regularizer)
        x, y = standard.float(), ((columns - centre) / spread).float()
        _descend(head, x, y, weights.float(), task, penalty, epochs or _enough(len(x)), lr)
    _fold(head, mean, inverse_scale, centre, spread)
    return head


def _descend(
    head: nn.Module, x: Tensor, y: Tensor, weights: Tensor, task: Task, penalty: float, epochs: int, lr: float
) -> None:
    steps = epochs * math.ceil(len(x) / BATCH)
    optimizer = torch.optim.AdamW(head.parameters(), lr=lr, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    matrices = [parameter for parameter in head.parameters() if parameter.ndim == 2]
    for epoch in range(epochs):
        for rows in torch.randperm(len(x)).split(BATCH):
            loss = _loss(head(x[rows]), y[rows], weights[rows], task)
            loss = loss + penalty / 2 * sum(matrix.square().sum() for matrix in matrices)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if not bool(loss.isfinite()):
            raise TrainingError(
                f"the loss became {float(loss.detach())} in epoch {epoch + 1}",
                hint="Try a lower lr or a smaller regularizer.",
            )


def _loss(outputs: Tensor, y: Tensor, weights: Tensor, task: Task) -> Tensor:
    if task.kind == CLASSES:
        return (cross_entropy(outputs, y, reduction="none") * weights[:, 0]).mean()
    if task.kind == REGRESSION:
        return mse_loss(outputs, y) / 2
    return (binary_cross_entropy_with_logits(outputs, y, reduction="none") * weights).mean()


@torch.no_grad()
def _fold(head: nn.Module, mean: Tensor, inverse_scale: Tensor, centre: Tensor, spread: Tensor) -> None:
    """Make the head, trained on standardised features and targets, one for raw ones."""
    first, last = head.hidden, head.out
    weight = first.weight.double() * inverse_scale
    first.bias.copy_(first.bias - weight @ mean)
    first.weight.copy_(weight)
    last.weight.copy_(last.weight * spread[:, None])
    last.bias.copy_(last.bias * spread + centre)
    head.zero_grad()


def _enough(rows: int) -> int:
    return max(MIN_EPOCHS, math.ceil(MIN_STEPS / math.ceil(rows / BATCH)))

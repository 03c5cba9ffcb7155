"""The loss on an inner split of the training rows, which early stopping looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from zoo.adapt.features import to_device
from zoo.adapt.strategy import Model, task_loss
from zoo.data import loading
from zoo.data.task import Task
from zoo.models.accelerator import Placement
from zoo.models.network import running_in_eval


def inner_loss(model: Model, batches: Iterable[loading.Batch], task: Task, placement: Placement) -> Callable[[], float]:
    """A function that gives the task's loss now, as a mean over the rows of `batches`; in evaluation mode."""

    def measure() -> float:
        total: Any = 0.0
        rows = 0
        with running_in_eval(model), torch.no_grad(), placement.autocast():
            for batch in batches:
                assert batch.y is not None
                outputs = model(to_device(batch.x, placement))
                total = total + task_loss(outputs, batch.y.to(placement.device), task) * len(batch)
                rows += len(batch)
        return float(total) / rows

    return measure

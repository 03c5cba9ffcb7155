"""The loss on an inner split of the training rows, which early stopping looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from zoo.adapt.features import to_device
from zoo.adapt.group import ALONE, Group
from zoo.adapt.strategy import Model, task_loss
from zoo.data import loading
from zoo.data.task import Task
from zoo.models.accelerator import Placement
from zoo.models.network import running_in_eval


def inner_loss(
    model: Model, batches: Iterable[loading.Batch], task: Task, placement: Placement, group: Group = ALONE
) -> Callable[[], float]:
    """A function that gives the task's loss now, as a mean over the rows of `batches`; in evaluation mode.

    The processes of a group take the batches in turn, and all are given the same number.
    """

    def measure() -> float:
        total = torch.zeros(2, dtype=torch.float64)
        with running_in_eval(model), torch.no_grad(), placement.autocast():
            for i, batch in enumerate(batches):
                if i % group.size != group.rank:
                    continue
                assert batch.y is not None
                outputs = model(to_device(batch.x, placement))
                loss = float(task_loss(outputs, batch.y.to(placement.device), task))
                total += torch.tensor([loss * len(batch), len(batch)], dtype=torch.float64)
        group.sum([total])
        return float(total[0] / total[1])

    return measure

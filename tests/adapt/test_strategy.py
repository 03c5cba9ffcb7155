"""The seam: stages of a model, and the loss of a task."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo.adapt.strategy import Gradient, Model, task_loss
from zoo.catalog.spec import GRADIENT_OPTIONS
from zoo.data.task import CLASSES, MULTI_LABEL, REGRESSION, Task
from zoo.errors import UsageError
from zoo.models.network import Network
from zoo.testing.networks import Tiny

KINDS = {CLASSES: Task(CLASSES, ("a", "b")), MULTI_LABEL: Task(MULTI_LABEL, ("a", "b"))}
ONE = {kind: Task(kind, ("a",)) for kind in (MULTI_LABEL, REGRESSION)}


@pytest.mark.parametrize("name", ["head", "layer1"])
def test_an_extra_module_called_as_a_stage_is(name: str) -> None:
    network = Network(Tiny(num_classes=3), head="classifier")
    assert name in Model(network, nn.Linear(8, 2)).stages()
    with pytest.raises(UsageError, match=f"a stage is called '{name}' already"):
        Model(network, nn.Linear(8, 2), {name: nn.Linear(2, 2)}).stages()


@pytest.mark.parametrize("kind", KINDS)
def test_no_row_costs_nothing(kind: str) -> None:
    outputs = torch.randn(3, 2, requires_grad=True)
    none = torch.zeros(3, dtype=torch.bool)
    y = torch.zeros(3, dtype=torch.int64) if kind == CLASSES else torch.zeros(3, 2)
    loss = task_loss(outputs[none], y[none], KINDS[kind])
    loss.backward()
    assert loss.item() == 0
    assert outputs.grad is not None
    assert not outputs.grad.any()


@pytest.mark.parametrize("kind", ONE)
def test_a_single_column_may_come_flat(kind: str) -> None:
    outputs, y = torch.randn(5, 1), torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0])
    by_hand = F.mse_loss if kind == REGRESSION else F.binary_cross_entropy_with_logits
    expected = by_hand(outputs[:, 0], y)
    assert torch.equal(task_loss(outputs, y, ONE[kind]), expected)
    assert torch.equal(task_loss(outputs, y[:, None], ONE[kind]), expected)


@pytest.mark.parametrize(
    ("task", "outputs", "y"),
    [
        (ONE[REGRESSION], torch.zeros(4), torch.zeros(4)),
        (ONE[REGRESSION], torch.zeros(4, 2), torch.zeros(4, 1)),
        (ONE[REGRESSION], torch.zeros(4, 1), torch.zeros(1)),
        (ONE[MULTI_LABEL], torch.zeros(4, 2), torch.zeros(4)),
        (KINDS[CLASSES], torch.zeros(4, 2), torch.zeros(3, dtype=torch.int64)),
        (KINDS[CLASSES], torch.zeros(4, 2), torch.zeros(4, 1, dtype=torch.int64)),
    ],
)
def test_shapes_that_do_not_go_together_are_named(task: Task, outputs: torch.Tensor, y: torch.Tensor) -> None:
    with pytest.raises(UsageError, match="do not fit") as caught:
        task_loss(outputs, y, task)
    assert str(tuple(outputs.shape)) in caught.value.message
    assert str(tuple(y.shape)) in caught.value.message


def test_the_options_of_every_gradient_strategy_are_known_without_torch() -> None:
    assert dict(GRADIENT_OPTIONS) == {field.name: field.default for field in dataclasses.fields(Gradient)}

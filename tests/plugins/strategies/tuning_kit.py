"""Small models and contexts for the gradient strategies."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.adapt.heads import build_head
from zoo.adapt.strategy import Batch, Context, Model
from zoo.data.task import CLASSES, MULTI_LABEL, REGRESSION, Task
from zoo.models.accelerator import Placement
from zoo.models.network import Network
from zoo.testing.networks import Tiny

TASKS = {
    CLASSES: Task(CLASSES, ("a", "b", "c")),
    MULTI_LABEL: Task(MULTI_LABEL, ("a", "b", "c")),
    REGRESSION: Task(REGRESSION, ("a", "b", "c")),
}


def context(kind: str = CLASSES, **more: Any) -> Context:
    """On the CPU in fp32."""
    return Context(task=TASKS[kind], placement=Placement(torch.device("cpu"), "fp32", "a test"), **more)


def model(head: str = "linear", seed: int = 0) -> Model:
    """`Tiny` with a fresh head of three outputs."""
    torch.manual_seed(seed)
    return Model(Network(Tiny()), build_head(head, 8, 3)).eval()


def targets(kind: str, rows: int) -> np.ndarray:
    """Encoded targets of three classes, labels or numbers; every class and both values occur."""
    random = np.random.default_rng(0)
    if kind == CLASSES:
        return (np.arange(rows) % 3).astype(np.int64)
    if kind == MULTI_LABEL:
        return (np.arange(rows)[:, None] % (2, 3, 5) == 0).astype(np.float32)
    return random.normal(size=(rows, 3)).astype(np.float32)


def batch(kind: str = CLASSES, rows: int = 12, dtype: torch.dtype = torch.float32) -> Batch:
    """Seeded pictures with targets."""
    y = torch.from_numpy(targets(kind, rows))
    x = torch.randn(rows, 3, 8, 8, generator=torch.Generator().manual_seed(3), dtype=dtype)
    return Batch(x, y.to(dtype) if y.is_floating_point() else y, torch.arange(rows))


def logits(rows: int = 12, seed: int = 5, width: int = 3) -> Tensor:
    """Seeded (rows, width) numbers."""
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)) * 3

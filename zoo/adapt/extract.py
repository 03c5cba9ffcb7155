"""The forward pass: samples in, features out, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from zoo.data.dataset import Split
from zoo.data.loading import batches
from zoo.data.preprocess import reader
from zoo.models.accelerator import Placement
from zoo.models.network import Network, running_in_eval


def extract(
    network: Network, split: Split, placement: Placement, *, batch_size: int = 32, workers: int | None = None
) -> Iterator[Tensor]:
    """Yield features (n, D) float32 on the CPU, batch by batch, in the split's order.

    Evaluation mode, no gradients, channels last, autocast in the placement's precision.
    """
    read = reader(network.preprocessing, network.in_chans)
    with running_in_eval(network), torch.inference_mode(), placement.autocast():
        for batch in batches(split, read, batch_size, workers=workers):
            yield network.features(to_device(batch.x, placement)).float().cpu().clone()


def to_device(x: Any, placement: Placement) -> Any:
    """Move a batch's input to the device, pictures channels last."""
    if isinstance(x, (tuple, list)):
        return tuple(to_device(part, placement) for part in x)
    if isinstance(x, dict):
        return {name: to_device(part, placement) for name, part in x.items()}
    if x.ndim == 4:
        return x.to(placement.device, memory_format=placement.memory_format, non_blocking=True)
    return x.to(placement.device, non_blocking=True)

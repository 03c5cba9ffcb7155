"""The forward pass: samples in, features out, batch by batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from zoo.data.dataset import Split
from zoo.data.loading import batches
from zoo.data.preprocess import Reader
from zoo.models.accelerator import Placement
from zoo.models.fused import fuse
from zoo.models.network import Network, running_in_eval

#: Numbers in the input of one forward pass. On a CPU as many as 4 pictures of 224 px have: their activations stay in
#: the cache and below the size from which the C library asks the system for fresh pages each time (MobileNetV2 is a
#: quarter slower with 8 pictures, and half as fast with 64; ResNets are as fast). An accelerator wants more work at a
#: time.
CPU_BATCH: Final = 4 * 3 * 224 * 224
ACCELERATOR_BATCH: Final = 128 * 3 * 224 * 224
#: Rows of one forward pass, at most.
MOST: Final = 512
#: The usual text has this part of the tokens that the network takes, and what none of a batch has is not computed.
USUAL: Final = 1 / 4


def extract(
    network: Network,
    split: Split,
    placement: Placement,
    *,
    batch_size: int | None = None,
    workers: int | None = None,
    key: str | None = None,
    read: Reader | None = None,
    padded: bool = False,
) -> Iterator[Tensor]:
    """Yield features (n, D) float32 on the CPU, batch by batch, in the split's order.

    Evaluation mode, no gradients, channels last, autocast in the placement's precision; in bf16 on the CPU by a fused
    copy of the network (`zoo.models.fused`). The network itself stays as it is.

    Args:
        batch_size: rows of one forward pass; None = by the size of a sample, see `CPU_BATCH`.
        workers: threads that read; see `zoo.data.loading.batches`.
        key: `zoo.adapt.space.space_key` of the network read this way, where it is known: a copy is kept for it.
        read: how raw samples are read; None = as the network wants them.
        padded: every pass has `batch_size` rows, of which the last ones may be empty, so that what a row gives does not
            depend on how many others there are: some kernels round otherwise with other sizes.
    """
    read = read or network.reader()
    if batch_size is None:
        batch_size = chosen_batch(network, placement)
    runner: Network | None = None
    with running_in_eval(network):
        for batch in batches(split, read, batch_size, workers=workers):
            x = to_device(filled(batch.x, batch_size) if padded else batch.x, placement)
            runner = runner or _runner(network, x, placement, key)
            with torch.inference_mode(), placement.autocast():
                found = runner.features(x)[: len(batch)].float().cpu().clone()
            yield found


def filled(x: Any, rows: int) -> Any:
    """A batch's input with rows of zeros up to so many."""
    if isinstance(x, (tuple, list)):
        return tuple(filled(part, rows) for part in x)
    if isinstance(x, dict):
        return {name: filled(part, rows) for name, part in x.items()}
    return x if len(x) >= rows else torch.cat([x, x.new_zeros((rows - len(x), *x.shape[1:]))])


def chosen_batch(network: Network, placement: Placement) -> int:
    """Rows of one forward pass of samples of the network's input size; ids count as the vectors that they become."""
    preprocessing = network.preprocessing
    size = math.prod(preprocessing.input_size) if preprocessing and preprocessing.input_size else 1
    if network.spec is not None and getattr(network.reader(), "embeds", False):
        size = math.ceil(size * network.spec.num_features * USUAL)
    budget = CPU_BATCH if placement.device.type == "cpu" else ACCELERATOR_BATCH
    return max(1, min(MOST, budget // max(1, size)))


def _runner(network: Network, x: Any, placement: Placement, key: str | None) -> Network:
    """The network, or its fused copy, which is made once for each key."""
    if placement.device.type != "cpu" or placement.precision != "bf16":
        return network
    kept: _Fused | None = getattr(network, "_fused", None)
    if kept is None or key is None or kept.key != key:
        kept = _Fused(key, fuse(network, x[:1].float()) if isinstance(x, Tensor) else None)
        object.__setattr__(network, "_fused", kept)
    return kept.twin or network


@dataclass(frozen=True)
class _Fused:
    """The fused copy that a network has with it, and the space it is for. Copies of the network have none."""

    key: str | None
    twin: Network | None

    def __deepcopy__(self, memo: dict[int, Any]) -> _Fused:
        return _Fused(None, None)  # packed tensors cannot be copied


def to_device(x: Any, placement: Placement) -> Any:
    """Move a batch's input to the device, pictures channels last."""
    if isinstance(x, (tuple, list)):
        return tuple(to_device(part, placement) for part in x)
    if isinstance(x, dict):
        return {name: to_device(part, placement) for name, part in x.items()}
    if x.ndim == 4:
        return x.to(placement.device, memory_format=placement.memory_format, non_blocking=True)
    return x.to(placement.device, non_blocking=True)

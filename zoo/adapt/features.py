"""The feature store: one forward pass over each sample, shared by everything that asks for features.

A feature is keyed by its *space* (which network, in which state, read where and how) and its *row* (sha256 of the raw
sample), so a data set that grew costs only its new samples and identical samples are computed once.
"""

from __future__ import annotations

import functools
import hashlib
import json
import uuid
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn

from zoo.data.dataset import Split
from zoo.data.loading import batches
from zoo.data.preprocess import reader
from zoo.models.accelerator import Placement
from zoo.models.network import Network, running_in_eval

#: Counts up when extraction changes what a feature is.
VERSION: Final = 1

Progress = Callable[[int, int], None]


class FeatureStore:
    """Features in memory, by space and row.

    Args:
        limit: bytes kept; the spaces used longest ago go first.
    """

    def __init__(self, limit: int = 1 << 30) -> None:
        self.limit: Final = limit
        #: space -> row -> feature (D,)
        self._spaces: dict[str, dict[str, Tensor]] = {}

    def features(
        self,
        network: Network,
        split: Split,
        placement: Placement,
        *,
        batch_size: int = 32,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Features (N, D) float32 on the CPU, one row per sample of the split, in its order.

        Only samples this store has not seen in this space are computed. `progress` is called with (done, total).
        """
        space = self._spaces.pop(key := space_key(network, placement), {})
        self._spaces[key] = space
        digests = [split.digest(i) for i in range(len(split))]
        missing = list({digest: i for i, digest in enumerate(digests) if digest not in space}.values())
        if missing:
            rows = split.subset(sorted(missing))
            done = 0
            for found in extract(network, rows, placement, batch_size=batch_size, workers=workers):
                for feature in found:
                    space[rows.digest(done)] = feature
                    done += 1
                if progress:
                    progress(done, len(rows))
        result = torch.stack([space[digest] for digest in digests])
        self._trim()
        network.note_width(result.shape[1])
        return result

    def _trim(self) -> None:
        size = sum(sum(row.nbytes for row in space.values()) for space in self._spaces.values())
        while size > self.limit and len(self._spaces) > 1:
            oldest = self._spaces.pop(next(iter(self._spaces)))
            size -= sum(row.nbytes for row in oldest.values())


def extract(
    network: Network, split: Split, placement: Placement, *, batch_size: int = 32, workers: int | None = None
) -> Any:
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


def space_key(network: Network, placement: Placement) -> str:
    """What features of this network, read this way, are filed under (sha256, hex)."""
    facts = {
        "version": VERSION,
        # The same tensors can stand behind another forward pass: a module without a name is known by itself alone.
        "backbone": network.spec.full_name if network.spec and not network.own else f"module {_token(network)}",
        "head": network.head_names,
        "options": repr(sorted(network.options.items())),
        "in_chans": network.in_chans,
        "state": state_hash(network),
        "tap": network.tap,
        "preprocessing": repr(network.preprocessing),
        "precision": placement.precision,
        "device": placement.device.type,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _token(network: Network) -> str:
    """A word that no other module of this process has."""
    token = getattr(network, "_token", None)
    if token is None:
        token = uuid.uuid4().hex
        object.__setattr__(network, "_token", token)
    return token


def state_hash(network: nn.Module) -> str:
    """sha256 over every tensor of the module, names, types and shapes included."""
    return hashlib.sha256(json.dumps(tensor_hashes(network)).encode()).hexdigest()


def tensor_hashes(network: nn.Module) -> dict[str, str]:
    """Tensor name -> sha256 of its type, shape and values."""
    hashes = {}
    for name, tensor in network.state_dict().items():
        digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        hashes[name] = digest.hexdigest()
    return hashes


@functools.cache
def shared_store() -> FeatureStore:
    """The store that learners of this process share unless they are given one."""
    return FeatureStore()

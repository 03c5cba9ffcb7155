"""sha256 of samples and of whole data sets. The same content has the same digest, whatever library holds it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from zoo.data.sound import Sound

if TYPE_CHECKING:
    from zoo.data.dataset import Split
    from zoo.data.task import Task

#: Changes whenever the same data would get another fingerprint.
VERSION: Final = 1


def of_bytes(content: bytes) -> str:
    """sha256 of a file's content, in hex."""
    return hashlib.sha256(content).hexdigest()


def of_value(value: Any) -> str:
    """sha256 of an array, a tensor, a picture, or a tuple of them: kind, shape and bytes, in hex."""
    digest = hashlib.sha256()
    for part in value if isinstance(value, tuple) else (value,):
        head, content = _content(part)
        digest.update(f"{head} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def of_splits(splits: Mapping[str, Split], task: Task | None) -> str:
    """sha256 over the ordered (split, digest, target) rows, in hex."""
    digest = hashlib.sha256(f"zoo-data {VERSION}\n{task!r}\n".encode())
    for name, split in splits.items():
        digest.update(f"{name} {len(split)}\n".encode())
        for index, sample in enumerate(split.digests()):
            digest.update(sample.encode())
            if split.targets is not None:
                digest.update(split.targets[index].tobytes())
    return digest.hexdigest()


def _content(part: Any) -> tuple[str, memoryview | bytes]:
    if hasattr(part, "detach"):
        import torch

        tensor = part.detach().cpu().contiguous()
        kind = str(tensor.dtype).removeprefix("torch.")
        return f"{kind} {tuple(tensor.shape)}", tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
    if hasattr(part, "tobytes") and hasattr(part, "mode"):
        return f"picture {part.mode} {part.size}", part.tobytes()
    if isinstance(part, Sound):
        return f"sound {part.rate}", part.samples.tobytes()
    array = np.ascontiguousarray(part)
    return f"{array.dtype} {tuple(array.shape)}", array.tobytes()

"""Write tensors to a safetensors file: the one place that does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write `tensors` to `path` atomically, contiguous, on the CPU; readable by all the umask allows.

    Tensors that share memory are written once each. The bytes depend on names and values alone.
    """
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(tensors.items())}
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file(plain, part, metadata=dict(metadata or {}))
        os.chmod(part, 0o666 & ~_umask())
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

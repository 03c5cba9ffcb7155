"""Read and write the tensors of a safetensors file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from zoo.errors import IntegrityError
from zoo.weights.header import read_header


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write `tensors` to `path` atomically, contiguous, on the CPU; readable by all the umask allows.

    Tensors that share memory are written once each. The bytes depend on names and values alone.
    """
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(tensors.items())}
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file(plain, part, metadata=dict(metadata or {}))
        os.chmod(part, 0o666 & ~umask())
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def umask() -> int:
    """The permissions that this process withholds from what it makes."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read every tensor of a safetensors file whose header was checked first.

    The file is mapped privately: writing to a tensor copies the page and never reaches the file.

    Raises:
        IntegrityError: the file is damaged.
    """
    read_header(path)
    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError) as error:
        raise IntegrityError(f"{path} cannot be read", why=str(error)) from error

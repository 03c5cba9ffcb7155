"""The only door for pickles: `python -I -m zoo.weights.convert IN OUT` in a process of its own.

That process loads with `weights_only=True`, which builds tensors and plain containers and runs no code of the file;
its output is checked by the caller like any other file.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from zoo.errors import IntegrityError, ZooError
from zoo.weights.files import disk_errors
from zoo.weights.header import read_header

#: Keys under which checkpoints nest their tensors.
_NESTED: Final = ("state_dict", "model", "state_dict_ema", "model_ema", "module")
_TIMEOUT_S: Final = 600


def convert(source: Path, target: Path) -> None:
    """Write the tensors of the pickle `source` to the safetensors file `target`.

    Raises:
        IntegrityError: it holds something else than tensors, or is no checkpoint; `target` is not written.
        DiskError: `target` cannot be written.
    """
    part = target.with_name(f"{target.name}.part")
    command = [sys.executable, "-I", "-m", "zoo.weights.convert", str(source.absolute()), str(part.absolute())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines()
            raise IntegrityError(
                f"{source.name} cannot be converted",
                why=said[-1][:300] if said else f"the converter ended with {done.returncode}",
                hint="Only checkpoints of tensors are converted; code inside a pickle is never run.",
            )
        read_header(part)
        with disk_errors("write", target):
            os.replace(part, target)
    except subprocess.TimeoutExpired as error:
        raise IntegrityError(f"{source.name} could not be converted within {_TIMEOUT_S} s") from error
    finally:
        part.unlink(missing_ok=True)


def tensors_of(found: Any) -> dict[str, Any]:
    """The tensors of a loaded checkpoint, by name, without a common `module.`."""
    import torch

    while isinstance(found, dict) and (nested := next((key for key in _NESTED if key in found), None)):
        if not isinstance(found[nested], dict):
            break
        found = found[nested]
    if not isinstance(found, dict) or not found:
        raise ZooError("it is no checkpoint: no mapping of names to tensors")
    other = [name for name, value in found.items() if not isinstance(value, torch.Tensor)]
    if other:
        raise ZooError(f"{other[0]!r} is not a tensor")
    prefix = "module."
    if all(name.startswith(prefix) for name in found):
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    # Copies, because tensors that share memory cannot be saved; contiguous, because files are.
    return {name: value.detach().contiguous().clone() for name, value in found.items()}


def main(source: str, target: str) -> int:
    """Convert; the last line of stderr says what went wrong."""
    import torch
    from safetensors.torch import save_file

    try:
        found = torch.load(source, map_location="cpu", weights_only=True)
        save_file(tensors_of(found), target, metadata={"format": "pt"})
        with open(target, "rb+") as file:
            os.fsync(file.fileno())
    except Exception as error:
        print(" ".join(f"{type(error).__name__}: {error}".split())[:300], file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))

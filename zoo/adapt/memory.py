"""When memory runs out: what it looks like, and which batch would fit."""

from __future__ import annotations

import torch

from zoo.errors import TrainingError


class OutOfMemoryError(TrainingError):
    """A step needed more memory than there is.

    Attributes:
        fits: rows of the largest batch tried that fits; None where none does.
    """

    fits: int | None = None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on whatever device."""
    from accelerate.utils.memory import should_reduce_batch_size

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and should_reduce_batch_size(error)


def too_large(rows: int, fits: int | None, why: str) -> OutOfMemoryError:
    """The error that says which batch fits."""
    hint = "Not even the smallest batch fits: choose a smaller network or input, bf16, or freeze more."
    if fits:
        hint = (
            f"A batch of {fits} fits: --batch-size {fits}, or --batch-size auto; "
            f"accumulate={-(-rows // fits)} computes the same batch in parts."
        )
    first = next(iter(why.splitlines()), None)
    error = OutOfMemoryError(f"out of memory with a batch of {rows} rows", why=first, hint=hint)
    error.fits = fits
    return error


def release() -> None:
    """Give back what nothing refers to any more."""
    from accelerate.utils.memory import clear_device_cache

    clear_device_cache(garbage_collection=True)

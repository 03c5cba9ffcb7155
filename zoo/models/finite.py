"""Whether every number of a weights file is one."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from zoo.errors import IntegrityError

#: Elements of an 8-bit float that are widened at a time.
_PART = 1 << 20


def is_finite(tensor: Tensor) -> bool:
    """Whether a floating or complex tensor holds neither NaN nor infinity; nothing as large as the tensor is made."""
    if tensor.numel() == 0:
        return True
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    if tensor.element_size() == 1:  # no reduction knows the 8-bit floats
        return all(is_finite(part.float()) for part in tensor.flatten().split(_PART))
    low, high = torch.aminmax(tensor)  # both carry NaN and infinity
    return bool(torch.isfinite(low) and torch.isfinite(high))


def not_finite(path: Path) -> str | None:
    """The first tensor of a safetensors file that holds NaN or infinity, or None. The file is mapped, not copied.

    Raises:
        IntegrityError: the file cannot be opened.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path, device="cpu")
    except (SafetensorError, OSError) as error:
        raise IntegrityError(f"{path} cannot be read", why=str(error)) from error
    return next((name for name, one in tensors.items() if has_finite(one.dtype) and not is_finite(one)), None)


def has_finite(dtype: torch.dtype) -> bool:
    """Whether numbers of this type can be NaN or infinite."""
    return dtype.is_floating_point or dtype.is_complex

"""Raw samples as pictures inside a page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from PIL import Image

#: Pixels of the longer side.
SIDE: Final = 256
#: Pictures up to this side keep their pixels, and are shown enlarged without blur.
TINY: Final = 64
_QUALITY: Final = 82


@dataclass(frozen=True)
class Picture:
    """A picture for an `img` element.

    Attributes:
        src: a data URI.
        tiny: whether its pixels are to be seen as squares.
    """

    src: str
    tiny: bool = False


def picture(raw: Any, side: int = SIDE) -> Picture | None:
    """A PIL picture, or a uint8 array (H, W[, 1, 3 or 4]), without anything but its pixels; None for all else."""
    image = as_image(raw)
    if image is None:
        return None
    tiny = max(image.size) <= TINY
    if not tiny:
        image.thumbnail((side, side))
    file = io.BytesIO()
    if tiny:
        image.save(file, "PNG")
    else:
        image.save(file, "JPEG", quality=_QUALITY)
    kind = "png" if tiny else "jpeg"
    return Picture(f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}", tiny)


def as_image(raw: Any) -> Image.Image | None:
    """RGB or L with nothing but pixels: a file's comments, places and profiles stay where they are."""
    if isinstance(raw, Image.Image):
        raw = np.asarray(raw if raw.mode in ("L", "RGB") else raw.convert("RGB"))
    if not isinstance(raw, np.ndarray) or raw.dtype != np.uint8:
        return None
    if raw.ndim == 3 and raw.shape[2] == 1:
        raw = raw[..., 0]
    if raw.ndim == 3 and raw.shape[2] == 4:
        raw = raw[..., :3]
    if raw.ndim == 2 or (raw.ndim == 3 and raw.shape[2] == 3):
        return Image.fromarray(np.ascontiguousarray(raw))
    return None

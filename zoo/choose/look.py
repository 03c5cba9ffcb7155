"""One look at every sample: a thumbnail, and what can be known of a picture file without its content."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from zoo.data.dataset import Split
from zoo.data.images import upright

#: Side of a thumbnail.
SIDE: Final = 24


@dataclass(frozen=True)
class Look:
    """What one picture looks like from afar.

    Attributes:
        thumbnail: grey (SIDE, SIDE) in [0, 255]: what copies are known by.
        colours: (SIDE / 3, SIDE / 3, 3) in [0, 255]: what classes are told apart by where no backbone is at hand.
        width, height: of the picture as stored.
        attributes: what its file tells without its content; words or numbers by name.
    """

    thumbnail: np.ndarray
    colours: np.ndarray
    width: int
    height: int
    attributes: dict[str, float | str] = field(default_factory=dict)

    @property
    def contrast(self) -> float:
        """Standard deviation of the thumbnail."""
        return float(self.thumbnail.std())


def look_at(splits: Sequence[Split]) -> list[Look | None]:
    """A look at every sample of the splits, in order; None for samples that are no pictures."""
    jobs = [(split, index) for split in splits for index in range(len(split))]
    with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 1)) as pool:
        return list(pool.map(lambda job: _look(*job), jobs))


def _look(split: Split, index: int) -> Look | None:
    if split.samples.kind != "image":
        return None
    path = split.samples.path(int(split.rows[index]))
    if path is not None:
        return _look_at_file(path)
    raw = split.raw(index, SIDE)
    if isinstance(raw, Image.Image):
        return Look(*_thumbnails(raw), *raw.size)
    array = np.asarray(raw) if not isinstance(raw, tuple) else np.empty(0)
    if array.dtype != np.uint8 or array.ndim not in (2, 3):
        return None
    picture = Image.fromarray(array.squeeze(-1) if array.ndim == 3 and array.shape[-1] == 1 else array)
    return Look(*_thumbnails(picture), *picture.size)


def _look_at_file(path: Path) -> Look:
    content = path.read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        width, height = image.size
        tables = getattr(image, "quantization", None) or {}
        attributes: dict[str, float | str] = {
            "width": float(width),
            "height": float(height),
            "aspect ratio": round(width / height, 3),
            "file format": str(image.format),
            "colour mode": image.mode,
            "pattern of the file name": name_pattern(path.name),
        }
        if tables:
            attributes["JPEG compression"] = float(np.mean([np.mean(table) for table in tables.values()]))
        image.draft(None, (2 * SIDE, 2 * SIDE))
        image.load()
        return Look(*_thumbnails(upright(image)), width, height, attributes)


def name_pattern(name: str) -> str:
    """A file's name with runs of digits as 0 and runs of letters as a: "IMG_0012.jpg" -> "a_0.jpg"."""
    stem, suffix = os.path.splitext(name)
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "0", stem))[:40] + suffix.lower()


def _thumbnails(picture: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """The grey and the coloured one."""
    small = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    tiny = small.resize((SIDE // 3, SIDE // 3), Image.Resampling.BOX)
    return np.asarray(small.convert("L"), dtype=np.float32), np.asarray(tiny, dtype=np.float32)

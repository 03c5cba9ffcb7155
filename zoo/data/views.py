"""Other views of the same pictures: fixed crops, so that a view of a sample is always the same.

View 0 is the sample as it is. Views 1 to 5 show seven eighths of each side: top left, top right, bottom left, bottom
right, centre; views 6 to 10 three quarters, and 11 to 15 five eighths. None mirrors a picture: that turns some classes
(letters, digits, left and right) into others.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from zoo.data.dataset import Samples, Split
from zoo.errors import UsageError

#: Part of each side that views show, and where: 0 = left or top, 1 = right or bottom.
SIZES: Final = (7 / 8, 3 / 4, 5 / 8)
PLACES: Final = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.5, 0.5))
#: Views there are, the sample as it is included.
VIEWS: Final = 1 + len(SIZES) * len(PLACES)
#: Counts up when the crops change.
_VERSION: Final = 1


def viewed(split: Split, view: int) -> Split:
    """The same rows, seen otherwise; their digests are others, so that features of views never mix.

    Args:
        split: of pictures or raw arrays, unless `view` is 0.
        view: 0 to `VIEWS` - 1.

    Raises:
        UsageError: no such view.
    """
    if not 0 <= view < VIEWS:
        raise UsageError(f"there is no view {view}", hint=f"Views: 0 (as it is) to {VIEWS - 1}.")
    return replace(split, samples=ViewedSamples(split.samples, view)) if view else split


class ViewedSamples(Samples):
    """One view of other samples.

    Args:
        source: the samples.
        view: 1 to `VIEWS` - 1.
    """

    def __init__(self, source: Samples, view: int) -> None:
        self._source = source
        self._view = view
        self.encoded = source.encoded
        self.kind = source.kind

    def __len__(self) -> int:
        return len(self._source)

    def raw(self, row: int, shorter: int | None = None) -> Any:
        size = SIZES[(self._view - 1) // len(PLACES)]
        return crop(self._source.raw(row, shorter and math.ceil(shorter / size)), self._view, self.location(row))

    def digest(self, row: int) -> str:
        return hashlib.sha256(
            f"view {self._view} version {_VERSION} of {self._source.digest(row)}".encode()
        ).hexdigest()

    def location(self, row: int) -> str:
        return self._source.location(row)

    def path(self, row: int) -> Path | None:
        return self._source.path(row)


def crop(raw: Any, view: int, where: str = "the sample") -> Any:
    """A view, 1 to `VIEWS` - 1, of a picture or a uint8 array (H, W[, C]).

    Raises:
        UsageError: the sample is neither.
    """
    size, (across, down) = SIZES[(view - 1) // len(PLACES)], PLACES[(view - 1) % len(PLACES)]
    picture = hasattr(raw, "getexif")
    if not picture and str(getattr(raw, "dtype", "")) != "uint8":
        raise UsageError(
            f"{where} is no picture, so it has no views",
            why="Views crop pictures and raw uint8 arrays; what is ready for the network is never changed.",
            hint="Leave `views` out.",
        )
    width, height = raw.size if picture else (raw.shape[1], raw.shape[0])
    w, h = max(1, round(width * size)), max(1, round(height * size))
    left, top = round((width - w) * across), round((height - h) * down)
    if picture:
        return raw.crop((left, top, left + w, top + h))
    return np.ascontiguousarray(raw[top : top + h, left : left + w])

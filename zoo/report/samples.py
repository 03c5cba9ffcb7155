"""Raw samples inside a page: pictures, recordings as log-mel pictures that can be played, texts, rows of a table."""

from __future__ import annotations

import base64
import io
import math
import wave
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from PIL import Image

from zoo.data.dataset import Split
from zoo.data.sound import Sound
from zoo.report.pictures import SIDE, Picture, picture

#: Seconds of a recording that a page plays, and the most samples a second: 160 KB of each at most.
SECONDS: Final = 5.0
RATE: Final = 16_000
#: Pixels of a recording's picture.
_HEARD: Final = (224, 160)
#: Characters of a text, and of a cell; columns of a row.
TEXT: Final = 600
CELL: Final = 60
COLUMNS: Final = 16


@dataclass(frozen=True)
class Shown:
    """One sample, as far as a page can show it. False where it cannot.

    Attributes:
        picture: of a picture, or of a recording's log-mel powers, low tones at the bottom.
        sound: a WAV file as a data URI.
        text: its beginning, where it is long.
        cells: (column, value), the first `COLUMNS`; the value of an empty cell is None.
        more: what is left out, in words.
    """

    picture: Picture | None = None
    sound: str | None = None
    text: str | None = None
    cells: tuple[tuple[str, str | None], ...] = ()
    more: str = ""

    def __bool__(self) -> bool:
        return bool(self.picture or self.text is not None or self.cells)

    @property
    def wide(self) -> bool:
        """Whether it is read, and so needs more room than a picture."""
        return self.text is not None or bool(self.cells)


def sample_of(split: Split, index: int) -> Shown:
    """The sample at a position of a split."""
    return shown(split.raw(index, SIDE))


def shown(raw: Any) -> Shown:
    """A raw sample: a picture, a `Sound`, a text (str), or a row of a table (a mapping of columns)."""
    if isinstance(raw, Sound):
        played, more = _played(raw)
        return Shown(picture=_log_mel(raw), sound=played, more=more)
    if isinstance(raw, str):
        return Shown(text=_cut(raw, TEXT), more=f"{len(raw):,} characters" if len(raw) > TEXT else "")
    if isinstance(raw, Mapping):
        cells = tuple((_cut(str(name), CELL), _cell(value)) for name, value in list(raw.items())[:COLUMNS])
        left = len(raw) - len(cells)
        return Shown(cells=cells, more=f"and {left:,} more columns" if left else "")
    return Shown(picture=picture(raw))


def _log_mel(sound: Sound) -> Picture | None:
    """As a network of pictures sees it, but for its size."""
    from zoo.data.spectrogram import LogMel

    cells = LogMel()(sound)[::-1]  # row 0 is the lowest band
    image = Image.fromarray((cells * 255).round().astype(np.uint8))
    return picture(image.resize(_HEARD, Image.Resampling.BILINEAR))


def _played(sound: Sound) -> tuple[str, str]:
    """The beginning as a WAV file in a data URI, with nothing of the file it came from; and how it differs."""
    from scipy.signal import resample_poly

    samples, rate = sound.samples[: math.ceil(SECONDS * sound.rate)], sound.rate
    if rate > RATE:
        common = math.gcd(rate, RATE)
        samples, rate = resample_poly(samples.astype(np.float64), RATE // common, rate // common), RATE
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes((np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes())
    more = f"the first {SECONDS:g} of {sound.seconds:.1f} s" if sound.seconds > SECONDS else ""
    return f"data:audio/wav;base64,{base64.b64encode(file.getvalue()).decode()}", more


def _cell(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return f"{value:.6g}" if isinstance(value, float) else _cut(str(value), CELL)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"

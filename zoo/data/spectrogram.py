"""Recordings as log-mel pictures, so that every image backbone can hear.

One channel at `rate`; power of a short-time Fourier transform (a periodic Hann `window`, every `hop`, frames centred,
zeros beyond both ends); `bands` triangles on Slaney's mel scale between `low` and `high`, each of unit area; decibels
below the loudest cell, cut at `range_db`, scaled to [0, 1]; where there is nothing but silence, 0. But for silence,
that is librosa's `power_to_db(melspectrogram(y), ref=max)` with `n_mels`, `win_length`, `hop_length` and `n_fft` said,
and `pad_mode="constant"`. The picture, low tones at the bottom, is resized to the network's input size; the pixels then
go the way of any picture: repeated over the channels, less the mean, by the standard deviation.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zoo.catalog.spec import Preprocessing
from zoo.data.preprocess import describe, per_channel, ready
from zoo.data.sound import RATES, Sound
from zoo.errors import DataError, UsageError

#: Power below which there is silence, as in librosa.
_SILENCE: Final = 1e-10
#: Slaney's mel scale (Auditory Toolbox, 1998): linear below 1 kHz, then 27 steps of equal ratio to 6.4 kHz.
_LINEAR: Final = 200 / 3
_KNEE: Final = 1000.0
_STEP: Final = math.log(6.4) / 27
#: Keys that count something.
_WHOLE: Final = frozenset({"rate", "bands"})
#: The largest value of each key: what is beyond asks for any amount of memory.
_MOST: Final = {
    "rate": RATES[1], "window": 10_000, "hop": 10_000, "bands": 1024, "low": RATES[1] / 2, "high": RATES[1] / 2,
    "range_db": 1000, "seconds": 3600,
}  # fmt: skip
#: Values of a Fourier transform that are held at once: 32 MiB of float64.
_HELD: Final = 1 << 22
#: Samples that a resampling by n/m looks back and ahead, in the longer of its steps (SciPy's filter: 10, and 1 more).
_REACH: Final = 11


@dataclass(frozen=True)
class LogMel:
    """How a recording becomes a picture; `Preprocessing.extra` of kind "audio" may name each.

    Attributes:
        rate: samples a second that recordings are resampled to.
        window: milliseconds.
        hop: milliseconds from one window to the next.
        bands: rows of the picture before it is resized.
        low, high: Hz; 0 = half the rate.
        range_db: quieter cells than this below the loudest are black.
        seconds: of each recording; shorter ones are followed by silence, longer ones are cut at both ends. 0 = all of
            it, however long: its whole length becomes the picture's width.
    """

    rate: int = 16_000
    window: float = 25.0
    hop: float = 10.0
    bands: int = 128
    low: float = 0.0
    high: float = 0.0
    range_db: float = 80.0
    seconds: float = 0.0

    @classmethod
    def of(cls, extra: Mapping[str, Any]) -> LogMel:
        """From the keys of a preprocessing.

        Raises:
            UsageError: an unknown key, or a value that means nothing.
        """
        known = {one.name: one.default for one in fields(cls)}
        given = {key: value for key, value in extra.items() if not key.startswith("x-")}
        if unknown := sorted(set(given) - set(known)):
            raise UsageError(f"audio preprocessing knows no {unknown[0]!r}", hint=f"Keys: {', '.join(known)}.")
        for key, value in given.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _MOST[key]:
                raise UsageError(
                    f"audio preprocessing: {key} is {value!r}", hint=f"Give a number from 0 to {_MOST[key]:,}."
                )
            if key in _WHOLE and value != int(value):
                raise UsageError(f"audio preprocessing: {key} is {value!r}", hint="Give a whole number.")
        made = cls(**{key: int(value) if key in _WHOLE else value for key, value in given.items()})
        if not (made.rate >= RATES[0] and made.window > 0 and made.hop > 0 and made.bands >= 1 and made.range_db > 0):
            raise UsageError(f"{made} is no preprocessing of recordings", hint="Only low, high and seconds may be 0.")
        if made.low >= made.top or made.top > made.rate / 2:
            raise UsageError(f"bands from {made.low:g} to {made.top:g} Hz at {made.rate} Hz", hint="Mend low and high.")
        return made

    @property
    def top(self) -> float:
        """Upper end of the last band, Hz."""
        return self.high or self.rate / 2

    @property
    def length(self) -> int:
        """Samples of a window."""
        return max(2, round(self.rate * self.window / 1000))

    @property
    def step(self) -> int:
        """Samples between windows."""
        return max(1, round(self.rate * self.hop / 1000))

    @property
    def size(self) -> int:
        """Of the Fourier transform: the next power of two."""
        return 1 << (self.length - 1).bit_length()

    def __call__(self, sound: Sound) -> np.ndarray:
        """(bands, frames) float32 in [0, 1]; row 0 is the lowest band. Silence is black."""
        power = self.powers(sound)
        np.maximum(power, _SILENCE, out=power)
        if power.max() <= _SILENCE:
            return np.zeros(power.shape, np.float32)
        np.multiply(np.log10(power, out=power), 10, out=power)
        power -= power.max()
        power /= self.range_db
        power += 1
        return np.clip(power, 0, 1, out=power).astype(np.float32)

    def powers(self, sound: Sound) -> np.ndarray:
        """(bands, frames) mel power, float64. Frames are made in blocks: beside it a long recording needs no memory."""
        filters = mel_filters(self.rate, self.size, self.bands, self.low, self.top)
        window, block = _hann(self.length, self.size), max(1, _HELD // max(self.size, self.step))
        frames = self._kept(sound)[1] // self.step + 1
        found = np.empty((self.bands, frames))
        for first in range(0, frames, block):
            last = min(first + block, frames)
            start = first * self.step - self.size // 2
            samples = self._at_rate(sound, start, start + (last - first - 1) * self.step + self.size)
            parts = np.lib.stride_tricks.sliding_window_view(samples, self.size)[:: self.step]
            found[:, first:last] = filters @ (np.abs(np.fft.rfft(parts * window, axis=1)) ** 2).T
        return found

    def _kept(self, sound: Sound) -> tuple[int, int, int]:
        """At `rate`: the first sample that is kept, how many the picture shows, and how many of those there are."""
        length = -(-len(sound.samples) * self.rate // sound.rate)
        wanted = max(1, round(self.seconds * self.rate)) if self.seconds else length
        first = max(0, length - wanted) // 2
        return first, wanted, min(wanted, length - first)

    def _at_rate(self, sound: Sound, start: int, stop: int) -> np.ndarray:
        """float64 samples from `start` to `stop` of those kept, at `rate`; silence before the first and after the last.

        They are those of the whole recording resampled: it is cut at a whole number of the filter's steps, and the
        filter sees as far beyond both ends as it reaches.
        """
        from scipy.signal import resample_poly

        first, _, there = self._kept(sound)
        inner = max(start, 0), max(0, min(stop, there))
        found = np.zeros(stop - start)
        if inner[0] >= inner[1]:
            return found
        into = found[inner[0] - start : inner[1] - start]
        begin, end = first + inner[0], first + inner[1]
        common = math.gcd(sound.rate, self.rate)
        up, down = self.rate // common, sound.rate // common
        if up == down:
            into[:] = sound.samples[begin:end]
            return found
        reach = -(-_REACH * max(up, down) // up)
        lead = max(0, begin * down // up - reach) // down
        samples = sound.samples[lead * down : end * down // up + reach + 1].astype(np.float64)
        into[:] = resample_poly(samples, up, down)[begin - lead * up : end - lead * up]
        return found


@dataclass(frozen=True)
class AudioReader:
    """Recordings into (in_chans, height, width) float32. Floating arrays and tensors pass unchanged.

    Args:
        preprocessing: of kind "audio"; `extra` as `LogMel` says, the other fields as for pictures.
        in_chans: channels of the network.
    """

    preprocessing: Preprocessing
    in_chans: int = 3
    shorter: int | None = None
    log_mel: LogMel = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "log_mel", LogMel.of(self.preprocessing.extra))

    def __call__(self, raw: Any) -> Tensor | tuple[Tensor, ...]:
        if not isinstance(raw, Sound):
            if isinstance(raw, Image.Image) or str(getattr(raw, "dtype", "")).endswith("uint8"):
                raise DataError("a picture, where a recording is expected", hint="Give wav, flac or ogg files.")
            return tuple(ready(part) for part in raw) if isinstance(raw, tuple) else ready(raw)
        _, height, width = self.preprocessing.input_size
        picture = Image.fromarray(self.log_mel(raw)[::-1].copy())
        pixels = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
        mean, std = (per_channel(values, self.in_chans) for values in (self.preprocessing.mean, self.preprocessing.std))
        return torch.from_numpy((pixels[None] - mean) / std)

    def describe(self) -> dict[str, Any]:
        """See `zoo.data.preprocess.Reader`."""
        found = {one.name: getattr(self.log_mel, one.name) for one in fields(LogMel)}
        return {**describe(self.preprocessing), "extra": found, "in_chans": self.in_chans}


@functools.lru_cache(maxsize=8)
def mel_filters(rate: int, size: int, bands: int, low: float, high: float) -> np.ndarray:
    """(bands, size / 2 + 1) triangles of unit area on Slaney's mel scale, as `librosa.filters.mel` makes them."""
    edges = _to_hz(np.linspace(_to_mel(low), _to_mel(high), bands + 2))
    bins = np.fft.rfftfreq(size, 1 / rate)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    return np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None]


def _to_mel(hz: float) -> float:
    return hz / _LINEAR if hz < _KNEE else _KNEE / _LINEAR + math.log(hz / _KNEE) / _STEP


def _to_hz(mel: np.ndarray) -> np.ndarray:
    knee = _KNEE / _LINEAR
    return np.where(mel < knee, mel * _LINEAR, _KNEE * np.exp(_STEP * (mel - knee)))


@functools.lru_cache(maxsize=8)
def _hann(length: int, size: int) -> np.ndarray:
    """A periodic Hann window of `length`, in the middle of `size`."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    left = (size - length) // 2
    return np.pad(window, (left, size - length - left))

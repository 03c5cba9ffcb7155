"""Recordings as log-mel pictures, so that every image backbone can hear.

One channel at `rate`; power of a short-time Fourier transform (a periodic Hann `window`, every `hop`, frames centred,
zeros beyond both ends); `bands` triangles on Slaney's mel scale between `low` and `high`, each of unit area; decibels
below the loudest cell, cut at `range_db`, scaled to [0, 1]. That is librosa's `power_to_db(melspectrogram(y), ref=max)`
with `n_mels`, `win_length`, `hop_length` and `n_fft` said, and `pad_mode="constant"`. The picture, low tones at the
bottom, is resized to the network's input size; the pixels then go the way of any picture: repeated over the channels,
less the mean, by the standard deviation.
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
from zoo.data.sound import Sound
from zoo.errors import DataError, UsageError

#: Power below which there is silence, as in librosa.
_SILENCE: Final = 1e-10
#: Slaney's mel scale (Auditory Toolbox, 1998): linear below 1 kHz, then 27 steps of equal ratio to 6.4 kHz.
_LINEAR: Final = 200 / 3
_KNEE: Final = 1000.0
_STEP: Final = math.log(6.4) / 27


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
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise UsageError(f"audio preprocessing: {key} is {value!r}", hint="Give a number from 0.")
        made = cls(**given)
        if not (made.rate >= 1000 and made.window > 0 and made.hop > 0 and made.bands >= 1 and made.range_db > 0):
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
        """(bands, frames) float32 in [0, 1]; row 0 is the lowest band."""
        power = self.powers(sound)
        decibels = 10 * np.log10(np.maximum(power, _SILENCE))
        return np.clip(1 + (decibels - decibels.max()) / self.range_db, 0, 1).astype(np.float32)

    def powers(self, sound: Sound) -> np.ndarray:
        """(bands, frames) mel power, float64."""
        samples = self._at_rate(sound)
        padded = np.pad(samples, self.size // 2)
        frames = np.lib.stride_tricks.sliding_window_view(padded, self.size)[:: self.step]
        spectrum = np.fft.rfft(frames * _hann(self.length, self.size), axis=1)
        return mel_filters(self.rate, self.size, self.bands, self.low, self.top) @ (np.abs(spectrum) ** 2).T

    def _at_rate(self, sound: Sound) -> np.ndarray:
        from scipy.signal import resample_poly

        samples = sound.samples.astype(np.float64)
        if sound.rate != self.rate:
            common = math.gcd(sound.rate, self.rate)
            samples = resample_poly(samples, self.rate // common, sound.rate // common)
        if self.seconds:
            wanted = max(1, round(self.seconds * self.rate))
            start = max(0, len(samples) - wanted) // 2
            samples = np.pad(samples[start : start + wanted], (0, max(0, wanted - len(samples))))
        return samples


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

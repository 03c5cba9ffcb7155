"""Recordings: files decoded by libsndfile (the optional package `soundfile`)."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from zoo.errors import DataError, UsageError

#: File endings taken for recordings when a folder is read.
SUFFIXES: Final = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff"})


@dataclass(frozen=True, eq=False)
class Sound:
    """One recording.

    Attributes:
        samples: (n,) float32, channels averaged; full scale is 1.
        rate: samples a second.
    """

    samples: np.ndarray
    rate: int

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.samples) / self.rate


class SoundFormat:
    """See `zoo.data.files.Format`."""

    kind = "audio"
    noun = "recording"
    nouns = "recordings"
    suffixes = SUFFIXES

    @property
    def version(self) -> str:
        """Of soundfile and of the libsndfile that it uses."""
        found = _soundfile()
        return f"{found.__version__} {found.__libsndfile_version__}"

    def decode(self, content: bytes, shorter: int | None = None) -> Sound:
        """The whole recording; several channels become their mean.

        Raises:
            DataError: it is empty, or holds numbers that are not finite.
            Exception: what soundfile raises for a file that it cannot read.
        """
        samples, rate = _soundfile().read(io.BytesIO(content), dtype="float32", always_2d=True)
        if reason := _problem(samples):
            raise DataError(reason)
        return Sound(samples.mean(axis=1, dtype=np.float32), int(rate))

    def problem(self, content: bytes) -> str:
        """Why it is no recording."""
        library = _soundfile()
        try:
            return _problem(library.read(io.BytesIO(content), dtype="float32", always_2d=True)[0])
        except library.LibsndfileError as error:
            return error.error_string.rstrip(".")


SOUND: Final = SoundFormat()


def _problem(samples: np.ndarray) -> str:
    if not len(samples):
        return "no sound at all: its length is zero"
    return "" if np.isfinite(samples).all() else "NaN or infinite samples"


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: libsndfile itself is absent
        raise UsageError(
            "recordings need the package soundfile",
            why=str(error),
            hint="Install it: pip install 'transfer-zoo[audio]'.",
        ) from error
    return soundfile

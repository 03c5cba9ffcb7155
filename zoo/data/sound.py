"""Recordings: files decoded by libsndfile (the optional package `soundfile`)."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from zoo.errors import DataError, UsageError

#: File endings taken for recordings when a folder is read.
SUFFIXES: Final = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff"})
#: Least and most samples a second: a header that says another rate would ask for any amount of memory.
RATES: Final = (1_000, 768_000)

#: Counts the changes of what is refused, so that files proved before are proved again.
_DEMANDS: Final = 2
#: Outer name -> name of the chunk of samples, and the order of a size's bytes. RF64 counts its data elsewhere.
_CHUNKS: Final[dict[bytes, tuple[bytes, Literal["little", "big"]]]] = {
    b"RIFF": (b"data", "little"),
    b"RIFX": (b"data", "big"),
    b"FORM": (b"SSND", "big"),
}
#: Sizes from here on, and 0, say nothing: who writes to a pipe puts 0, 2^31 less a header, or 2^32 - 1 there.
_UNSAID: Final = 0x7FFF_0000
#: Bytes by which outer sizes of whole files are off: the size of the header counted too, a last byte of padding.
_SLACK: Final = 9


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
        """Of soundfile, of the libsndfile that it uses, and of what this module asks of a recording."""
        found = _soundfile()
        return f"{found.__version__} {found.__libsndfile_version__} {_DEMANDS}"

    def decode(self, content: bytes, shorter: int | None = None) -> Sound:
        """The whole recording; several channels become their mean.

        Raises:
            DataError: it is empty, cut short, of a rate out of `RATES`, or holds numbers that are not finite.
            Exception: what soundfile raises for a file that it cannot read.
        """
        with _soundfile().SoundFile(io.BytesIO(content)) as file:
            rate = int(file.samplerate)
            if not RATES[0] <= rate <= RATES[1]:
                raise DataError(f"{rate} samples a second, where {RATES[0]} to {RATES[1]} are understood")
            if reason := _cut_short(content):
                raise DataError(reason)
            channels = file.read(dtype="float32", always_2d=True)
        if not len(channels):
            raise DataError("no sound at all: its length is zero")
        with np.errstate(invalid="ignore"):  # infinities of both signs
            samples = channels.mean(axis=1, dtype=np.float64).astype(np.float32)
        if not np.isfinite(samples).all():
            raise DataError("NaN or infinite samples")
        return Sound(samples, rate)

    def problem(self, content: bytes) -> str:
        """Why it is no recording."""
        library = _soundfile()
        try:
            self.decode(content)
        except DataError as error:
            return error.message
        except library.LibsndfileError as error:
            return error.error_string.rstrip(".")
        return ""


SOUND: Final = SoundFormat()


def _cut_short(content: bytes) -> str:
    """Why the bytes are less than their header says; empty where they are all there, or where nothing says how many."""
    if content[:4] in _CHUNKS and content[8:12] in (b"WAVE", b"AIFF", b"AIFC"):
        return _cut_chunks(content)
    return _cut_mpeg(content)


def _cut_chunks(content: bytes) -> str:
    """Of RIFF/WAVE and FORM/AIFF: chunks of a name of four letters, a size of four bytes, and so many bytes."""
    wanted, order = _CHUNKS[content[:4]]
    at = 12
    while at + 8 <= len(content):
        name, size = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], order)
        at += 8
        if name == wanted:
            if 0 < size < _UNSAID and at + size > len(content):
                return f"cut short: {len(content) - at} of {size} bytes of sound"
            break
        at += size + size % 2
    whole = int.from_bytes(content[4:8], order) + 8
    if 8 < whole < _UNSAID and whole > len(content) + _SLACK:
        return f"cut short: {len(content)} of {whole} bytes"
    return ""


def _cut_mpeg(content: bytes) -> str:
    """Of MP3 whose first frame, after an ID3v2 tag, is a Xing or Info frame that counts bytes."""
    start = 0
    if content[:3] == b"ID3":
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(content[6:10], (21, 14, 7, 0), strict=True))
    if content[start : start + 1] != b"\xff":
        return ""
    for offset in (13, 21, 36):  # mono of MPEG 2, stereo of it or mono of MPEG 1, stereo of that
        head = content[start + offset : start + offset + 16]
        flags = int.from_bytes(head[4:8], "big")
        if head[:4] in (b"Xing", b"Info") and len(head) == 16 and flags & 2:
            at = 12 if flags & 1 else 8
            size = int.from_bytes(head[at : at + 4], "big")
            if start + size > len(content):
                return f"cut short: {len(content) - start} of {size} bytes of sound"
    return ""


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

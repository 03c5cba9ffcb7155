"""Picture files: decode to upright RGB or L, and prove that they can be read."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from zoo.data.dataset import Samples, Unreadable
from zoo.data.fingerprint import of_bytes
from zoo.errors import DataError
from zoo.settings import Settings

#: File endings taken for pictures when a folder is read.
SUFFIXES: Final = frozenset({
    ".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm",
    ".tga", ".jp2", ".avif",
})  # fmt: skip
#: A JPEG is decoded at reduced size only where it stays at least this many times larger than what is needed, so that
#: the resize that follows still filters.
REDUCING_GAP: Final = 2


class EncodedSamples(Samples):
    """Pictures as the bytes of files; `verify` proves them and keeps their digests."""

    encoded = True

    def __init__(self) -> None:
        self._digests: dict[int, str] = {}

    def content(self, row: int) -> bytes:
        """The file's bytes."""
        raise TypeError(f"{type(self).__name__} must give the bytes of its files")

    def raw(self, row: int, shorter: int | None = None) -> Image.Image:
        content = self.content(row)
        found = of_bytes(content)
        # Features are filed under the digest: those of another content must not be.
        if self._digests.setdefault(row, found) != found:
            raise DataError("the file changed after the data were opened", hint="Open the data again.")
        return decode(content, shorter)

    def digest(self, row: int) -> str:
        if row not in self._digests:
            self._digests[row] = of_bytes(self.content(row))
        return self._digests[row]

    def verify(self, rows: Sequence[int] | None = None) -> list[tuple[int, Unreadable]]:
        """Read every file (of these rows) once: its sha256, and whether it decodes to the last byte.

        JPEGs are decoded at an eighth of their size, which still reads all of the compressed data: 0.4 ms a photo of
        256 px, against 1 ms in full.

        Returns:
            The unreadable ones: row, where and why.
        """
        rows = range(len(self)) if rows is None else rows
        with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 1)) as pool:
            reasons = list(pool.map(self._problem, rows))
        found = zip(rows, reasons, strict=True)
        return [(row, Unreadable(self.location(row), reason)) for row, reason in found if reason]

    def _problem(self, row: int) -> str:
        try:
            content = self.content(row)
            self._digests[row] = of_bytes(content)
            with Image.open(io.BytesIO(content)) as image:
                image.draft(None, (1, 1))
                image.load()
                return "floating-point pixels" if image.mode == "F" else ""
        # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, IndexError ... on hostile bytes.
        except Exception as error:
            return _reason(error)


class FileSamples(EncodedSamples):
    """Picture files.

    Args:
        paths: absolute paths.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        super().__init__()
        self._paths = list(paths)

    def __len__(self) -> int:
        return len(self._paths)

    def content(self, row: int) -> bytes:
        return self._paths[row].read_bytes()

    def verify(self, rows: Sequence[int] | None = None) -> list[tuple[int, Unreadable]]:
        """As for all encoded samples; of many files, those unchanged since they were proved are not read again."""
        from zoo.data.seen import LEAST, SeenFiles, stamps_of

        if rows is not None or len(self) < LEAST:
            return super().verify(rows)
        seen, stamps = SeenFiles(Settings()), stamps_of(self._paths)
        known = seen.known(stamps)
        self._digests |= {row: known[str(p)] for row, p in enumerate(self._paths) if str(p) in known}
        new = [row for row, path in enumerate(self._paths) if str(path) not in known]
        bad = super().verify(new)
        unread = {row for row, _ in bad}
        paths = {row: str(self._paths[row]) for row in new if row not in unread}
        seen.note(stamps, {path: self._digests[row] for row, path in paths.items() if path in stamps})
        return bad

    def location(self, row: int) -> str:
        return str(self._paths[row])

    def path(self, row: int) -> Path:
        return self._paths[row]


def decode(content: bytes, shorter: int | None = None) -> Image.Image:
    """Open a picture: first frame, upright (EXIF), RGB or L.

    Transparency is dropped, as torchvision and timm drop it; 16-bit grey keeps its upper byte.

    Args:
        content: the bytes of a file.
        shorter: the shorter side it will be resized to. A JPEG at least four times as large is decoded at a half, a
            quarter or an eighth of its size, never below twice `shorter`.

    Raises:
        DataError: floating-point pixels.
        Exception: whatever Pillow raises for a file that it cannot read.
    """
    with Image.open(io.BytesIO(content)) as image:
        if shorter:
            scale = REDUCING_GAP * shorter / min(image.size)
            image.draft(None, (max(1, int(image.width * scale)), max(1, int(image.height * scale))))
        image.load()
        return upright(image)


def upright(image: Image.Image) -> Image.Image:
    """Turn a picture as its EXIF orientation says, and make it RGB or L."""
    if image.getexif().get(0x0112, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode in ("RGB", "L"):
        return image
    if image.mode == "F":
        raise DataError(
            "floating-point pixels have no known range", hint="Scale them to 8 bits, or give arrays instead of files."
        )
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")
    return image.convert("L" if image.mode in ("1", "LA", "La") else "RGB")


def refuse_unreadable(bad: Sequence[Unreadable], total: int) -> None:
    """Raise `DataError` that lists the first ten unreadable files, if there are any."""
    if not bad:
        return
    listed = "\n".join(f"  {one.location}: {one.reason}" for one in bad[:10])
    more = f"\n  ... and {len(bad) - 10} more" if len(bad) > 10 else ""
    raise DataError(
        f"{len(bad)} of {total} images cannot be read",
        why=listed + more,
        hint="Mend or remove them, or leave them out with --skip-bad (skip_bad=True in Python).",
    )


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__

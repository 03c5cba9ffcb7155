"""Text in bytes: UTF-8, and what to do about other bytes."""

from __future__ import annotations

import codecs
from typing import Final

from zoo.errors import DataError

#: File endings taken for texts when a folder is read.
SUFFIXES: Final = frozenset({".txt"})
_MARKS: Final = {codecs.BOM_UTF16_LE: "UTF-16LE", codecs.BOM_UTF16_BE: "UTF-16BE"}


def decode(content: bytes) -> str:
    """Text of UTF-8 bytes; a byte order mark is dropped.

    Raises:
        DataError: other bytes; the message names the first of them, its place and its line, the hint a way out.
    """
    if content[:2] in _MARKS:
        raise DataError(f"not UTF-8, but {_MARKS[content[:2]][:-2]}", hint=_way_out(_MARKS[content[:2]]))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = error.start + len(content) - len(error.object)  # without the mark, positions count from behind it
        line = content.count(b"\n", 0, at) + 1
        raise DataError(
            f"not UTF-8: byte 0x{content[at]:02x} at position {at:,}, in line {line}", hint=_way_out("WINDOWS-1252")
        ) from error


def _way_out(encoding: str) -> str:
    kind = "If it was written" if encoding == "WINDOWS-1252" else "It was written"
    return f"Save it in UTF-8. {kind} in {encoding}: iconv -f {encoding} -t UTF-8 FILE > NEW."


class TextFormat:
    """See `zoo.data.files.Format`."""

    kind = "text"
    noun = "text"
    nouns = "texts"
    suffixes = SUFFIXES
    version = "1"

    def decode(self, content: bytes, shorter: int | None = None) -> str:
        """The text."""
        return decode(content)

    def problem(self, content: bytes) -> str:
        """Why it is none."""
        try:
            return "" if decode(content).strip() else "the text is empty"
        except DataError as error:
            return error.message


TEXT: Final = TextFormat()

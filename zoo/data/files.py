"""Samples that are files: their formats, their bytes, and the proof that they can be read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Protocol

from zoo.data.dataset import Samples, Unreadable
from zoo.data.fingerprint import of_bytes
from zoo.data.images import PICTURE
from zoo.data.sound import SOUND
from zoo.data.utf8 import TEXT
from zoo.errors import DataError
from zoo.settings import Settings


class Format(Protocol):
    """One kind of file. `kind` is the reader's, `noun` and `nouns` are people's words for it."""

    kind: str
    noun: str
    nouns: str
    suffixes: frozenset[str]

    @property
    def version(self) -> str:
        """Of the library that decodes; another one proves files anew."""
        ...

    def decode(self, content: bytes, shorter: int | None = None) -> Any:
        """The raw sample; `shorter` as in `Samples.raw`.

        Raises:
            Exception: whatever the library raises for bytes that it cannot read.
        """
        ...

    def problem(self, content: bytes) -> str:
        """Why the bytes are no sample; empty where they are. Raises whatever the library raises."""
        ...


#: What a folder is searched for.
FORMATS: Final[tuple[Format, ...]] = (PICTURE, SOUND, TEXT)
_BY_SUFFIX: Final = {suffix: one for one in FORMATS for suffix in one.suffixes}


def format_of(paths: Iterable[Path], where: str) -> Format:
    """The one format of some files; of a suffix that nobody knows it is taken to be a picture.

    Raises:
        DataError: they are of several.
    """
    first: dict[str, tuple[Format, Path]] = {}
    for path in paths:
        one = _BY_SUFFIX.get(path.suffix.lower(), PICTURE)
        first.setdefault(one.kind, (one, path))
    if len(first) > 1:
        said = "; ".join(f"{path} is {one.kind}" for one, path in first.values())
        raise DataError(f"{where} holds files of several kinds", why=said, hint="Give one kind of sample at a time.")
    return next(iter(first.values()))[0] if first else PICTURE


def is_sample(name: str) -> bool:
    """Whether a file of this name is of a known format."""
    return os.path.splitext(name)[1].lower() in _BY_SUFFIX


def without_notes(paths: Sequence[Path], kind: str | None) -> list[Path]:
    """The texts alone where texts are asked for; else, among pictures or recordings, no texts: they are notes there."""
    texts = {path for path in paths if path.suffix.lower() in TEXT.suffixes}
    if not texts or len(texts) == len(paths):
        return list(paths)
    return [path for path in paths if (path in texts) == (kind == TEXT.kind)]


def sample_files(root: Path) -> Iterator[Path]:
    """Every file of a known format under a folder, sorted; hidden files and folders are passed over."""
    for folder, inner, files in os.walk(root, followlinks=True):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and is_sample(name):
                yield Path(folder, name)


class EncodedSamples(Samples):
    """Samples as the bytes of files; `verify` proves them and keeps their digests."""

    encoded = True

    def __init__(self, format: Format = PICTURE) -> None:
        self.format = format
        self.kind = format.kind
        self.noun, self.nouns = format.noun, format.nouns
        self._digests: dict[int, str] = {}

    def content(self, row: int) -> bytes:
        """The file's bytes."""
        raise TypeError(f"{type(self).__name__} must give the bytes of its files")

    def raw(self, row: int, shorter: int | None = None) -> Any:
        content = self.content(row)
        found = of_bytes(content)
        # Features are filed under the digest: those of another content must not be.
        if self._digests.setdefault(row, found) != found:
            raise DataError("the file changed after the data were opened", hint="Open the data again.")
        return self.format.decode(content, shorter)

    def digest(self, row: int) -> str:
        if row not in self._digests:
            self._digests[row] = of_bytes(self.content(row))
        return self._digests[row]

    def verify(self, rows: Sequence[int] | None = None) -> list[tuple[int, Unreadable]]:
        """Read every file (of these rows) once: its sha256, and whether it decodes to the last byte.

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
            return self.format.problem(content)
        # Decoders raise OSError, SyntaxError, ValueError, struct.error, IndexError ... on hostile bytes.
        except Exception as error:
            return _reason(error)


class FileSamples(EncodedSamples):
    """Files of one format.

    Args:
        paths: absolute paths.
        where: what holds them, for messages.

    Raises:
        DataError: the files are of several formats.
    """

    def __init__(self, paths: Sequence[Path], where: str = "the data") -> None:
        super().__init__(format_of(paths, where))
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
        seen, stamps = SeenFiles(Settings(), self.format.version), stamps_of(self._paths)
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


def refuse_unreadable(bad: Sequence[Unreadable], total: int, nouns: str = PICTURE.nouns) -> None:
    """Raise `DataError` that lists the first ten unreadable files, if there are any."""
    if not bad:
        return
    listed = "\n".join(f"  {one.location}: {one.reason}" for one in bad[:10])
    more = f"\n  ... and {len(bad) - 10} more" if len(bad) > 10 else ""
    raise DataError(
        f"{len(bad)} of {total} {nouns} cannot be read",
        why=listed + more,
        hint="Mend or remove them, or leave them out with --skip-bad (skip_bad=True in Python).",
    )


def _reason(error: Exception) -> str:
    if isinstance(error, DataError):
        return error.message
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__

"""Strings that would like to be a path, an address or a header elsewhere, and a watch that sees who believed them.

with watched(home) as escaped:
    for string in strings():
        ...                                # give it to the code as a file name, a commit, an ETag
assert escaped == []
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

_UP = ("..", "../", "..\\", "....//", "..;/", "%2e%2e/", "%2e%2e%2f", "..%2f", "..%5c", "%252e%252e%252f", "..%c0%af")
_TARGETS = ("etc/passwd", "x", ".ssh/authorized_keys", "zoo.lock", "registry.toml", "blobs/sha256/aa/x.safetensors")
_HASH, _COMMIT = "a" * 64, "b" * 40


def strings() -> list[str]:
    """More than 200 of them, each once; none holds a line break."""
    found = [up * depth + target for up in _UP for depth in (1, 12) for target in _TARGETS[:4]]
    found += [f"/{target}" for target in _TARGETS] + [f"//{target}" for target in _TARGETS]
    found += [f"~/{target}" for target in _TARGETS] + [f"file:///{target}" for target in _TARGETS]
    found += [f"{sound}{tail}" for sound in (_HASH, _COMMIT) for tail in TAILS]
    found += [f"{head}{sound}" for sound in (_HASH, _COMMIT) for head in HEADS]
    found += [
        "", " ", ".", "..", "/", "\\", "-", "--", "~", "*", "?", "%00", "%0a", "CON", "NUL", "aux.txt", "C:", "C:\\x",
        "C:/x", "\\\\host\\share\\x", "\\\\?\\C:\\x", "//host/share", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "b" * 39,
        "b" * 41, "B" * 40, "a" * 5000, "../" * 1500, "${HOME}", "$(id)", "`id`", "|id", ";id", "&&id", "%s%s%n", "{0}",
        "refs/heads/../../x", ".git/config", "..git", "a..b/../..", "x/./../..", "x/%2e%2e", "model.safetensors/..",
        "model.safetensors/", "model.safetensors.", "model.safetensors ", "model.safetensors:stream", "a\tb", "a\x0bb",
        "a\x7fb", "a\x1bb[2J", "W/", 'W/"', '"', '""', "'", "\u00e9", "\u00a0", "\u00ad", "http://127.0.0.1:9/x",
        "http://127.0.0.2/x", "https://user:secret@127.0.0.1:9/x", "ftp://127.0.0.1:9/x", "gopher://x", "data:,x",
        "javascript:x", "http:", "http:///x", "http://", "//", "///", "https:x", "HTTP://127.0.0.1:9/x", "http:/x",
        "http://[::1]:9/x", "http://0/x", "http://2130706433/x", "http://127.1:9/x", "\\\\127.0.0.1\\x", "/\\127.0.0.1",
    ]  # fmt: skip
    return list(dict.fromkeys(found))


TAILS = ("/", "/..", "/../x", "\\..\\x", ".lock", ".part", "%00", "\x00", " ", "?x", "#x", "/../../zoo.lock", ":x", "~")
HEADS = ("../", "/", "./", "~", "\\", "x/", "file:", "..%2f", "sha256:", "-", " ", "\t", "refs/", "%2f")


_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES: Final = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate"}

#: What is told of every change of the disk that Python makes; None = nobody.
_told: Callable[[str], None] | None = None
_hooked = False


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if _told is None:
        return
    if event == "open" and isinstance(args[0], str | bytes) and args[2] & _WRITING:
        _told(os.fsdecode(args[0]))
    elif event in _CHANGES:
        for path in args[:2] if event in ("os.rename", "os.link") else args[:1]:
            _told(os.fsdecode(path))


@contextmanager
def watched(home: Path) -> Iterator[list[str]]:
    """Gives the list of paths outside `home` that something was written to."""
    global _told, _hooked
    escaped: list[str] = []
    inside = os.path.realpath(home)

    def told(path: str) -> None:
        where = os.path.realpath(path)
        if where != inside and not where.startswith(inside + os.sep) and where != os.devnull:
            escaped.append(path)

    if not _hooked:
        sys.addaudithook(_audit)  # it stays, and does nothing while `_told` is None
        _hooked = True
    _told = told
    try:
        yield escaped
    finally:
        _told = None

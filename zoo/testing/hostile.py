"""Strings that would like to be a path, an address or a header elsewhere."""

from __future__ import annotations

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

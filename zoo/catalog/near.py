"""Near-miss suggestions: what a person probably meant."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, words: Iterable[str], n: int = 3) -> list[str]:
    """The names in `words` that look most like `word`, best first.

    Case and the difference between `-` and `_` do not count. Names that begin with `word` follow the similar ones.

    Args:
        word: what was written.
        words: what there is.
        n: how many at most.
    """
    import difflib

    wanted = plain(word)
    written: dict[str, str] = {}
    for name in words:
        written.setdefault(plain(name), name)
    found = difflib.get_close_matches(wanted, written, n=n, cutoff=0.65)
    if wanted and len(found) < n:
        longer = sorted((name for name in written if name.startswith(wanted) and name not in found), key=_short_first)
        found += longer[: n - len(found)]
    return [written[name] for name in found]


def did_you_mean(word: str, words: Iterable[str], n: int = 3) -> str | None:
    """`Did you mean a, b or c?`, or None when nothing is near."""
    found = nearest(word, words, n)
    if not found:
        return None
    *first, last = found
    return f"Did you mean {', '.join(first)} or {last}?" if first else f"Did you mean {last}?"


def plain(name: str) -> str:
    """The form in which two spellings of one name are equal."""
    return name.casefold().replace("-", "_")


def _short_first(name: str) -> tuple[int, str]:
    return len(name), name

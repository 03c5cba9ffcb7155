"""The built-in data sets by name."""

from __future__ import annotations

from typing import Final

from zoo.data.assemble import Rows
from zoo.errors import UsageError

#: Names `open_data` knows without a path.
NAMES: Final = ("digits", "glyphs")


def is_builtin(name: str) -> bool:
    """Whether it names a built-in set: "digits", "glyphs", or "glyphs:2000" (that many training images)."""
    return name.partition(":")[0] in NAMES


def read_builtin(name: str) -> Rows:
    """Read a built-in set.

    Raises:
        UsageError: a count that is not one.
    """
    base, _, count = name.partition(":")
    if base == "digits":
        if count:
            raise UsageError("digits has a fixed size", hint="Write 'digits' alone.")
        from zoo.data.digits import read_digits

        return read_digits()
    from zoo.data import glyphs

    if ":" in name and not (count.isdecimal() and int(count) >= 10):
        raise UsageError(f"{name!r}: {count!r} is no number of images", hint="Write 'glyphs:2000'; at least 10.")
    return glyphs.read_glyphs(int(count) if count else glyphs.TRAIN_IMAGES)

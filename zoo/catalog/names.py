"""The grammar of names.

    arch                 an architecture              resnet18
    arch.tag             its weights                  resnet18.tv_in1k   (the tag may hold dots, the arch may not)
    plugin/arch[.tag]    as one plugin offers it      timm/resnet18.tv_in1k

What ends in `.safetensors` or starts with `.`, `/` or `~` is a path; anything else is a name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from zoo.catalog.spec import NAME, TAG
from zoo.errors import UsageError

_DIGITS: Final = re.compile(r"(\d+)")
_MAGIC: Final = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Name:
    """A parsed name; `plugin` and `tag` are None where they were not written."""

    arch: str
    tag: str | None = None
    plugin: str | None = None

    def __str__(self) -> str:
        name = f"{self.plugin}/{self.arch}" if self.plugin else self.arch
        return f"{name}.{self.tag}" if self.tag else name


def expect_text(name: object) -> None:
    """Raise `UsageError` for a name that is no string."""
    if not isinstance(name, str):
        raise UsageError(f"a name must be a string, not {type(name).__name__}")


def parse(name: str) -> Name:
    """Take a name apart.

    Raises:
        UsageError: it is not a name (a path is not one either).
    """
    expect_text(name)
    if is_path(name):
        raise UsageError(f"{name!r} is a path, where a name is expected", hint="A name reads [plugin/]arch[.tag].")
    plugin, slash, rest = name.rpartition("/")
    arch, dot, tag = rest.partition(".")
    if (
        (slash and not NAME.fullmatch(plugin))
        or not NAME.fullmatch(arch)
        or (dot and not TAG.fullmatch(tag))
    ):  # fmt: skip
        raise UsageError(
            f"{name!r} is not a name",
            why="A name reads [plugin/]arch[.tag], in letters, digits, '_' and '-'; the tag may hold dots.",
            hint="A path to a weights file ends in .safetensors or starts with '.', '/' or '~'.",
        )
    return Name(arch, tag if dot else None, plugin if slash else None)


def is_path(name: str) -> bool:
    """Whether `name` is a path to a file rather than a name."""
    return name.endswith(".safetensors") or name.startswith((".", "/", "~"))


def is_glob(pattern: str) -> bool:
    """Whether `pattern` holds any of `*`, `?` and `[`."""
    return _MAGIC.search(pattern) is not None


def literal(pattern: str) -> str:
    """What every name that fits `pattern` begins with."""
    return _MAGIC.split(pattern, maxsplit=1)[0]


def matcher(pattern: str) -> Callable[[str], object]:
    """A case-sensitive test by shell pattern: `*`, `?`, `[seq]`, `[!seq]`."""
    from fnmatch import translate

    return re.compile(translate(pattern)).match


def natural(name: str) -> list[str | int]:
    """A sort key by which resnet18 comes before resnet101."""
    return [int(part) if part.isdecimal() else part for part in _DIGITS.split(name)]

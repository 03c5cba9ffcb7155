"""Texts as token ids and a mask, of one length each, so that batches, caches and checkpoints know nothing of words.

`preprocessing.input_size` is `(tokens,)`: longer texts are cut there, the special tokens that the tokenizer adds at
both ends included. Shorter ones are padded at the end; a network is given the mask, and what it makes of a text must
not depend on the padding. `preprocessing.extra["tokenizer"]` names the file among the weights' own that holds the
tokenizer, in the form of the package `tokenizers` (default "tokenizer.json"); or it is "bytes": id 0 pads, 1 begins a
text, and the bytes of its UTF-8 follow, each as its number + 2 (a vocabulary of 258): no file, no package.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import torch
from torch import Tensor

from zoo.catalog.spec import Preprocessing
from zoo.catalog.tables import counted
from zoo.data.preprocess import Assets, describe, ready
from zoo.errors import DataError, IntegrityError, UsageError

if TYPE_CHECKING:
    from zoo.data.dataset import Split

#: The tokenizer's file where nothing else is said.
TOKENIZER: Final = "tokenizer.json"
#: The tokenizer that needs no file.
BYTES: Final = "bytes"
#: Ids of `BYTES` before the first byte's.
_SPECIAL: Final = 2
#: What pads where a tokenizer does not say.
_PADS: Final = ("[PAD]", "<pad>", "<|padding|>")
#: More tokens than any text backbone takes.
_MOST: Final = 1 << 20
#: Only what is shorter is looked at for having no word at all.
_BARE: Final = 64
#: Keys of `extra`.
_KEYS: Final = ("kind", "tokenizer")


@dataclass(frozen=True)
class Tokens:
    """One text, read.

    Attributes:
        ids: at most as many as the network takes.
        cut: whether the text had more.
        bare: whether nothing but special tokens is left of it.
    """

    ids: list[int]
    cut: bool
    bare: bool


@dataclass(frozen=True)
class TextReader:
    """Texts (`str`) become int64 ids (L,) and an int64 mask (L,) of ones, then zeros; tensors pass unchanged.

    Args:
        preprocessing: of kind "text"; see this module.
        assets: files of the weights, the tokenizer's among them.
    """

    preprocessing: Preprocessing
    assets: Assets = field(repr=False, compare=False)
    shorter: int | None = None
    #: What it gives are ids, each of which becomes a vector.
    embeds: ClassVar[bool] = True
    _tokenize: Callable[[str], Tokens] = field(init=False, repr=False, compare=False)
    _pad: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        size, extra = self.preprocessing.input_size, self.preprocessing.extra
        if len(size) != 1 or not 3 <= size[0] <= _MOST:
            raise UsageError(
                f"input_size {size} is no length of texts", hint="Write (tokens,), as in input_size = [256]."
            )
        if unknown := [key for key in extra if key not in _KEYS and not key.startswith("x-")]:
            raise UsageError(f"a text's preprocessing has no {unknown[0]!r}", hint=f"It has: {', '.join(_KEYS)}.")
        name = extra.get("tokenizer", TOKENIZER)
        tokenize, pad = _bytes(size[0]) if name == BYTES else self._from_file(name, size[0])
        object.__setattr__(self, "_tokenize", tokenize)
        object.__setattr__(self, "_pad", pad)

    def _from_file(self, name: str, most: int) -> tuple[Callable[[str], Tokens], int]:
        if name not in self.assets:
            raise UsageError(
                f"the network has no tokenizer: {name} did not come with its weights",
                why=f"Files here: {', '.join(self.assets) or 'none'}.",
                hint="Take weights that bring it (`zoo show BACKBONE`), put it beside a file of your own, or read "
                'texts as bytes: preprocessing = { kind = "text", input_size = [256], tokenizer = "bytes" }.',
            )
        return _from_json(self.assets[name], name, most)

    @property
    def length(self) -> int:
        """Tokens that the network is given of each text."""
        return self.preprocessing.input_size[0]

    def __call__(self, raw: Any) -> tuple[Tensor, ...]:
        """See `Reader`.

        Raises:
            DataError: it is no text.
        """
        if isinstance(raw, tuple):
            return tuple(ready(part) for part in raw)
        found = self.tokens(raw).ids
        ids, mask = np.full(self.length, self._pad, dtype=np.int64), np.zeros(self.length, dtype=np.int64)
        ids[: len(found)], mask[: len(found)] = found, 1
        return torch.from_numpy(ids), torch.from_numpy(mask)

    def tokens(self, raw: Any) -> Tokens:
        """The text's tokens, without padding.

        Raises:
            DataError: it is no text.
        """
        if not isinstance(raw, str):
            raise DataError(
                f"the network reads texts, and this is {_kind(raw)}",
                hint="Give strings: a column `text`, a list of str, or .txt files.",
            )
        try:
            raw.encode()
        except UnicodeEncodeError as error:
            raise DataError("the text is no Unicode: it has half a surrogate pair", why=str(error)[:200]) from error
        return self._tokenize(raw)

    def example(self, rows: int) -> tuple[Tensor, ...]:
        """A batch of texts of different lengths, for who records or compares a network."""
        read = [self(" ".join(["a text of some words"] * (1 + row % 5))) for row in range(rows)]
        return tuple(torch.stack(part) for part in zip(*read, strict=True))

    def order(self, split: Split) -> list[int]:
        """Positions of a split, longest texts first: those of a batch are then of one length, and padded by little."""
        return sorted(range(len(split)), key=lambda index: -len(split.raw(index)))

    def check(self, split: Split) -> list[str]:
        """What a person should know of texts before they are read: how many are cut, and of how many nothing is left.

        Raises:
            DataError: one is no text; it is named.
        """
        cut = bare = 0
        for index in range(len(split)):
            raw = split.raw(index)
            # A token is at least one byte, so that most texts need not be read to know that they are whole.
            if isinstance(raw, str) and (len(raw) < _BARE or len(raw.encode(errors="replace")) + 2 > self.length):
                try:
                    found = self.tokens(raw)
                except DataError as error:
                    raise DataError(
                        f"{split.location(index)}: {error.message}", why=error.why, hint=error.hint
                    ) from error
                cut, bare = cut + found.cut, bare + found.bare
        said = []
        if cut:
            said.append(
                f"{counted(cut, 'text')} of {len(split)} in {split.name} cut after {self.length} tokens: the network "
                "takes no more"
            )
        if bare:
            said.append(
                f"{counted(bare, 'text')} of {len(split)} in {split.name} without a word that the tokenizer knows: "
                "read as empty"
            )
        return said

    def describe(self) -> dict[str, Any]:
        """See `Reader`."""
        return describe(self.preprocessing)


def _bytes(most: int) -> tuple[Callable[[str], Tokens], int]:
    def tokenize(text: str) -> Tokens:
        content = text.encode()
        ids = [1, *(byte + _SPECIAL for byte in content[: most - 1])]
        return Tokens(ids, cut=len(content) >= most, bare=not content)

    return tokenize, 0


@functools.lru_cache(maxsize=8)  # each extraction makes a reader, and half a megabyte of JSON takes its time
def _from_json(content: bytes, name: str, most: int) -> tuple[Callable[[str], Tokens], int]:
    """From a tokenizer's file; its own cutting and padding do not count."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise UsageError(
            "texts need the package tokenizers", why=str(error), hint="Install it: pip install 'transfer-zoo[text]'."
        ) from error
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except BaseException as error:  # the library panics, which is no Exception, on some files
        if isinstance(error, (KeyboardInterrupt, SystemExit, MemoryError)):
            raise
        raise IntegrityError(
            f"{name} is no tokenizer that can be read", why=" ".join(str(error).split())[:200]
        ) from error
    padding = tokenizer.padding or {}
    pads = (tokenizer.token_to_id(token) for token in _PADS)
    pad = padding.get("pad_id", next((pad for pad in pads if pad is not None), 0))
    tokenizer.no_padding()
    tokenizer.enable_truncation(most)

    def tokenize(text: str) -> Tokens:
        found = tokenizer.encode(text)
        bare = all(found.special_tokens_mask)
        return Tokens(found.ids or [pad], cut=bool(found.overflowing), bare=bare)

    return tokenize, int(pad)


def _kind(raw: Any) -> str:
    return f"{type(raw).__module__}.{type(raw).__name__}".removeprefix("builtins.")

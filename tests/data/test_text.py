"""Texts become ids and a mask: cut, padded, and never without a word about it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from zoo.catalog.spec import Preprocessing
from zoo.data.dataset import Samples, Split
from zoo.data.preprocess import Reader, reader
from zoo.data.text import TextReader
from zoo.errors import DataError, IntegrityError, UsageError


def by_bytes(tokens: int = 16) -> Reader:
    return reader(Preprocessing(kind="text", input_size=(tokens,), extra={"tokenizer": "bytes"}))


def by_words(content: bytes, tokens: int = 12) -> TextReader:
    found = reader(Preprocessing(kind="text", input_size=(tokens,)), 3, {"tokenizer.json": content})
    assert isinstance(found, TextReader)
    return found


class Texts(Samples):
    """Texts in memory."""

    kind = "text"

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def __len__(self) -> int:
        return len(self.texts)

    def raw(self, row: int, shorter: int | None = None) -> str:
        return self.texts[row]


def split(texts: list[str]) -> Split:
    return Split("train", Texts(texts), np.arange(len(texts)))


def test_bytes_need_no_file() -> None:
    ids, mask = by_bytes()("ab é")
    assert ids.tolist() == [1, 99, 100, 34, 0xC3 + 2, 0xA9 + 2, *[0] * 10]
    assert mask.tolist() == [1] * 6 + [0] * 10
    assert ids.dtype == mask.dtype == torch.int64


@given(some.text(max_size=30))
def test_bytes_of_any_text(text: str) -> None:
    try:
        content = text.encode()
    except UnicodeEncodeError:
        return
    ids, mask = by_bytes(16)(text)
    used = int(mask.sum())
    assert used == min(16, len(content) + 1)
    assert mask[:used].all()
    assert bytes((ids[1:used] - 2).tolist()) == content[:15]
    assert not ids[used:].any()


def test_words_are_those_of_the_tokenizer(tokenizer_json: bytes) -> None:
    from tokenizers import Tokenizer

    oracle = Tokenizer.from_str(tokenizer_json.decode())
    oracle.no_padding()
    oracle.no_truncation()
    for text in ("The FILM was not bad!", "never again", "a" * 30, "good " * 3):
        ids, mask = by_words(tokenizer_json, 40)(text)
        expected = oracle.encode(text).ids
        assert ids[: len(expected)].tolist() == expected
        assert int(mask.sum()) == len(expected)


def test_long_texts_are_cut_where_the_network_ends(tokenizer_json: bytes) -> None:
    read = by_words(tokenizer_json, 12)
    ids, mask = read("good " * 20_000)
    assert mask.all()
    assert ids.tolist() == [2, *[ids[1].item()] * 10, 3]  # the special tokens at both ends stay
    assert read.check(split(["good", "good " * 20_000, "bad " * 11])) == [
        "2 texts of 3 in train cut after 12 tokens: the network takes no more"
    ]
    assert read.check(split(["good", "bad " * 10])) == []


@pytest.mark.parametrize("text", ["", "   ", "\0\0", "\u200b"])
def test_what_holds_no_word_is_read_as_empty_and_said(text: str, tokenizer_json: bytes) -> None:
    read = by_words(tokenizer_json)
    ids, mask = read(text)
    assert ids[:2].tolist() == [2, 3]
    assert int(mask.sum()) == 2
    said = "1 text of 2 in train without a word that the tokenizer knows: read as empty"
    assert read.check(split([text, "good"])) == [said]


def test_emoji_and_nul_are_read(tokenizer_json: bytes) -> None:
    read = by_words(tokenizer_json)
    assert read("good \U0001f600")[0][:4].tolist() == [2, read("good")[0][1].item(), 1, 3]
    assert torch.equal(read("go\0od")[0], read("good")[0])  # BERT's own normalisation drops it


def test_half_a_surrogate_pair_is_no_text(tokenizer_json: bytes) -> None:
    for read in (by_words(tokenizer_json), by_bytes()):
        with pytest.raises(DataError, match="surrogate"):
            read("good \ud800")
        with pytest.raises(DataError, match=r"^sample 1: .*surrogate"):
            read.check(split(["good", "good \ud800"]))


@pytest.mark.parametrize("raw", [3, None, b"good", np.zeros((2, 2), np.uint8)])
def test_other_samples_are_refused(raw: object) -> None:
    with pytest.raises(DataError, match="the network reads texts"):
        by_bytes()(raw)


def test_tensors_pass() -> None:
    ids, mask = by_bytes()((np.array([1, 2]), np.array([1, 1])))
    assert (ids.tolist(), mask.tolist()) == ([1, 2], [1, 1])


def test_no_tokenizer() -> None:
    with pytest.raises(UsageError, match=r"tokenizer\.json did not come"):
        reader(Preprocessing(kind="text", input_size=(12,)))


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b'{"model": 3}', b"[]"])
def test_a_damaged_tokenizer(content: bytes) -> None:
    pytest.importorskip("tokenizers")
    with pytest.raises(IntegrityError, match="no tokenizer that can be read"):
        by_words(content)


def test_settings_that_mean_nothing() -> None:
    with pytest.raises(UsageError, match="no length of texts"):
        reader(Preprocessing(kind="text"))
    with pytest.raises(UsageError, match="has no 'max_length'"):
        reader(Preprocessing(kind="text", input_size=(12,), extra={"max_length": 3, "tokenizer": "bytes"}))


def test_an_old_file_pads_with_its_own_token(tokenizer_json: bytes) -> None:
    changed = json.loads(tokenizer_json)
    changed["padding"]["pad_id"] = 7
    ids, _ = by_words(json.dumps(changed).encode())("good")
    assert ids[3:].tolist() == [7] * 9


def test_without_the_package(tokenizer_json: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from zoo.data import text

    text._from_json.cache_clear()
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UsageError, match=r"needs? the package tokenizers") as caught:
        by_words(tokenizer_json)
    assert "transfer-zoo[text]" in str(caught.value.hint)

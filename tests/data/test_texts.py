"""Texts: in lists, folders, files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from zoo.data.open import open_data
from zoo.errors import DataError, NotFoundError


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    for label, texts in {"bad": ["dull", "slow"], "good": ["fine", "très bon", "moving"]}.items():
        (tmp_path / "reviews" / label).mkdir(parents=True)
        for number, text in enumerate(texts):
            (tmp_path / "reviews" / label / f"{number}.txt").write_text(text, encoding="utf-8")
    return tmp_path / "reviews"


def test_a_folder_of_class_folders(reviews: Path) -> None:
    data = open_data(reviews)
    assert data.classes == ("bad", "good")
    assert data.train.samples.kind == "text"
    assert [data.train.raw(row) for row in range(5)] == ["dull", "slow", "fine", "très bon", "moving"]
    assert data.train.digest(3) == hashlib.sha256("très bon".encode()).hexdigest()
    assert data.train.paths[0] == reviews / "bad" / "0.txt"
    assert len(open_data(reviews, labelled=False)) == 5


def test_files_that_are_no_texts(reviews: Path) -> None:
    (reviews / "bad" / "0.txt").write_bytes(b"d\xfcll")
    (reviews / "bad" / "1.txt").write_text(" \n")
    with pytest.raises(DataError, match="2 of 5 texts cannot be read") as caught:
        open_data(reviews)
    assert "0.txt: not UTF-8: byte 0xfc at position 1, in line 1" in caught.value.why
    assert "1.txt: the text is empty" in caught.value.why
    with pytest.raises(DataError, match="class 'bad' has no sample that can be read"):
        open_data(reviews, skip_bad=True)


def test_text_files_beside_pictures_are_notes(reviews: Path, picture) -> None:
    for label in ("bad", "good"):
        picture(reviews / label / "0.png")
    data = open_data(reviews)
    assert (data.train.samples.kind, len(data)) == ("image", 2)
    texts = open_data(reviews, kind="text")
    assert (texts.train.samples.kind, len(texts)) == ("text", 5)
    assert len(open_data(reviews, labelled=False, kind="text")) == 5
    (reviews / "good" / "0.png").unlink()
    with pytest.raises(DataError, match=r"class folder without an image: .*good"):
        open_data(reviews)


def test_without_a_text(tmp_path: Path, picture) -> None:
    picture(tmp_path / "a" / "0.png")
    with pytest.raises(DataError, match="holds pictures, but the backbone takes texts"):
        open_data(tmp_path, kind="text")
    (tmp_path / "a" / "0.png").unlink()
    with pytest.raises(DataError, match="no texts in"):
        open_data(tmp_path, kind="text")


def test_strings_are_texts_where_texts_are_eaten(reviews: Path) -> None:
    data = open_data(["good", str(reviews)], kind="text", labelled=False)
    assert [data.held_out.raw(row) for row in range(2)] == ["good", str(reviews)]
    assert data.held_out.location(1) == "text 1"
    assert len(open_data([reviews], kind="text", labelled=False)) == 5  # a Path is a path
    with pytest.raises(NotFoundError):
        open_data(["good"], labelled=False)
    one = open_data("what a film", kind="text", labelled=False).held_out
    assert (len(one), one.raw(0)) == (1, "what a film")
    assert len(open_data("x" * 100_000, kind="text", labelled=False).held_out.raw(0)) == 100_000
    assert open_data("~nobody here", kind="text", labelled=False).held_out.raw(0) == "~nobody here"
    assert len(open_data(str(reviews), kind="text", labelled=False)) == 5
    with pytest.raises(NotFoundError):  # rather a slip than a text
        open_data("reviws.csv", kind="text", labelled=False)
    with pytest.raises(DataError, match="1 of 2 texts"):
        open_data(["good", ""], kind="text", labelled=False)


def test_pairs_and_data_sets_of_pairs() -> None:
    for given in (["a b", "c"], ("a b", "c"), np.array(["a b", "c"])):
        data = open_data((given, ["no", "yes"]), kind="text")
        assert (data.train.raw(1), data.classes) == ("c", ("no", "yes"))

    class Pairs:
        classes = ["no", "yes"]

        def __len__(self) -> int:
            return 2

        def __getitem__(self, row: int) -> tuple[str, int]:
            return [("a b", 1), ("c", 0)][row]

    data = open_data(Pairs())
    assert (data.train.samples.kind, data.train.raw(0), data.classes) == ("text", "a b", ("no", "yes"))
    assert data.train.targets.tolist() == [1, 0]


def test_a_manifest_of_text_files(reviews: Path) -> None:
    file = reviews.parent / "list.csv"
    file.write_text("path,label\nreviews/bad/0.txt,bad\nreviews/good/0.txt,good\n")
    data = open_data(file)
    assert (data.train.samples.kind, data.train.raw(1)) == ("text", "fine")

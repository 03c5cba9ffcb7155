"""Real tables and texts as records."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

import zoo
from zoo.data.open import open_data
from zoo.errors import DataError


def test_german_credit(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "german_credit" / "german.csv"
    with pytest.raises(DataError, match=r"german\.csv, row 1: no column label") as caught:
        open_data(source)
    assert "The first row must name the columns" in caught.value.hint
    file = tmp_path / "credit.csv"
    file.write_text(",".join([*(f"c{i}" for i in range(20)), "risk"]) + "\n" + source.read_text())
    data = open_data(file, label="risk", kind="table")
    columns = data.train.samples.columns
    assert Counter(one.type for one in columns.values()) == {"text": 13, "integer": 7}
    assert Counter(data.train.targets.tolist()) == {0: 700, 1: 300}
    assert data.train.raw(0)["c4"] == 1169
    assert data.train.location(0) == f"{file}, row 2"
    assert data.notes == ()


def test_sentences_of_three_domains(real_data: Path, tmp_path: Path) -> None:
    """Lines are counted, copies are found where they are, whatever letters are in them."""
    for name in ("amazon_cells", "imdb", "yelp"):
        text = (real_data / "uci_sentiment" / f"{name}_labelled.txt").read_text(encoding="utf-8")
        rows = [line.rpartition("\t") for line in text.split("\n") if line]
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(json.dumps({"text": one, "label": int(y)}) + "\n" for one, _, y in rows))
        data = open_data(file, kind="text")
        assert [data.train.raw(row) for row in range(len(data))] == [one for one, _, _ in rows]
        assert Counter(data.train.targets.tolist()) == {0: 500, 1: 500}
        for copy in zoo.audit(file).duplicates:
            first, later = (int(place["path"].rpartition(" ")[2]) for place in (copy["same_as"], copy))
            assert rows[first - 1][0] == rows[later - 1][0]

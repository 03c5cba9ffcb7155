"""Unchanged picture files are not read twice; whatever changed is."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.data import files, loading, seen
from zoo.data.open import open_data
from zoo.data.preprocess import reader
from zoo.errors import DataError


@pytest.fixture
def many(tmp_path: Path, monkeypatch) -> Path:
    """Two classes, five pictures each, taken for many."""
    monkeypatch.setattr(seen, "LEAST", 4)
    monkeypatch.setattr(seen, "_SETTLED_NS", -(10**9))
    random = np.random.default_rng(0)
    for i in range(10):
        path = tmp_path / "many" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    return tmp_path / "many"


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """Names of the files whose bytes were read."""
    names: list[str] = []
    inner = files.FileSamples.content

    def content(self: files.FileSamples, row: int) -> bytes:
        names.append(Path(self.location(row)).name)
        return inner(self, row)

    monkeypatch.setattr(files.FileSamples, "content", content)
    return names


def test_read_once(many, read) -> None:
    first = open_data(many)
    assert len(read) == 10
    again = open_data(many)
    assert again.fingerprint() == first.fingerprint()
    assert len(read) == 10


def test_what_changed_is_read_again(many, read) -> None:
    before = open_data(many)
    read.clear()
    path = many / "a" / "4.png"
    times = path.stat()
    content = bytearray(path.read_bytes())
    path.write_bytes((many / "a" / "2.png").read_bytes())
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # the time of change still tells
    (many / "b" / "new.png").write_bytes(content)
    after = open_data(many)
    assert sorted(read) == ["4.png", "new.png"]
    assert after.fingerprint() != before.fingerprint()
    digests = dict(zip([p.name for p in after.train.paths], after.train.digests(), strict=True))
    assert digests["4.png"] == digests["2.png"]


def test_a_file_that_was_damaged_since_is_refused(many) -> None:
    open_data(many)
    (many / "a" / "4.png").write_bytes(b"no picture")
    for _ in range(2):
        with pytest.raises(DataError, match="cannot be read"):
            open_data(many)


def test_fresh_files_are_not_trusted(many, read, monkeypatch) -> None:
    monkeypatch.setattr(seen, "_SETTLED_NS", 3600 * 10**9)
    open_data(many)
    open_data(many)
    assert len(read) == 20


def test_a_damaged_table_is_started_anew(many, read, home: Path) -> None:
    open_data(many)
    (home / "samples.sqlite").write_bytes(b"nonsense" * 1000)
    open_data(many)
    open_data(many)
    assert len(read) == 20


def test_a_home_that_cannot_be_written(many, read, monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "file" / "home"))
    open_data(many)
    open_data(many)
    assert len(read) == 20


def test_a_file_that_changes_after_it_was_opened_is_refused(many) -> None:
    """Its features would be filed under what it was."""
    train = open_data(many).train
    path = train.paths[3]
    assert path is not None
    content = path.read_bytes()
    Image.new("RGB", (8, 8)).save(path)
    with pytest.raises(DataError, match="changed after") as caught:
        loading.read(train, reader(None), 3)
    assert path.name in caught.value.message
    path.write_bytes(content)
    assert np.array_equal(np.asarray(train.raw(3)), np.asarray(Image.open(path)))

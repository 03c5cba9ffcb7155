"""NumPy archives as data."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from zoo.data.open import open_data
from zoo.errors import DataError

X = np.random.default_rng(0).integers(0, 255, (12, 6, 6)).astype(np.uint8)
Y = np.arange(12, dtype=np.uint8) % 3


def _archive(folder: Path, **arrays: np.ndarray) -> Path:
    np.savez_compressed(folder / "set.npz", **arrays)
    return folder / "set.npz"


def test_x_and_y_are_one_split(tmp_path: Path) -> None:
    data = open_data(_archive(tmp_path, X=X, y=Y))
    assert list(data.splits) == ["train"]
    assert data.classes == ("0", "1", "2")
    assert np.array_equal(data.train.raw(5), X[5])
    assert data.train.digests() == open_data((X, Y)).train.digests()
    assert data.path == tmp_path / "set.npz"
    assert open_data(data.source).fingerprint() == data.fingerprint()


def test_names_tell_the_splits(tmp_path: Path) -> None:
    path = _archive(tmp_path, x_train=X[:8], y_train=Y[:8], x_test=X[8:], y_test=Y[8:], note=np.array(1))
    data = open_data(path)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 8, "test": 4}
    assert np.array_equal(data.splits["test"].raw(1), X[9])
    assert data.splits["test"].targets.tolist() == (Y[8:] % 3).tolist()


def test_words_and_numbers_are_labels(tmp_path: Path) -> None:
    assert open_data(_archive(tmp_path, x=X, y=np.array(["ant", "bee"] * 6))).classes == ("ant", "bee")
    assert open_data(_archive(tmp_path, x=X, y=np.linspace(0, 1, 12))).task.kind == "regression"


def test_without_labels(tmp_path: Path) -> None:
    path = _archive(tmp_path, x=X)
    assert open_data(path, labelled=False).task is None
    with pytest.raises(DataError, match="has no labels y"):
        open_data(path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": X, "labels": Y}, "holds images, labels: the samples cannot be told"),
        ({"x": X, "x_train": X, "y": Y}, "cannot be told"),
        ({"x": X, "y": Y[:5]}, "x and y have shapes"),
        ({"x": X, "y": np.array(3)}, "x and y have shapes"),
        ({"x": np.array(3), "y": Y}, "x is a single number"),
        ({"x_train": X, "y_train": Y, "x_test": X[:, :3], "y_test": Y}, "differ between its splits"),
        ({"x_train": X, "y_train": Y, "x_test": X}, "has no labels y_test"),
        ({"x": X, "y": np.array([{}] * 12, dtype=object)}, "cannot be read as a NumPy archive"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_data(_archive(tmp_path, **arrays))


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    path = _archive(tmp_path, x=X, y=Y)
    whole = path.read_bytes()
    single = io.BytesIO()
    np.save(single, X)
    for damaged in (single.getvalue(), b"", b"PK", whole[: len(whole) // 2], whole.replace(whole[80:90], b"\xff" * 10)):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="cannot be read as a NumPy archive"):
            open_data(path)

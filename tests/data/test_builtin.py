"""The built-in sets: digits and glyphs."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from zoo.data.glyphs import render
from zoo.data.open import open_data
from zoo.errors import UsageError


def test_digits() -> None:
    data = open_data("digits")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 898, "test": 899}
    assert data.classes == tuple("0123456789")
    assert data.source == "digits"
    assert set(data.train.rows.tolist()).isdisjoint(data.splits["test"].rows.tolist())
    for split in data.splits.values():
        assert np.ptp(np.bincount(split.targets)) <= 6
    original = load_digits()
    row = int(data.train.rows[3])
    assert data.train.targets[3] == original.target[row]
    assert data.train.raw(3).dtype == np.uint8
    np.testing.assert_allclose(data.train.raw(3) / 255 * 16, original.images[row], atol=0.04)
    assert open_data("digits").fingerprint() == data.fingerprint()


def test_glyphs_are_balanced_and_seeded() -> None:
    images, labels = render(40, seed=3)
    assert images.shape == (40, 28, 28)
    assert images.dtype == np.uint8
    assert np.bincount(labels).tolist() == [4] * 10
    again, _ = render(20, seed=3)
    assert np.array_equal(images[:20], again)
    assert not np.array_equal(images[:20], render(20, seed=4)[0])
    assert len({image.tobytes() for image in images}) == 40


def test_glyphs_fill_the_frame_white_on_black() -> None:
    images, _ = render(200, seed=0)
    assert (images.max(axis=(1, 2)) > 80).all()
    border = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
    assert np.median(border) < 30


def test_glyphs_of_any_number() -> None:
    data = open_data("glyphs:50")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 50, "test": 1000}
    assert data.classes == tuple("0123456789")
    assert data.source == "glyphs:50"
    train = {data.train.digest(i) for i in range(50)}
    assert train.isdisjoint(data.splits["test"].digests())


@pytest.mark.parametrize("name", ["glyphs:", "glyphs:x", "glyphs:3", "digits:5"])
def test_counts_that_are_none(name) -> None:
    with pytest.raises(UsageError):
        open_data(name)

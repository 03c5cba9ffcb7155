"""Fixed crops of pictures: which part they show, and that their digests are others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.data.open import open_data
from zoo.data.views import VIEWS, crop, viewed
from zoo.errors import UsageError


def test_where_each_view_looks() -> None:
    x = np.arange(16 * 8).reshape(16, 8).astype(np.uint8)
    assert np.array_equal(crop(x, 1), x[:14, :7])
    assert np.array_equal(crop(x, 2), x[:14, 1:])
    assert np.array_equal(crop(x, 3), x[2:, :7])
    assert np.array_equal(crop(x, 4), x[2:, 1:])
    assert np.array_equal(crop(x, 10), x[2:14, 1:7])
    assert crop(x, 11).shape == (10, 5)


@pytest.mark.parametrize("view", range(1, VIEWS))
def test_a_picture_is_cropped_as_its_array_is(view: int) -> None:
    x = np.random.default_rng(0).integers(0, 255, (21, 34, 3)).astype(np.uint8)
    assert np.array_equal(np.asarray(crop(Image.fromarray(x), view)), crop(x, view))
    assert crop(np.zeros((1, 1), np.uint8), view).shape == (1, 1)


def test_a_view_is_another_sample_of_the_same_row(photos: Path) -> None:
    split = open_data(photos).train
    assert viewed(split, 0) is split
    first, second = viewed(split, 1), viewed(split, 2)
    assert len({*split.digests(), *first.digests(), *second.digests()}) == 3 * len(split)
    assert first.digests() == viewed(split, 1).digests()
    assert first.location(3) == split.location(3)
    assert first.paths == split.paths
    assert first.samples.encoded
    assert first.targets is split.targets
    assert np.array_equal(np.asarray(first.raw(3)), np.asarray(crop(split.raw(3), 1)))
    assert first.subset([3]).digest(0) == first.digest(3)


def test_a_large_photo_is_decoded_large_enough_for_its_view(tmp_path: Path) -> None:
    folder = tmp_path / "photos" / "a"
    folder.mkdir(parents=True)
    Image.new("RGB", (1600, 1600)).save(folder / "1.jpg")
    raw = viewed(open_data(folder.parent, labelled=False).train, 11).raw(0, 100)
    assert 100 <= raw.width < 1000


def test_what_has_no_views_is_refused() -> None:
    split = open_data((np.zeros((4, 3, 8, 8), np.float32), [0, 1, 0, 1])).train
    with pytest.raises(UsageError, match="sample 2 is no picture, so it has no views"):
        viewed(split, 1).raw(2)
    for view in (-1, VIEWS):
        with pytest.raises(UsageError, match="there is no view"):
            viewed(split, view)

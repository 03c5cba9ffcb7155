"""Real photos: read whole, quickly, and as documented."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo.catalog.spec import Preprocessing
from zoo.data.loading import batches
from zoo.data.open import open_data
from zoo.data.preprocess import reader
from zoo.data.split import choose


def test_hymenoptera(real_data) -> None:
    data = open_data(real_data / "hymenoptera_256")
    assert {name: np.bincount(split.targets).tolist() for name, split in data.splits.items()} == {
        "train": [123, 121],
        "val": [70, 83],
    }
    chosen = choose(data)
    assert (chosen.report_name, len(chosen.train), len(chosen.report)) == ("val", 244, 153)
    sizes = [len(batch) for batch in batches(chosen.report, reader(Preprocessing()), 64)]
    assert sizes == [64, 64, 25]


def test_the_photos_are_those_that_timm_reads(real_data) -> None:
    from PIL import Image
    from timm.data import create_transform

    split = open_data(real_data / "hymenoptera_256").splits["val"].subset(range(0, 150, 15))
    oracle = create_transform(224, is_training=False, interpolation="bicubic", crop_pct=0.875)
    batch = next(iter(batches(split, reader(Preprocessing()), 16)))
    expected = torch.stack([oracle(Image.open(path).convert("RGB")) for path in split.paths])
    torch.testing.assert_close(batch.x, expected, rtol=0, atol=1e-6)


def test_chest_xray_has_one_exact_duplicate(real_data) -> None:
    data = open_data(real_data / "chest_xray3")
    assert len(data) == 1124
    digests = data.train.digests()
    assert len(digests) - len(set(digests)) == 1
    assert data.classes == ("Covid-19", "No_findings", "Pneumonia")


@pytest.mark.parametrize(("file", "shape", "rows"), [("usps/usps.npz", (16, 16), 7291)])
def test_usps(real_data, file, shape, rows) -> None:
    with np.load(real_data / file) as content:
        images, labels = content["x_train"], content["y_train"]
    images = images if images.dtype == np.uint8 else images.astype(np.float32)
    data = open_data((images, labels))
    assert len(data) == rows
    assert tuple(data.train.raw(0).shape) == shape
    assert data.classes == tuple("0123456789")

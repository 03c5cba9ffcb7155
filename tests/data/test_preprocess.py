"""Readers: the pixels of timm's own evaluation transform, channels, and what passes unchanged."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from zoo.catalog.spec import Preprocessing
from zoo.data.preprocess import Readers, describe, from_description, reader
from zoo.errors import DataError, UsageError


def photo(width: int, height: int, mode: str = "RGB") -> Image.Image:
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return Image.fromarray(np.random.default_rng(width + height).integers(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize("size", [(300, 200), (201, 333), (40, 30), (224, 224), (57, 300)])
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"interpolation": "bilinear", "crop_pct": 0.875},
        {"interpolation": "lanczos", "crop_pct": 0.9},
        {"input_size": (3, 96, 64), "crop_pct": 0.95},
        {"crop_pct": 1.0, "input_size": (3, 32, 32), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
        {"crop_mode": "squash", "crop_pct": 0.9},
        {"crop_mode": "squash", "crop_pct": 1.0, "input_size": (3, 64, 100)},
        {"crop_mode": "border", "crop_pct": 1.0},
        {"crop_mode": "border", "crop_pct": 0.8, "input_size": (3, 100, 60)},
    ],
)
def test_pixels_are_those_of_timm(config, size) -> None:
    spec = Preprocessing(**config)
    oracle = create_transform(
        input_size=spec.input_size,
        is_training=False,
        mean=spec.mean,
        std=spec.std,
        interpolation=spec.interpolation,
        crop_pct=spec.crop_pct,
        crop_mode=spec.crop_mode,
    )
    found = reader(spec)(photo(*size))
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    torch.testing.assert_close(found, oracle(photo(*size)), rtol=0, atol=1e-6)


def test_arrays_go_the_way_of_pictures() -> None:
    read = reader(Preprocessing(input_size=(3, 64, 64)))
    image = photo(90, 80)
    assert torch.equal(read(np.asarray(image)), read(image))


def test_grey_and_colour_are_converted_into_each_other() -> None:
    spec = Preprocessing(input_size=(3, 16, 16), mean=(0.1, 0.2, 0.6), std=(0.1, 0.2, 0.3))
    grey = photo(20, 20, "L")
    three = reader(spec, 3)(grey)
    assert torch.equal(three, reader(spec, 3)(np.asarray(grey)[..., None]))
    levels = (three * torch.tensor(spec.std)[:, None, None] + torch.tensor(spec.mean)[:, None, None])[0]
    one = reader(spec, 1)(grey)
    assert one.shape == (1, 16, 16)
    torch.testing.assert_close(one[0], (levels - 0.3) / 0.2, rtol=0, atol=1e-5)
    colour = photo(20, 20)
    assert torch.equal(reader(spec, 1)(colour), reader(spec, 1)(colour.convert("L")))


def test_other_numbers_of_channels_come_from_arrays_only() -> None:
    spec = Preprocessing(input_size=(3, 16, 16), mean=(0.1, 0.2, 0.6), std=(1.0, 1.0, 1.0), crop_pct=1.0)
    array = np.random.default_rng(0).integers(0, 256, (16, 16, 5), dtype=np.uint8)
    found = reader(spec, 5)(array)
    mean = torch.tensor([0.1, 0.2, 0.6, 0.1, 0.2])[:, None, None]
    torch.testing.assert_close(found, torch.from_numpy(array).permute(2, 0, 1) / 255 - mean, rtol=0, atol=1e-6)
    bordered = reader(Preprocessing(input_size=(5, 32, 16), crop_mode="border", crop_pct=1.0), 5)(array)
    assert bordered.shape == (5, 32, 16)
    assert bordered.abs()[:, :8].max() < 0.02
    for raw, chans, message in [
        (array, 3, "5 channels, but the network takes 3"),
        (array[..., :3], 5, "3 channels, but the network takes 5"),
        (photo(9, 9), 2, "3 channels, but the network takes 2"),
        (np.zeros((3, 16, 16), np.uint8), 3, "16 channels, but the network takes 3"),
    ]:
        with pytest.raises(DataError, match=message):
            reader(spec, chans)(raw)


def test_floating_input_passes_unchanged() -> None:
    read = reader(Preprocessing(), 3)
    values = np.linspace(-7, 300, 12).reshape(3, 2, 2)
    assert torch.equal(read(values), torch.from_numpy(values).float())
    assert torch.equal(read(torch.ones(7)), torch.ones(7))
    ids, mask = read((np.arange(3), torch.ones(3)))
    assert ids.dtype == torch.int64
    assert mask.dtype == torch.float32


def test_a_network_without_preprocessing_takes_tensors_only() -> None:
    read = reader(None)
    assert torch.equal(read(torch.ones(3)), torch.ones(3))
    assert read((torch.ones(2), torch.ones(3)))[1].shape == (3,)
    with pytest.raises(DataError, match="no preprocessing for raw samples"):
        read(photo(4, 4))
    assert read.shorter is None


def test_wrong_preprocessing_is_refused() -> None:
    with pytest.raises(UsageError, match="no reader for 'smell' input") as caught:
        reader(Preprocessing(kind="smell"))
    assert "image, table, tensor" in caught.value.why
    with pytest.raises(UsageError, match="no interpolation 'cubic'"):
        reader(Preprocessing(interpolation="cubic"))
    with pytest.raises(UsageError, match="no crop_mode 'middle'"):
        reader(Preprocessing(crop_mode="middle"))
    with pytest.raises(UsageError, match="input_size"):
        reader(Preprocessing(input_size=(224,)))


def test_another_kind_can_be_added() -> None:
    class Length:
        shorter = None

        def __init__(self, preprocessing, in_chans, assets) -> None:
            self.preprocessing = preprocessing

        def __call__(self, raw):
            return torch.tensor([float(len(raw))])

        def describe(self):
            return describe(self.preprocessing)

    readers = Readers()
    readers.add("text", Length)
    assert reader(Preprocessing(kind="text"), readers=readers)("four").item() == 4
    with pytest.raises(UsageError):
        reader(Preprocessing(kind="text"))


def test_a_description_is_json_and_comes_back() -> None:
    spec = Preprocessing(input_size=(1, 28, 28), mean=(0.5,), std=(0.5,), extra={"x": 1})
    text = json.dumps(reader(spec, 1).describe())
    assert from_description(json.loads(text)) == spec
    assert json.loads(text)["in_chans"] == 1

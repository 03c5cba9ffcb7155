"""Arrays, tensors, pictures and map-style data sets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from zoo.data.open import open_data
from zoo.data.task import MULTI_LABEL, REGRESSION
from zoo.errors import DataError, UsageError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
LABELS = [0, 1, 0, 1, 0, 1]


def test_uint8_arrays_are_raw_images() -> None:
    data = open_data((PIXELS, LABELS))
    assert np.array_equal(data.train.raw(2), PIXELS[2])
    assert data.classes == ("0", "1")
    assert open_data((PIXELS[..., 0], LABELS)).train.raw(0).shape == (5, 4)


def test_floats_pass_unchanged() -> None:
    values = PIXELS.astype(np.float32)
    assert np.array_equal(open_data((values, LABELS)).train.raw(1), values[1])
    tensor = torch.from_numpy(values)
    assert torch.equal(open_data((tensor, torch.tensor(LABELS))).train.raw(1), tensor[1])


def test_raw_tensors_have_channels_first() -> None:
    tensor = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)
    data = open_data((torch.nn.functional.interpolate(tensor, size=(9, 8)), LABELS))
    assert data.train.raw(0).shape == (9, 8, 3)


def test_the_digest_is_of_the_content() -> None:
    values = PIXELS.astype(np.float32)
    array, tensor = open_data((values, LABELS)).train, open_data((torch.from_numpy(values), LABELS)).train
    assert array.digest(0) == tensor.digest(0) != array.digest(1)
    assert array.digest(0) != open_data((PIXELS, LABELS)).train.digest(0)
    assert open_data((values, LABELS)).fingerprint() == open_data((torch.from_numpy(values), LABELS)).fingerprint()
    assert open_data((values, LABELS)).fingerprint() != open_data((values, LABELS[::-1])).fingerprint()
    half = torch.from_numpy(values).bfloat16()
    assert len({open_data((half, LABELS)).train.digest(i) for i in range(6)}) == 6


def test_several_labels_and_numbers() -> None:
    assert open_data((PIXELS, [[0, 1]] * 6)).task.kind == MULTI_LABEL
    assert open_data((PIXELS, [["red"], ["red", "big"]] * 3)).task.kind == MULTI_LABEL
    assert open_data((PIXELS, np.linspace(0.1, 0.9, 6))).task.kind == REGRESSION


def test_two_tensors_a_sample() -> None:
    ids, mask = torch.arange(12).reshape(6, 2), torch.ones(6, 2)
    data = open_data(((ids, mask), LABELS))
    assert [part.tolist() for part in data.train.raw(1)] == [[2, 3], [1.0, 1.0]]
    with pytest.raises(DataError, match="different lengths"):
        open_data(((ids, mask[:3]), LABELS))


def test_pictures_in_a_list() -> None:
    pictures = [Image.fromarray(pixels) for pixels in PIXELS]
    data = open_data((pictures, LABELS))
    assert np.array_equal(np.asarray(data.train.raw(3)), PIXELS[3])
    assert len(open_data(pictures, labelled=False)) == 6
    assert len(open_data(pictures[0], labelled=False)) == 1
    assert len(open_data([*PIXELS], labelled=False)) == 6


def test_a_lazily_opened_picture_is_read_at_once(folder) -> None:
    path = folder / "ants" / "0.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    with Image.open(path) as image, pytest.raises(DataError, match="item 0: the picture cannot be read"):
        open_data([image], labelled=False)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((0, 8, 8), np.uint8), "empty"),
        (np.zeros((6, 0), np.float32), "empty"),
        (np.zeros(6, np.float32), r"\(6,\)"),
        (np.zeros((6, 64), np.uint8), r"reshape\(-1, 8, 8\)"),
        (np.zeros((6, 8, 8), np.int32), "int32"),
        (np.zeros((6, 8, 8), bool), "bool"),
        (np.array([[1.0, 2], [3, np.nan], [np.inf, 0], [1, 1], [1, 1], [1, 1]]), "2 of 6 .* first is row 1"),
        (torch.full((6, 3), float("nan")), "NaN"),
        (["a.jpg", PIXELS[0]] * 3, "mixed"),
        ([object()] * 6, "object"),
        ([], "empty"),
    ],
)
def test_what_is_no_row_of_samples(values, message) -> None:
    with pytest.raises(DataError, match=f"(?s){message}") as caught:
        open_data((values, LABELS))
    assert caught.value.exit_code == 7


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS[:5], "6 samples, but 5 labels"),
        ([1] * 6, "only one class, '1'"),
        ([0.5, 1.5, np.nan, 1, 1, 1], "not finite"),
        (np.zeros((6, 2, 2)), "fit no task"),
    ],
)
def test_labels_that_do_not_fit(labels, message) -> None:
    with pytest.raises(DataError, match=message):
        open_data((PIXELS, labels))


def test_labels_out_of_the_range_of_a_learner() -> None:
    with pytest.raises(DataError, match="out of range"):
        open_data((PIXELS, [0, 1, 2, 0, 1, 2]), task_classes=("ants", "bees"))


def test_samples_without_labels() -> None:
    with pytest.raises(DataError, match="no labels"):
        open_data(PIXELS)
    assert open_data(PIXELS, labelled=False).task is None


@pytest.mark.parametrize("source", [5, {"X": PIXELS}, None])
def test_no_data_source(source) -> None:
    with pytest.raises(UsageError):
        open_data(source)


class Pairs(Dataset):
    """Pictures with labels; counts how often a picture is made."""

    classes = ["ant", "bee"]

    def __init__(self, noise: bool = False) -> None:
        self.noise = noise
        self.reads = 0

    def __len__(self) -> int:
        return 6

    def __getitem__(self, row: int):
        self.reads += 1
        pixels = np.random.default_rng().integers(0, 256, (5, 4, 3), dtype=np.uint8) if self.noise else PIXELS[row]
        return Image.fromarray(pixels), LABELS[row]


class WithTargets(Pairs):
    targets = LABELS


def test_map_style_data_sets() -> None:
    data = open_data(Pairs())
    assert data.classes == ("ant", "bee")
    assert data.train.targets.tolist() == LABELS
    assert np.array_equal(np.asarray(data.train.raw(4)), PIXELS[4])
    assert "item 4 of the Pairs" in data.train.location(4)


def test_a_table_of_targets_spares_reading_every_item() -> None:
    dataset = WithTargets()
    data = open_data(Subset(dataset, [5, 0, 1, 2]))
    assert data.train.targets.tolist() == [1, 0, 1, 0]
    assert data.classes == ("ant", "bee")
    assert np.array_equal(np.asarray(data.train.raw(0)), PIXELS[5])


def test_items_of_a_data_set_are_decoded_once_for_their_digests() -> None:
    dataset = WithTargets()
    train = open_data(dataset).train
    dataset.reads = 0
    assert (
        train.digests()
        == train.digests()
        == open_data(list(map(Image.fromarray, PIXELS)), labelled=False).train.digests()
    )
    assert dataset.reads == len(dataset)


def test_tensor_data_sets_and_unlabelled_ones() -> None:
    data = open_data(TensorDataset(torch.from_numpy(PIXELS).float(), torch.tensor(LABELS)))
    assert data.train.raw(0).shape == (5, 4, 3)
    single = TensorDataset(torch.rand(4, 3))
    assert len(open_data(single, labelled=False)) == 4
    with pytest.raises(DataError, match=r"not a pair \(x, y\)"):
        open_data(single)


def test_random_transforms_are_refused() -> None:
    with pytest.raises(DataError, match="another sample each time"):
        open_data(Pairs(noise=True))


def test_streams_are_refused() -> None:
    class Stream(IterableDataset):
        def __iter__(self):
            return iter([])

    with pytest.raises(UsageError, match="Stream is no data source"):
        open_data(Stream())

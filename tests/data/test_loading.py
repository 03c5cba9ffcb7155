"""Batches: order, permutations, threads, errors that name the sample, tensors kept in memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo.catalog.spec import Preprocessing
from zoo.data.join import join
from zoo.data.loading import batches, hold
from zoo.data.open import open_data
from zoo.data.preprocess import reader
from zoo.errors import DataError, UsageError

READ = reader(Preprocessing(input_size=(3, 16, 16)))


@pytest.fixture
def numbers():
    return open_data((np.arange(40, dtype=np.float32).reshape(20, 2), np.arange(20) % 2)).train


def test_batches_in_order(numbers) -> None:
    found = list(batches(numbers, READ, 8))
    assert [len(batch) for batch in found] == [8, 8, 4]
    assert len(batches(numbers, READ, 8)) == 3
    assert torch.cat([batch.index for batch in found]).tolist() == list(range(20))
    assert torch.equal(torch.cat([batch.x for batch in found]), torch.arange(40.0).reshape(20, 2))
    assert torch.cat([batch.y for batch in found]).tolist() == [0, 1] * 10
    assert [len(batch) for batch in batches(numbers, READ, 8, drop_last=True)] == [8, 8]


@pytest.mark.parametrize("size", [1, 3, 4, 9, 20])
def test_a_lone_last_row_joins_before_any_batch_is_left_out(size: int, numbers) -> None:
    plain = [batch.index.tolist() for batch in batches(numbers, READ, size)]
    if len(plain) > 1 and len(plain[-1]) == 1 < size:
        plain[-2:] = [plain[-2] + plain[-1]]
    for start in range(len(plain) + 1):
        found = batches(numbers, READ, size).joined().starting_at(start)
        assert [batch.index.tolist() for batch in found] == plain[start:]
        assert len(found) == len(plain[start:])


def test_a_seeded_permutation(numbers) -> None:
    loader = batches(numbers, READ, 6, shuffle_seed=5)
    order = torch.cat([batch.index for batch in loader])
    assert torch.equal(order, torch.randperm(20, generator=torch.Generator().manual_seed(5)))
    assert torch.equal(torch.cat([batch.index for batch in loader]), order)
    for batch in loader:
        assert torch.equal(batch.x[:, 0], batch.index * 2.0)
        assert torch.equal(batch.y, batch.index % 2)


def test_the_number_of_threads_changes_nothing(folder) -> None:
    split = open_data(folder).train
    one = [(b.x, b.index) for b in batches(split, READ, 4, shuffle_seed=1, workers=0)]
    for workers in (1, 3, None):
        many = [(b.x, b.index) for b in batches(split, READ, 4, shuffle_seed=1, workers=workers)]
        assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(one, many, strict=True))


def test_subsets_and_unlabelled_splits(numbers) -> None:
    (batch,) = batches(numbers.subset([7, 3]).unlabelled(), READ, 5)
    assert batch.x[:, 0].tolist() == [14.0, 6.0]
    assert batch.index.tolist() == [0, 1]
    assert batch.y is None


def test_two_tensors_a_sample() -> None:
    data = open_data(((torch.arange(12).reshape(6, 2), torch.ones(6, 3)), [0, 1] * 3))
    for split in (data.train, hold(data.train, READ)):
        ids, mask = next(iter(batches(split, READ, 4))).x
        assert ids.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
        assert mask.shape == (4, 3)


def test_pairs_of_tensors_item_by_item() -> None:
    items = [(torch.full((2,), i), torch.ones(3)) for i in range(4)]
    data = open_data((items, [0, 1, 0, 1]))
    ids, _ = next(iter(batches(data.train, READ, 4))).x
    assert ids[:, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sample_that_cannot_be_read_is_named(folder, workers) -> None:
    split = open_data(folder).train
    path = folder / "bees" / "4.jpg"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"4\.jpg"):
        list(batches(split, READ, 2, workers=workers))


def test_wrong_channels_name_the_sample_and_both_counts(folder) -> None:
    split = open_data((np.zeros((4, 8, 8, 5), np.uint8), [0, 1] * 2)).train
    with pytest.raises(DataError, match="sample 0: the image has 5 channels, but the network takes 3"):
        list(batches(split, READ, 2))


def test_samples_of_unequal_shape() -> None:
    split = open_data(([np.zeros((3, 4)), np.zeros((3, 5))], [0, 1])).train
    with pytest.raises(DataError, match="differ in shape") as caught:
        list(batches(split, READ, 2))
    assert "sample 1 is (3, 5)" in caught.value.why


def test_leaving_early_stops_the_threads(folder) -> None:
    import threading

    loader = iter(batches(open_data(folder).train, READ, 1, workers=2))
    next(loader)
    loader.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("zoo-read")]


def test_hold_reads_once_and_remembers_where_from(folder) -> None:
    split = open_data(folder).train.subset([5, 1, 2])
    plain = torch.cat([batch.x for batch in batches(split, READ, 2)])
    held = hold(split, READ)
    again = list(batches(held, READ, 2, shuffle_seed=3))
    assert torch.equal(torch.cat([batch.x for batch in again]), plain[torch.cat([batch.index for batch in again])])
    assert (held.digests(), held.paths, held.location(0)) == (split.digests(), split.paths, split.location(0))
    assert torch.equal(held.subset([2]).raw(0), plain[2])
    assert held.targets.tolist() == [1, 0, 0]
    assert hold(split, READ, limit=1000) is split


def test_hold_never_stretches_a_sample() -> None:
    first = open_data((np.zeros((64, 1, 8, 8), np.float32), [0, 1] * 32)).train
    for shape in ((1, 1, 1), (1, 8, 4)):
        other = open_data(np.ones((2, *shape), np.float32), labelled=False).train
        with pytest.raises(DataError, match="differ in shape") as caught:
            hold(join(first, other, np.full(2, -1)), READ, workers=0)
        assert f"{shape}" in caught.value.why
        assert "sample" in caught.value.why


def test_batch_size_must_be_positive(numbers) -> None:
    with pytest.raises(UsageError):
        batches(numbers, READ, 0)
    assert list(batches(numbers.subset([]), READ, 4)) == []

"""Hugging Face data sets."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from zoo.data.open import open_data
from zoo.errors import DataError, UsageError

datasets = pytest.importorskip("datasets")

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)


def table(labels, names=("ant", "bee"), column="image", **more):
    label = datasets.ClassLabel(names=list(names)) if names else None
    features = {column: datasets.Image(), **({"label": label} if label else {})}
    content = {column: [Image.fromarray(pixels) for pixels in PIXELS[: len(labels)]], "label": labels}
    if label is None:
        return datasets.Dataset.from_dict(content).cast_column(column, datasets.Image())
    return datasets.Dataset.from_dict(content, features=datasets.Features(features))


def test_names_and_order_of_the_class_label() -> None:
    data = open_data(table([1, 0, 1, 0], names=("wasp", "ant")))
    assert data.classes == ("wasp", "ant")
    assert data.train.targets.tolist() == [1, 0, 1, 0]
    assert np.array_equal(np.asarray(data.train.raw(2)), PIXELS[2])
    known = open_data(table([1, 0], names=("wasp", "ant")), task_classes=("ant", "wasp"))
    assert known.train.targets.tolist() == [0, 1]


def test_splits_and_rows() -> None:
    parts = datasets.DatasetDict(train=table([0, 1, 0]), validation=table([1, 0]))
    data = open_data(parts)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 3, "val": 2}
    val = data.splits["val"]
    assert np.array_equal(np.asarray(val.raw(1)), PIXELS[1])
    assert val.location(1) == "row 1 of validation"
    assert val.digest(0) == data.train.digest(0)


def test_text_labels_and_another_image_column() -> None:
    data = open_data(table(["b", "a"], names=None, column="picture"))
    assert data.classes == ("a", "b")


def test_unreadable_rows() -> None:
    stream = io.BytesIO()
    Image.fromarray(PIXELS[0]).save(stream, "PNG")
    good = stream.getvalue()
    rows = {"image": [{"bytes": b, "path": None} for b in (good, good[:60], good)], "label": [0, 0, 1]}
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["a", "b"]))
    source = datasets.Dataset.from_dict(rows, features=features)
    with pytest.raises(DataError, match="1 of 3") as caught:
        open_data(source)
    assert "row 1 of data" in caught.value.why
    assert open_data(source, skip_bad=True).train.rows.tolist() == [0, 2]


def test_what_is_missing() -> None:
    with pytest.raises(DataError, match="no label column"):
        open_data(table([0, 1]).remove_columns("label"))
    assert open_data(table([0, 1]).remove_columns("label"), labelled=False).task is None
    with pytest.raises(DataError, match="no image column"):
        open_data(table([0, 1]).remove_columns("image"))
    with pytest.raises(DataError, match="'part1' is no split"):
        open_data(datasets.DatasetDict(part1=table([0, 1])))
    with pytest.raises(UsageError, match="stream"):
        open_data(table([0, 1]).to_iterable_dataset())
    with pytest.raises(DataError, match="empty"):
        open_data(table([0, 1]).select([]))

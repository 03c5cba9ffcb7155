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
    with pytest.raises(DataError, match="no column label"):
        open_data(table([0, 1]).remove_columns("label"))
    assert open_data(table([0, 1]).remove_columns("label"), labelled=False).task is None
    with pytest.raises(DataError, match="no column is left to learn from"):
        open_data(table([0, 1]).remove_columns("image"))
    two = datasets.concatenate_datasets([table([0, 1]), table([0, 1], column="mask").remove_columns("label")], axis=1)
    with pytest.raises(DataError, match="2 columns of pictures or recordings: image, mask"):
        open_data(two)
    with pytest.raises(DataError, match="'part1' is no split"):
        open_data(datasets.DatasetDict(part1=table([0, 1])))
    with pytest.raises(UsageError, match="stream"):
        open_data(table([0, 1]).to_iterable_dataset())
    with pytest.raises(DataError, match="empty"):
        open_data(table([0, 1]).select([]))


def texts(labels, split_of=("good film", "bad film")):
    label = datasets.ClassLabel(names=["neg", "pos"])
    features = datasets.Features(text=datasets.Value("string"), label=label)
    return datasets.Dataset.from_dict({"text": list(split_of), "label": labels}, features=features)


def test_texts() -> None:
    data = open_data(datasets.DatasetDict(train=texts([1, 0]), test=texts([0, 1])))
    assert (data.train.samples.kind, data.classes) == ("text", ("neg", "pos"))
    assert data.splits["test"].raw(1) == "bad film"
    assert data.splits["test"].location(1) == "row 1 of test, column text"
    with pytest.raises(DataError, match="row 1 of data, column text: the text is empty"):
        open_data(texts([0, 1], ("good", "")))


def test_labels_that_are_not_there() -> None:
    with pytest.raises(DataError, match="row 0 of data, column label: there is no label"):
        open_data(texts([-1, 0]))
    assert open_data(texts([-1, 0]), labelled=False).task is None


def test_rows_of_a_table_with_names_for_numbers() -> None:
    job = datasets.ClassLabel(names=["cook", "clerk"])
    features = datasets.Features(age=datasets.Value("int64"), job=job, risk=datasets.Value("string"))
    source = datasets.Dataset.from_dict({"age": [3, None], "job": [1, 0], "risk": ["low", "high"]}, features=features)
    data = open_data(source, label="risk")
    assert [data.train.raw(row) for row in range(2)] == [{"age": 3, "job": "clerk"}, {"age": None, "job": "cook"}]
    assert open_data(source, label="job").classes == ("cook", "clerk")


def test_recordings(tmp_path) -> None:
    soundfile = pytest.importorskip("soundfile")
    for name, pitch in (("a", 10), ("b", 5)):
        soundfile.write(tmp_path / f"{name}.wav", np.sin(np.arange(4000) / pitch), 8000)
    source = datasets.Dataset.from_dict({"audio": [str(tmp_path / "a.wav"), str(tmp_path / "b.wav")], "label": [0, 1]})
    data = open_data(source.cast_column("audio", datasets.Audio()))
    assert data.train.samples.kind == "audio"
    assert data.train.raw(0).rate == 8000


def test_parquet_keeps_what_hugging_face_notes_of_columns(tmp_path) -> None:
    table([1, 0, 1], names=("wasp", "ant")).to_parquet(str(tmp_path / "t.parquet"))
    data = open_data(tmp_path / "t.parquet")
    assert data.classes == ("wasp", "ant")
    assert np.array_equal(np.asarray(data.train.raw(2)), PIXELS[2])
    assert data.train.location(2) == f"{tmp_path / 't.parquet'}, row 2"


def test_a_file_of_records_may_name_pictures_beside_it(tmp_path, monkeypatch) -> None:
    import json

    import pyarrow
    from pyarrow import parquet

    (tmp_path / "set").mkdir()
    for number in range(2):
        Image.fromarray(PIXELS[number]).save(tmp_path / "set" / f"{number}.png")
    cells = [{"bytes": None, "path": "0.png"}, {"bytes": None, "path": "1.png"}, None, {"bytes": None, "path": "no"}]
    notes = {"info": {"features": {"image": {"_type": "Image"}}}}
    made = pyarrow.table({"image": cells, "label": [0, 1, 1, 0]})
    made = made.replace_schema_metadata({"huggingface": json.dumps(notes)})
    parquet.write_table(made, tmp_path / "set" / "t.parquet")
    data = open_data(tmp_path / "set" / "t.parquet", skip_bad=True)
    assert [one.location.rpartition(", ")[2] for one in data.skipped] == ["row 2", "row 3"]
    assert [one.reason for one in data.skipped] == ["there is no image", "No such file or directory"]
    assert np.array_equal(np.asarray(data.train.raw(1)), PIXELS[1])


def test_splits_of_other_columns() -> None:
    parts = datasets.DatasetDict(train=texts([0, 1]), test=texts([0, 1]).rename_column("text", "review"))
    with pytest.raises(DataError, match="the splits of the DatasetDict have different columns"):
        open_data(parts)

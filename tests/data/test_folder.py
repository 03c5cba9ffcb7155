"""Class folders, with and without splits, and what can be wrong with them."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from zoo.data.open import open_data
from zoo.errors import DataError, NotFoundError


def test_class_folders(folder) -> None:
    data = open_data(folder)
    assert data.name == "insects"
    assert data.classes == ("ants", "bees")
    assert data.path == folder
    assert data.train.targets.tolist() == [0, 0, 0, 1, 1, 1]
    assert [path.name for path in data.train.paths] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg"]
    assert data.train.raw(0).size == (24, 20)
    assert data.held_out.name == "all"
    assert len(data.held_out) == 6


def test_a_string_path_and_deeper_folders(folder, picture, monkeypatch) -> None:
    picture(folder / "ants" / "more" / "x.PNG", 9)
    (folder / "ants" / "notes.txt").write_text("not an image")
    picture(folder / "ants" / ".hidden.jpg", 8)
    monkeypatch.chdir(folder.parent)
    data = open_data("insects")
    assert len(data) == 7
    assert all(path.is_absolute() for path in data.train.paths)


def test_splits(folder, picture) -> None:
    root = folder.parent / "split"
    shutil.copytree(folder, root / "train")
    shutil.copytree(folder, root / "Validation")
    picture(root / "test" / "bees" / "t.png", 7)
    picture(root / "docs" / "plot.png", 7)
    data = open_data(root)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 6, "val": 6, "test": 1}
    assert data.held_out.name == "test"
    assert data.splits["test"].targets.tolist() == [1]
    assert data.notes == ("folders beside the splits left out: docs",)


def test_a_class_called_train_is_a_class(folder) -> None:
    (folder / "ants").rename(folder / "train")
    assert open_data(folder).classes == ("bees", "train")


def test_integer_names_are_in_the_order_of_numbers(tmp_path, picture) -> None:
    for name in ("10", "2", "1"):
        picture(tmp_path / "d" / name / "a.png", int(name))
    assert open_data(tmp_path / "d").classes == ("1", "2", "10")


def test_loose_images_without_labels(folder) -> None:
    data = open_data(folder, labelled=False)
    assert data.task is None
    assert data.train.targets is None
    assert len(data) == 6


def test_paths_in_a_list(folder) -> None:
    data = open_data([folder / "bees", str(folder / "ants" / "0.jpg")], labelled=False)
    assert [path.name for path in data.train.paths] == ["3.jpg", "4.jpg", "5.jpg", "0.jpg"]
    assert len(open_data(folder / "ants" / "0.jpg", labelled=False)) == 1
    with pytest.raises(NotFoundError):
        open_data([folder / "no.jpg"], labelled=False)


def test_no_images(tmp_path) -> None:
    (tmp_path / "ants").mkdir()
    with pytest.raises(DataError, match="no images"):
        open_data(tmp_path)
    with pytest.raises(DataError, match="no images"):
        open_data(tmp_path, labelled=False)


def test_images_without_class_folders(folder) -> None:
    with pytest.raises(DataError, match="no class folders"):
        open_data(folder / "ants")


def test_only_one_class(folder) -> None:
    shutil.rmtree(folder / "bees")
    with pytest.raises(DataError, match="only one class, 'ants'") as caught:
        open_data(folder)
    assert caught.value.exit_code == 7
    assert open_data(folder, task_classes=("ants", "bees")).train.targets.tolist() == [0, 0, 0]


def test_an_empty_class_folder_is_named(folder) -> None:
    (folder / "wasps").mkdir()
    (folder / "wasps" / "readme.txt").write_text("soon")
    with pytest.raises(DataError, match="wasps"):
        open_data(folder)


def test_a_class_that_train_lacks(folder, picture) -> None:
    root = folder.parent / "split"
    shutil.copytree(folder, root / "train")
    shutil.copytree(folder, root / "test")
    picture(root / "test" / "wasps" / "w.png", 7)
    with pytest.raises(DataError, match="class 'wasps' is in test, but train"):
        open_data(root)


def test_two_folders_for_one_split(folder) -> None:
    root = folder.parent / "split"
    for name in ("train", "val", "valid"):
        shutil.copytree(folder, root / name)
    with pytest.raises(DataError, match="both stand for the split val"):
        open_data(root)


def test_known_classes_give_the_order(folder) -> None:
    data = open_data(folder, task_classes=("bees", "ants", "wasps"))
    assert data.train.targets.tolist() == [1, 1, 1, 0, 0, 0]
    with pytest.raises(DataError, match="ants"):
        open_data(folder, task_classes=("bees", "wasps"))


def test_open_again_for_a_known_task(folder) -> None:
    data = open_data(open_data(folder), task_classes=("bees", "ants"))
    assert data.train.targets.tolist() == [1, 1, 1, 0, 0, 0]
    assert open_data(data.train.subset([0, 5])).train.targets.tolist() == [1, 0]


def test_unreadable_images_are_listed_before_anything_else(folder) -> None:
    truncate(folder / "ants" / "1.jpg")
    (folder / "bees" / "4.jpg").write_bytes(b"not an image")
    (folder / "bees" / "9.png").write_bytes(b"")
    with pytest.raises(DataError, match="3 of 7 images cannot be read") as caught:
        open_data(folder)
    assert caught.value.exit_code == 7
    assert "1.jpg: image file is truncated" in caught.value.why
    assert "4.jpg: not an image" in caught.value.why
    assert "--skip-bad" in caught.value.hint


def test_skip_bad_leaves_them_out_and_says_so(folder) -> None:
    truncate(folder / "ants" / "1.jpg")
    data = open_data(folder, skip_bad=True)
    assert [path.name for path in data.train.paths] == ["0.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg"]
    assert data.notes == ("1 unreadable images left out: 1.jpg",)
    assert data.skipped[0].location == str(folder / "ants" / "1.jpg")


def test_skip_bad_never_loses_a_class(folder) -> None:
    for name in "012":
        truncate(folder / "ants" / f"{name}.jpg")
    with pytest.raises(DataError, match="class 'ants' has no sample that can be read"):
        open_data(folder, skip_bad=True)


def test_only_ten_of_many_are_listed(folder) -> None:
    for index in range(12):
        (folder / "bees" / f"bad{index:02}.png").write_bytes(b"?")
    with pytest.raises(DataError, match="12 of 18") as caught:
        open_data(folder)
    assert caught.value.why.count("bad") == 10
    assert "and 2 more" in caught.value.why


def test_one_file_under_two_labels_is_noted(folder) -> None:
    shutil.copy(folder / "ants" / "0.jpg", folder / "bees" / "copy.jpg")
    (note,) = open_data(folder).notes
    assert note.startswith("1 file has")
    assert "copy.jpg (bees)" in note


def test_the_fingerprint_is_of_content_not_of_place(folder) -> None:
    one = open_data(folder).fingerprint()
    moved = shutil.copytree(folder, folder.parent / "elsewhere" / "insects")
    assert open_data(moved).fingerprint() == one
    (folder / "ants" / "0.jpg").write_bytes((folder / "ants" / "1.jpg").read_bytes())
    assert open_data(folder).fingerprint() != one
    assert open_data(moved, task_classes=("bees", "ants")).fingerprint() != one


def test_names_that_nobody_knows(folder) -> None:
    with pytest.raises(NotFoundError, match="neither a path nor a built-in") as caught:
        open_data("digit")
    assert "digits" in caught.value.hint
    with pytest.raises(NotFoundError) as caught:
        open_data(folder.parent / "insect")
    assert str(folder) in caught.value.hint
    text = folder.parent / "notes.txt"
    text.write_text("x")
    with pytest.raises(DataError, match="neither a folder nor a CSV"):
        open_data(text)


def truncate(path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def test_rows_and_subsets_keep_their_place(folder) -> None:
    split = open_data(folder).train.subset([4, 0])
    assert [path.name for path in split.paths] == ["4.jpg", "0.jpg"]
    assert split.targets.tolist() == [1, 0]
    assert split.subset(np.array([1])).rows.tolist() == [0]
    assert split.location(0) == str(folder / "bees" / "4.jpg")
    assert split.unlabelled().targets is None

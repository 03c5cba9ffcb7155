"""CSV manifests; every error names file, row and column."""

from __future__ import annotations

import pytest

from zoo.data.open import open_data
from zoo.data.task import MULTI_LABEL, REGRESSION, Task
from zoo.errors import DataError


@pytest.fixture
def write(folder):
    def manifest(text: str, **options):
        file = folder.parent / "list.csv"
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return open_data(file, **options)

    return manifest


ROWS = "insects/ants/0.jpg,ant\ninsects/ants/1.jpg,ant\ninsects/bees/3.jpg,bee\n"


def test_paths_are_relative_to_the_manifest(write, folder, monkeypatch, tmp_path_factory) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    data = write(f"path,label\n{ROWS}")
    assert data.classes == ("ant", "bee")
    assert data.train.targets.tolist() == [0, 0, 1]
    assert data.train.paths[0] == folder / "ants" / "0.jpg"
    assert data.name == "list"


def test_splits_bom_other_columns_and_blank_lines(write) -> None:
    text = "\ufefflabel,Path,weight,split\nant,insects/ants/0.jpg,1,train\n\nbee,insects/bees/3.jpg,2,train\n"
    data = write(f"{text}bee,insects/bees/4.jpg,3,valid\n")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 2, "val": 1}


def test_integer_labels_sort_as_numbers(write) -> None:
    data = write("path,label\ninsects/ants/0.jpg,10\ninsects/ants/1.jpg,9\n")
    assert data.classes == ("9", "10")
    assert data.train.targets.tolist() == [1, 0]


def test_numbers_with_a_point_are_regression(write) -> None:
    data = write("path,label\ninsects/ants/0.jpg,10\ninsects/ants/1.jpg,9.5\n")
    assert data.task.kind == REGRESSION
    assert data.train.targets.tolist() == [[10.0], [9.5]]
    again = write("path,label\ninsects/ants/0.jpg,10\n", task_classes=Task(REGRESSION, ("0",)))
    assert again.train.targets.tolist() == [[10.0]]


def test_several_labels(write) -> None:
    data = write("path,label\ninsects/ants/0.jpg,red|small\ninsects/ants/1.jpg,red\n")
    assert data.task == Task(MULTI_LABEL, ("red", "small"))
    assert data.train.targets.tolist() == [[1, 1], [1, 0]]


def test_labels_may_be_absent_for_prediction(write) -> None:
    data = write("path\ninsects/ants/0.jpg\n", labelled=False)
    assert data.task is None
    assert len(data) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"file,label\n{ROWS}", "row 1: no column path"),
        (f"path,kind\n{ROWS}", "row 1: no column label"),
        ("", "row 1: no column path and no column label"),
        (f"path,label,label\n{ROWS}", "label is there twice"),
        (f"path,label\n{ROWS}insects/no.jpg,ant\n", "row 5, column path: no such file"),
        (f"path,label\n{ROWS}insects/ants/2.jpg,\n", "row 5, column label: the cell is empty"),
        (f"path,label\n{ROWS}insects/ants/2.jpg,a,b\n", "row 5: 3 cells"),
        ("path,label,split\ninsects/ants/0.jpg,ant,tain\n", "row 2, column split: 'tain'"),
        ("path,label\ninsects/ants/0.jpg,0.5\ninsects/ants/1.jpg,nan\n", "row 3, column label: 'nan'"),
        ('path,label\n"insects/ants/0.jpg,ant\n', "not CSV"),
        ("path,label\n", "empty"),
        (b"path,label\ninsects/ants/0.jpg,\xff\n", "not UTF-8"),
        ("path,label\ninsects/ants/0.jpg,ant\n", "only one class"),
    ],
)
def test_errors_name_file_row_and_column(write, text, message) -> None:
    text = text.decode("latin-1").encode("latin-1") if isinstance(text, bytes) else text
    with pytest.raises(DataError, match=message) as caught:
        write(text)
    assert "list" in caught.value.message


def test_one_path_under_two_labels_is_noted(write) -> None:
    (note,) = write(f"path,label\n{ROWS}insects/ants/0.jpg,bee\n").notes
    assert "0.jpg (ant)" in note
    assert "0.jpg (bee)" in note

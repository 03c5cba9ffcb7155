"""Rows that belong together are never divided."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

import zoo
from zoo.choose.compare import fold_of_rows
from zoo.data.open import open_data
from zoo.data.split import choose, divide
from zoo.data.task import CLASSES, Task
from zoo.errors import DataError, UsageError


def manifest(folder: Path, rows: list[str], header: str = "path,label,speaker") -> Path:
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    for row in rows:
        path = folder / row.split(",")[0]
        Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    file = folder / "data.csv"
    file.write_text("\n".join([header, *rows]) + "\n")
    return file


@pytest.fixture
def spoken(tmp_path: Path) -> Path:
    """Six speakers, two classes, five pictures each."""
    rows = [f"{s}-{c}-{i}.png,{c},{s}" for s in "abcdef" for c in ("no", "yes") for i in range(5)]
    return manifest(tmp_path / "spoken", rows)


@pytest.mark.parametrize("seed", range(4))
def test_whole_groups_are_reported(spoken: Path, seed: int) -> None:
    data = open_data(spoken, group_by="Speaker")
    chosen = choose(data, seed=seed)
    learned, held = (set(part.groups.tolist()) for part in (chosen.train, chosen.report))
    assert learned.isdisjoint(held)
    assert len(learned | held) == 6
    assert 0.1 < len(chosen.report) / 60 < 0.4
    assert set(chosen.report.targets.tolist()) == set(chosen.train.targets.tolist()) == {0, 1}


def test_a_fit_keeps_its_groups_and_finds_its_rows_again(spoken: Path, tmp_path: Path) -> None:
    learner = zoo.compose("source_cnn", "linear-probe", weights=None).fit(spoken, group_by="speaker", guard=True)
    run = learner.save(tmp_path / "run")
    again = zoo.load(run)
    assert again.call["group_by"] == "speaker"
    assert again.evaluate(spoken, guard=True).guard["n"] == 60  # its training rows were found again
    divided = choose(open_data(spoken, group_by="speaker"), seed=0)
    assert again.record["data"]["rows"] == {"train": len(divided.train), "unlabelled": 0, "val": len(divided.report)}


def test_folds_of_a_ranking_keep_groups(spoken: Path) -> None:
    train = open_data(spoken, group_by="speaker").train
    fold = fold_of_rows(train.targets, train.task, 3, 0, train.groups)
    assert set(fold.tolist()) == {0, 1, 2}
    for group in range(6):
        assert len(set(fold[train.groups == group].tolist())) == 1


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=12),
    seed=st.integers(0, 10_000),
    classes=st.integers(2, 3),
)
def test_no_group_is_on_both_sides(sizes: list[int], seed: int, classes: int) -> None:
    from zoo.data.arrays import ArraySamples
    from zoo.data.dataset import Split

    groups = np.repeat(np.arange(len(sizes)), sizes)
    targets = np.random.default_rng(seed).integers(0, classes, len(groups))
    task = Task(CLASSES, tuple("abc"[:classes]))
    samples = ArraySamples(np.zeros((len(groups), 2), "f4"))
    split = Split("train", samples, np.arange(len(groups)), targets, task, groups)
    try:
        kept, held = divide(split, seed)
    except DataError:  # the groups of a class are not divided
        assume(False)
    assert sorted([*kept, *held]) == list(range(len(groups)))
    assert len(kept)
    assert len(held)
    assert not set(groups[kept]) & set(groups[held])
    assert set(targets.tolist()) == set(targets[kept].tolist())


def test_a_split_of_the_data_that_divides_a_group(tmp_path: Path) -> None:
    rows = [f"{s}{c}{i}.png,{c},{s},{'train' if i < 2 else 'test'}" for s in "abc" for c in "xy" for i in range(3)]
    file = manifest(tmp_path / "d", rows, "path,label,speaker,split")
    with pytest.raises(DataError, match="group 'a' is in train and in test"):
        open_data(file, group_by="speaker")
    assert len(open_data(file)) == 18


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["1.png,x,a", "2.png,y,a"], "all samples belong to one group, 'a'"),
        (["1.png,x,a", "2.png,y,"], "row 3, column speaker: the cell is empty"),
        (["1.png,x,a", "2.png,x,a", "3.png,y,b"], "not divided"),
        (["1.png,x,a", "2.png,y,b"], "not divided"),
    ],
)
def test_groups_that_cannot_be(tmp_path: Path, rows: list[str], says: str) -> None:
    with pytest.raises(DataError, match=says):
        choose(open_data(manifest(tmp_path / "d", rows), group_by="speaker"))


def test_a_column_that_is_not_there(spoken: Path) -> None:
    with pytest.raises(DataError, match="no column doctor") as caught:
        open_data(spoken, group_by="doctor")
    assert "Name a column of the manifest" in str(caught.value)
    with pytest.raises(UsageError, match="only manifests and Hugging Face data sets have columns"):
        open_data(spoken.parent, group_by="speaker")


def test_a_column_of_a_hugging_face_data_set() -> None:
    import datasets

    pictures = [Image.fromarray(np.full((8, 8, 3), 9 * i, np.uint8)) for i in range(12)]
    made = datasets.Dataset.from_dict(
        {"image": pictures, "label": [i % 2 for i in range(12)], "who": [i // 2 for i in range(12)]},
        features=datasets.Features(
            image=datasets.Image(), label=datasets.ClassLabel(names=["a", "b"]), who=datasets.Value("int64")
        ),
    )
    assert len(np.unique(open_data(made, group_by="who").train.groups)) == 6
    with pytest.raises(DataError, match="no column 'when'"):
        open_data(made, group_by="when")

"""Rows that belong together are never divided."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

import zoo
from zoo.adapt.again import find_again
from zoo.choose.compare import fold_of_rows
from zoo.data.open import has_column, open_data
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


def test_what_is_judged_is_counted_by_group(spoken: Path, tmp_path: Path) -> None:
    """The fit's column is looked for where a run is judged; another can be asked for."""
    learner = zoo.compose("source_cnn", "linear-probe", weights=None).fit(spoken, group_by="speaker", guard=True)
    reported = choose(open_data(spoken, group_by="speaker")).report
    assert learner.evaluation.groups == learner.evaluation.guard["groups"] == len(np.unique(reported.groups))
    again = zoo.load(learner.save(tmp_path / "run"))
    assert again.evaluation == learner.evaluation
    assert again.evaluate(spoken).groups == 6
    assert again.evaluate(open_data(spoken, group_by="speaker")).groups == 6
    plain = spoken.with_name("plain.csv")
    plain.write_text("\n".join(line.rpartition(",")[0] for line in spoken.read_text().split()) + "\n")
    found = again.evaluate(plain, guard=True, train=spoken)
    assert found.groups is None
    assert "groups" not in found.guard
    assert any("counted as independent" in note for note in found.guard["notes"])
    assert again.evaluate(plain.parent / "data.csv", group_by="label").groups == 2


class TestTarget:
    """Unlabelled rows of a group that is reported on are learned from as much as labelled ones."""

    def fit(self, spoken: Path, target: Path) -> zoo.Learner:
        learner = zoo.compose("source_cnn", "coral", weights=None)
        return learner.fit(spoken, target=target, group_by="speaker", ignore_target_labels=True)

    def target(self, folder: Path, speakers: str, header: str = "path,label,speaker") -> Path:
        return TestAnotherDataSetToReportOn().other(folder, speakers, header)

    def test_a_reported_group_is_refused(self, spoken: Path, tmp_path: Path) -> None:
        name = sorted(choose(open_data(spoken, group_by="speaker")).report.groups_named())[0]
        with pytest.raises(DataError, match=f"reported groups are also in the target: '{name}'"):
            self.fit(spoken, self.target(tmp_path, f"x{name}"))

    @pytest.mark.parametrize("speakers", ["xy", "z"])
    def test_other_groups_are_adapted_to(self, spoken: Path, tmp_path: Path, speakers: str) -> None:
        learner = self.fit(spoken, self.target(tmp_path, speakers))
        assert not [note for note in learner.notes if "nothing proves" in note]
        assert learner.record["data"]["rows"]["unlabelled"] == 6 * len(speakers)

    def test_without_the_column_nothing_is_proved(self, spoken: Path, tmp_path: Path) -> None:
        learner = self.fit(spoken, self.target(tmp_path, "xy", "path,label"))
        assert [note for note in learner.notes if "nothing proves that the target rows" in note and "'speaker'" in note]


class TestAnotherDataSetToReportOn:
    """Groups are the same where their names are; their numbers are each data set's own."""

    def other(self, folder: Path, speakers: str, header: str = "path,label,speaker") -> Path:
        random = np.random.default_rng(1)
        rows = [f"{s}-{c}-{i}.png,{c},{s}" for s in speakers for c in ("no", "yes") for i in range(3)]
        rows = rows if "speaker" in header else [row.rpartition(",")[0] for row in rows]
        file = manifest(folder / "other", rows, header)
        for path in file.parent.glob("*.png"):
            Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
        return file

    def fit(self, spoken: Path, other: object) -> zoo.Learner:
        return zoo.compose("source_cnn", "linear-probe", weights=None).fit(spoken, other, group_by="speaker")

    def test_groups_of_both_are_refused(self, spoken: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="1 of 3 reported groups are also learned from: 'f'"):
            self.fit(spoken, self.other(tmp_path, "xfz"))

    @pytest.mark.parametrize("speakers", ["xyz", "z"])
    def test_other_groups_are_reported_and_found_again(self, spoken: Path, tmp_path: Path, speakers: str) -> None:
        learner = self.fit(spoken, self.other(tmp_path, speakers))
        assert not [note for note in learner.notes if "nothing proves" in note]
        again = find_again(zoo.load(learner.save(tmp_path / "run")))
        assert len(again.train) == 60
        assert again.report is not None
        assert len(again.report) == 6 * len(speakers)

    def test_without_the_column_nothing_is_proved(self, spoken: Path, tmp_path: Path) -> None:
        learner = self.fit(spoken, self.other(tmp_path, "xyz", "path,label"))
        assert [note for note in learner.notes if "nothing proves" in note and "'speaker'" in note]

    def test_opened_data_keep_their_names(self, spoken: Path, tmp_path: Path) -> None:
        other = open_data(self.other(tmp_path, "xfz"), group_by="speaker")
        assert other.train.groups_named() == {"x", "f", "z"}
        assert other.train.subset([0]).groups_named() == {"x"}
        with pytest.raises(DataError, match="'f'"):
            self.fit(spoken, other)

    def test_an_empty_cell_is_refused(self, spoken: Path, tmp_path: Path) -> None:
        file = self.other(tmp_path, "xyz")
        file.write_text(file.read_text().replace(",x\n", ",\n", 1))
        with pytest.raises(DataError, match="the cell is empty"):
            self.fit(spoken, file)


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
    with pytest.raises(UsageError, match="only manifests, tables and Hugging Face data sets have columns"):
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
    with pytest.raises(DataError, match="no column when to group by"):
        open_data(made, group_by="when")
    assert [has_column(made, name) for name in ("who", "when")] == [True, False]
    assert has_column(datasets.DatasetDict(train=made), "who")

"""Planted faults are found, and what is sound is left alone."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

import zoo
from zoo.choose import duplicates
from zoo.choose.audit import _harmless
from zoo.choose.look import look_at, name_pattern
from zoo.data.open import open_data
from zoo.errors import NotFoundError, UsageError


def scene(seed: int, hue: int) -> Image.Image:
    """A picture with large and small structure, as photos have, 96 x 80."""
    random = np.random.default_rng(seed)
    pixels = np.zeros((80, 96, 3))
    for size, strength in ((4, 60), (12, 40), (40, 20)):
        layer = random.normal(0, strength, (size, size, 3)).astype(np.float32)
        for channel in range(3):
            picture = Image.fromarray(layer[:, :, channel]).resize((96, 80), Image.Resampling.BICUBIC)
            pixels[:, :, channel] += np.asarray(picture)
    pixels[:, :, hue] += 70
    return Image.fromarray(np.clip(pixels + 100, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 pictures in two classes and two splits, with faults whose names say what they are."""
    root = tmp_path_factory.mktemp("data") / "scenes"
    for split, count, first in (("train", 45, 0), ("val", 15, 500)):
        for hue, name in ((0, "red"), (2, "blue")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                scene(first + 1000 * hue + i, hue).save(folder / f"p{i:03}.jpg", quality=92)
    train, val = root / "train", root / "val"
    (train / "red" / "copy_exact.jpg").write_bytes((train / "red" / "p001.jpg").read_bytes())
    (val / "blue" / "leak_exact.jpg").write_bytes((train / "blue" / "p004.jpg").read_bytes())
    original = Image.open(train / "red" / "p007.jpg")
    original.save(train / "red" / "near_quality.jpg", quality=40)
    Image.open(train / "red" / "p008.jpg").resize((60, 50)).save(train / "red" / "near_small.png")
    brighter = ImageEnhance.Brightness(Image.open(train / "blue" / "p009.jpg")).enhance(1.1)
    brighter.save(val / "blue" / "leak_near.jpg", quality=85)
    for i in range(4):
        scene(9000 + i, 2).save(train / "red" / f"flipped_{i}.jpg", quality=92)
    Image.new("RGB", (96, 80), (7, 7, 7)).save(train / "blue" / "blank.png")
    (train / "blue" / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    return root


def names(found: list[dict[str, object]]) -> set[str]:
    return {Path(str(one["path"])).name for one in found}


@pytest.fixture
def found(planted: Path) -> zoo.choose.audit.Audit:
    return zoo.audit(planted)


def test_planted_faults_are_found(found: zoo.choose.audit.Audit) -> None:
    assert names(found.unreadable) == {"broken.jpg"}
    assert "blank.png" in names(found.odd)
    copies = [{Path(str(one["path"])).name, Path(one["same_as"]["path"]).name} for one in found.duplicates]
    assert len(copies) == 2
    assert {"copy_exact.jpg", "p001.jpg"} in copies
    assert {"leak_exact.jpg", "p004.jpg"} in copies
    near = names(found.near_duplicates) | {Path(one["same_as"]["path"]).name for one in found.near_duplicates}
    assert {"near_quality.jpg", "near_small.png", "leak_near.jpg"} <= near
    assert len(found.near_duplicates) == 3  # and nothing else
    assert names(found.leakage) == {"leak_exact.jpg", "leak_near.jpg"}
    assert {one["kind"] for one in found.leakage} == {"exact", "near"}
    assert {f"flipped_{i}.jpg" for i in range(4)} <= names(found.label_suspects)
    assert len(found.label_suspects) <= 0.1 * found.rows
    assert all(one["suggested"] == "blue" for one in found.label_suspects if "flipped" in str(one["path"]))
    assert found.classes["red"] == {"train": 52, "val": 15}


def test_copies_of_a_wrong_label_do_not_vouch_for_it(tmp_path: Path) -> None:
    for hue, name in ((0, "red"), (2, "blue")):
        (tmp_path / name).mkdir()
        for i in range(30):
            scene(1000 * hue + i, hue).save(tmp_path / name / f"p{i:03}.jpg", quality=92)
    scene(9000, 2).save(tmp_path / "red" / "wrong.jpg", quality=92)
    for i in range(12):
        shutil.copy(tmp_path / "red" / "wrong.jpg", tmp_path / "red" / f"wrong_{i:02}.jpg")
    assert {name for name in names(zoo.audit(tmp_path).label_suspects) if "wrong" in name}


def test_all_rows_being_copies_leaves_no_suspects(tmp_path: Path) -> None:
    for name in ("red", "blue"):
        (tmp_path / name).mkdir()
        for i in range(5):
            scene(1, 0).save(tmp_path / name / f"{i}.png")
    assert zoo.audit(tmp_path).label_suspects == []


def test_every_finding_says_where_it_is(found: zoo.choose.audit.Audit, planted: Path) -> None:
    record = json.loads(json.dumps(found.as_json(), allow_nan=False))
    opened = open_data(planted, skip_bad=True)
    kinds = ("duplicates", "near_duplicates", "leakage", "label_suspects", "shifts")
    for one in [one for kind in kinds for one in record[kind]]:
        assert str(opened.splits[one["split"]].paths[one["index"]]) == one["path"]
        assert one["words"]


def test_fix_list_is_a_csv_that_runs_no_formula(found: zoo.choose.audit.Audit, tmp_path: Path) -> None:
    path = found.fix_list(tmp_path / "fix.csv")
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert {"finding", "path", "split", "index", "label", "suggested", "why", "action"} == set(rows[0])
    assert sum(row["finding"] == "label_suspects" for row in rows) == len(found.label_suspects)
    with pytest.raises(UsageError, match="exists"):
        found.fix_list(path)


def test_a_name_that_is_a_formula_is_only_text(tmp_path: Path) -> None:
    for label in ("=1+1", "b"):
        folder = tmp_path / "data" / label
        folder.mkdir(parents=True)
        for i in range(3):
            scene(i, 0).save(folder / f"{i}.png")
    text = zoo.audit(tmp_path / "data").fix_list(tmp_path / "fix.csv").read_text()
    assert "'=1+1" in text
    assert ",=1+1" not in text


@pytest.mark.parametrize("cell", ["=1", "\uff1d1", "\uff0b1", "\uff0d1", "\uff20a", " =1", "\n@a", "\t1"])
def test_no_cell_is_a_formula(cell: str) -> None:
    assert _harmless(cell) == f"'{cell}"
    assert _harmless("a=1") == "a=1"


def test_a_name_that_is_no_text_is_written(tmp_path: Path) -> None:
    row = {"path": "a/\udcff.jpg", "split": "val", "index": 0, "words": "a/\udcff.jpg"}
    found = zoo.choose.audit.Audit("data", {}, leakage=[row])
    assert "a/\\udcff.jpg" in found.fix_list(tmp_path / "fix.csv").read_text(encoding="utf-8")


def test_a_copy_of_a_leaked_sample_is_leaked(planted: Path, tmp_path: Path) -> None:
    root = tmp_path / "scenes"
    shutil.copytree(planted, root)
    (root / "test" / "blue").mkdir(parents=True)
    shutil.copy(root / "val" / "blue" / "leak_near.jpg", root / "test" / "blue" / "leak_again.jpg")
    for i in range(6):
        scene(20000 + i, 2).save(root / "test" / "blue" / f"t{i}.jpg")
    found = zoo.audit(root)
    assert names(found.leakage) == {"leak_exact.jpg", "leak_near.jpg", "leak_again.jpg"}
    (again,) = [one for one in found.leakage if "again" in str(one["path"])]
    assert (again["split"], again["kind"]) == ("test", "near")
    assert Path(again["same_as"]["path"]).name == "p009.jpg"


def test_leaks_are_the_groups_that_hold_a_trained_row() -> None:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    random = np.random.default_rng(0)
    for _ in range(20):
        ends = random.integers(0, 60, (30, 2))
        pairs = [(int(max(i, j)), int(min(i, j)), float(random.uniform())) for i, j in ends if i != j]
        matrix = coo_matrix((np.ones(len(ends)), ends.T), shape=(60, 60))
        group = connected_components(matrix, directed=False)[1]
        with_train = set(group[:20])
        found = duplicates.leaks(pairs, lambda row: row < 20)
        assert [row for row, _, _ in found] == [row for row in range(20, 60) if group[row] in with_train]
        assert all(group[row] == group[source] and source < 20 for row, source, _ in found)


def test_many_alike_rows_give_few_pairs() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(900, 64)).astype(np.float32)
    vectors[600:] = vectors[0] + 1e-3 * random.normal(size=(300, 64))
    pairs = duplicates.near(vectors, "thumbnail", skip=set())
    assert [(later, earlier) for later, earlier, _ in pairs] == [(row, 0) for row in range(600, 900)]


def test_nothing_is_changed(planted: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in planted.rglob("*")}
    zoo.audit(planted)
    assert {path: path.stat().st_mtime_ns for path in planted.rglob("*")} == before


def test_a_class_from_another_collection_is_said(tmp_path: Path) -> None:
    for name, hue, size, quality in (("sick", 0, (96, 80), 92), ("well", 0, (64, 64), 60)):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        for i in range(30):
            scene(i + 100 * len(name) + hue, hue).resize(size).save(folder / f"x{i}.jpg", quality=quality)
    (shift, other) = zoo.audit(tmp_path / "data").shifts
    assert {shift["kind"], other["kind"]} == {"shortcut"}
    assert "another collection" in shift["words"]
    assert "aspect ratio" in shift["words"]
    assert shift["auc"] > 0.95


def test_a_shifted_split_is_said_and_an_even_one_is_not(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    features, codes = random.normal(size=(300, 12)), np.arange(300) % 3
    from zoo.choose.shifts import split_shift

    rows, x = np.arange(300), features + codes[:, None]
    import torch

    even = split_shift(torch.from_numpy(x), rows[:200], rows[200:], codes)
    assert even is None
    x[200:, 0] += 2
    told = split_shift(torch.from_numpy(x), rows[:200], rows[200:], codes)
    assert told is not None
    assert told.auc > 0.85
    assert set(told.rows) <= set(range(200, 300))


def test_another_mix_of_classes_is_no_shift() -> None:
    import torch

    from zoo.choose.shifts import split_shift

    random = np.random.default_rng(0)
    codes = np.concatenate([random.choice(2, 200, p=[0.9, 0.1]), random.choice(2, 100, p=[0.1, 0.9])])
    x = torch.from_numpy(random.normal(size=(300, 6)) + 3 * codes[:, None])
    assert split_shift(x, np.arange(200), np.arange(200, 300), codes) is None


def test_alike_pictures_are_not_called_copies() -> None:
    """Real digits resemble each other; hardly any is a copy."""
    rows = open_data("digits")
    looks = look_at(list(rows.splits.values()))
    thumbnails = np.stack([look.thumbnail.ravel() for look in looks if look])
    pairs = duplicates.near(thumbnails, "thumbnail", skip=set())
    assert len(duplicates.leading(pairs)) < 0.01 * len(thumbnails)


def test_numbers_and_unlabelled_data_are_audited_too(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(60, 5)).astype(np.float32), np.array(["a", "b"] * 30)
    x[y == "b"] += 3
    y[10] = "b"  # a label that is wrong
    x[20] = x[40]
    found = zoo.audit((x, y))
    assert found.label_suspects
    assert len(found.duplicates) == 1
    folder = tmp_path / "loose"
    folder.mkdir()
    for i in range(4):
        scene(i % 3, 0).save(folder / f"{i}.png")
    loose = zoo.audit(folder)
    assert loose.classes == {}
    assert len(loose.duplicates) == 1


def test_a_backbone_can_be_named(planted: Path) -> None:
    found = zoo.audit(planted)
    assert any("thumbnails" in note for note in found.notes)
    with pytest.raises(NotFoundError):
        zoo.audit(planted, backbone="nothing")


def test_patterns_of_file_names() -> None:
    assert name_pattern("IMG_0012.JPG") == "a_0.jpg"
    assert name_pattern("00001684_010.jpg") == "0_0.jpg"


def test_a_class_folder_without_a_picture_is_said(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for i in range(8):
        path = tmp_path / "data" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    (tmp_path / "data" / "empty").mkdir()
    found = zoo.audit(tmp_path / "data")
    assert any("labels were not looked at: class folder without an image" in note for note in found.notes)

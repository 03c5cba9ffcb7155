"""The rows of a fit are found again, whatever divided them, and nothing else is taken for them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from zoo.adapt.again import find_again
from zoo.adapt.rows import split_id
from zoo.errors import DataError

pytestmark = pytest.mark.usefixtures("tiny_plugin")


def fit(strategy: str, *data: Any, options: dict[str, Any] | None = None, **how: Any) -> Any:
    return zoo.compose("tiny", strategy, weights=None, seed=3, **(options or {})).fit(*data, **how)


@pytest.mark.parametrize("how", [{}, {"labels_per_class": 3}, {"val": "test"}, {"elsewhere": True}])
def test_both_parts_are_found(photos: Path, tmp_path: Path, how: dict[str, Any]) -> None:
    if "val" in how:
        shutil.copytree(photos, tmp_path / "divided" / "train")
        shutil.move(photos, tmp_path / "divided" / "test")
        photos = tmp_path / "divided"
    if "elsewhere" in how:
        other = tmp_path / "other"
        for i, name in enumerate(("blue", "red")):
            (other / name).mkdir(parents=True)
            shutil.move(photos / name / f"0{i}.png", other / name)
        how = {"val": str(other)}
    run = fit("linear-probe", photos, **how).save(tmp_path / "run")
    learner = zoo.load(run)
    found = find_again(learner)
    ids = learner.record["data"]["split_ids"]
    assert found.report is not None
    assert {"train": split_id(found.train), found.report.name: split_id(found.report)} == ids
    assert len(found.report) == learner.evaluation.n
    assert learner.evaluate(found.report).accuracy == learner.evaluation.accuracy


def test_rows_that_a_choice_was_made_on_were_not_learned_from(photos: Path) -> None:
    learner = fit("fine-tune", photos, options={"epochs": 1, "early_stop": 1})
    assert learner.record["data"]["rows"]["inner"] > 0
    assert len(find_again(learner).train) == learner.record["data"]["rows"]["train"]


def test_reported_rows_that_are_gone_or_changed_are_not_found(photos: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for name in ("blue", "red"):
        (other / name).mkdir(parents=True)
        shutil.move(photos / name / "00.png", other / name)
    learner = fit("linear-probe", photos, val=str(other))
    (other / "red" / "00.png").unlink()
    shutil.copy(photos / "red" / "01.png", other / "red")
    assert find_again(learner).report is None
    shutil.rmtree(other)
    assert find_again(learner).report is None


def test_data_that_moved_is_taken_and_other_data_is_not(photos: Path, tmp_path: Path) -> None:
    learner = fit("linear-probe", photos)
    moved = tmp_path / "moved"
    shutil.move(photos, moved)
    with pytest.raises(DataError, match="cannot be read"):
        find_again(learner)
    assert find_again(learner, moved).report is not None
    (moved / "red" / "03.png").unlink()
    with pytest.raises(DataError, match="is not the data"):
        find_again(learner, moved)
    arrays = fit("linear-probe", (np.zeros((8, 8, 8, 3), "u1"), ["a", "b"] * 4))
    with pytest.raises(DataError, match="given as objects"):
        find_again(arrays)

"""Unlabelled target data on the command line."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("tiny_plugin")


@pytest.fixture
def loose(photos: Path) -> Path:
    """A folder of pictures without labels, none of them in `photos`."""
    random = np.random.default_rng(5)
    from PIL import Image

    folder = photos.parent / "loose"
    folder.mkdir()
    for i in range(10):
        Image.fromarray(random.integers(0, 255, (12, 12, 3)).astype(np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.mark.parametrize("strategy", ["coral", "adabn", "dann"])
def test_a_target_is_a_folder_an_archive_or_a_built_in_set(cli, strategy: str, photos: Path, loose: Path) -> None:
    np.savez("target.npz", x=np.random.default_rng(0).integers(0, 255, (9, 12, 12, 3)).astype(np.uint8))
    quick = {"adabn": ("--set", "rows=20"), "dann": ("--set", "epochs=1", "--set", "batch_size=128")}.get(strategy, ())
    for target, more in ((loose, ()), ("target.npz", ()), ("digits", ("--ignore-target-labels",))):
        more = (*more, *quick)
        done = cli("fit", photos, "-b", "tiny", "-w", "none", "-s", strategy, "--target", target, *more, "--json")
        assert done.code == 0, done.err
        assert done.json["metrics"]["split"] == "val"
        assert ("source-only" in done.json["metrics"].get("beside", {})) == (strategy == "dann")
        assert done.json["trainable_params"] > 0
        assert "reported rows come from the labelled data, not from the target" in done.err
    evaluated = cli("evaluate", done.json["run"], photos, "--json")
    assert evaluated.json["n"] == 24


@pytest.mark.parametrize("strategy", ["coral", "adabn", "dann"])
def test_a_target_with_labels_or_none_at_all_is_refused(cli, strategy: str, photos: Path) -> None:
    fit = ("fit", photos, "-b", "tiny", "-w", "none", "-s", strategy)
    np.savez("labelled.npz", x=np.zeros((4, 8, 8), np.uint8), y=[0, 1, 0, 1])
    for target in (photos, "labelled.npz", "digits"):
        done = cli(*fit, "--target", target)
        assert done.code == 2
        assert "target data has labels" in done.err
        assert "--ignore-target-labels" in done.err
    done = cli(*fit)
    assert done.code == 2
    assert "needs unlabelled target data" in done.err
    assert not Path("runs").exists()


def test_a_strategy_that_needs_no_target_refuses_one(cli, photos: Path, loose: Path) -> None:
    done = cli("fit", photos, "-b", "tiny", "-w", "none", "-s", "knn", "--target", loose)
    assert done.code == 2
    assert "no use for unlabelled target data" in done.err


def test_neighbours_from_the_command_line(cli, photos: Path) -> None:
    done = cli("fit", photos, "-b", "tiny", "-w", "none", "-s", "knn", "--set", "k=3", "-o", "near", "--json")
    assert done.code == 0, done.err
    assert done.json["metrics"]["accuracy"] > 0.7
    found = cli("predict", "near", photos / "red", "--json").json
    assert {row["label"] for row in found} <= {"red", "blue"}
    near = cli("fit", photos, "-b", "tiny", "-w", "none", "-s", "knn", "--set", "kk=3")
    assert near.code == 2
    assert "Did you mean k?" in near.err or "Options: k" in near.err


def test_evaluate_says_which_rows_were_learned_from(cli: Any, photos: Path, tmp_path: Path) -> None:
    assert cli("fit", photos, "-b", "tiny", "-s", "linear-probe", "-w", "none", "-o", "run").code == 0
    learned = json.loads(Path("run/run.json").read_text())["data"]["rows"]["train"]
    same = cli("evaluate", "run", photos)
    assert same.code == 0, same.err
    assert f"note: {learned} of 24 rows were learned from: this figure is too good" in same.err
    shutil.copytree(photos, tmp_path / "divided" / "test")
    assert f"note: {learned} of 24 rows" in cli("evaluate", "run", tmp_path / "divided").err
    for path in (tmp_path / "divided" / "test").rglob("*.png"):
        path.write_bytes(path.read_bytes() + b"other bytes")
    assert "learned from" not in cli("evaluate", "run", tmp_path / "divided").err
    content = Path("run/learned.bin").read_bytes()
    heads = [content[i : i + 8] for i in range(0, len(content), 8)]
    assert len(heads) == learned
    assert heads == sorted(heads)
    pictures = (hashlib.sha256(path.read_bytes()).digest()[:8] for path in photos.rglob("*.png"))
    assert set(heads) < set(pictures)
    Path("run/learned.bin").write_bytes(content[:-1])
    assert cli("evaluate", "run", photos).code == 5


def test_a_run_that_does_not_say_what_it_learned_from_is_asked_for_its_data(cli: Any, photos: Path) -> None:
    assert cli("fit", photos, "-b", "tiny", "-s", "linear-probe", "-w", "none", "-o", "run").code == 0
    Path("run/learned.bin").unlink()
    assert "of 24 rows were learned from" in cli("evaluate", "run", photos).err
    (photos / "red" / "00.png").unlink()
    assert "learned from" not in cli("evaluate", "run", photos).err

"""`-q`: of what a verb makes only the name, for a script to go on with. And `fit --no-embed`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import zoo
from zoo.testing.networks import Tiny

pytestmark = pytest.mark.usefixtures("tiny_plugin")

Cli = Callable[..., Any]


@pytest.fixture
def weights(cli: Cli, tmp_path: Path) -> str:
    """`tiny.base`, registered."""
    torch.manual_seed(0)
    save_file(Tiny(num_classes=3).state_dict(), tmp_path / "base.safetensors")
    done = cli("register", tmp_path / "base.safetensors", "--backbone", "tiny", "--name", "tiny.base", "-q")
    assert (done.code, done.out, done.err) == (0, "tiny.base\n", "")
    return "tiny.base"


def test_a_script_goes_on_with_what_is_printed(cli: Cli, photos: Path, weights: str) -> None:
    def said(*words: Any) -> str:
        done = cli(*words, "-q")
        assert (done.code, done.err) == (0, ""), done.err
        assert done.out.count("\n") == 1
        return done.out.rstrip("\n")

    run = said("fit", photos, "-b", weights, "-s", "linear-probe")
    assert json.loads(Path(run, "run.json").read_text())["state"] == "done"
    assert Path(said("report", run, "--map", "none", "--explain", 0, "--no-audit")).is_file()
    assert Path(said("export", run, "net.pt2")).is_file()
    assert Path(said("catalog", "all.html")).is_file()
    assert Path(said("new-plugin", "mine", "--kind", "backbone")).is_dir()
    assert Path(said("pull", weights)).is_file()
    published = said("pretrain", photos, "-b", "tiny", "--publish", "tiny.mine", "--set", "epochs=1")
    assert published == "tiny.mine"
    assert cli("evaluate", run, photos, "-q").out.startswith("accuracy")


def test_no_embed_saves_what_differs(cli: Cli, photos: Path, weights: str) -> None:
    fit = ("fit", photos, "-b", weights, "-s", "linear-probe", "--precision", "fp32")
    for name, more in (("whole", ()), ("small", ("--no-embed",))):
        assert cli(*fit, "-o", name, *more).code == 0
    assert json.loads(Path("small/run.json").read_text())["composition"]["embedded"] is False
    sizes = {name: Path(name, "model.safetensors").stat().st_size for name in ("whole", "small")}
    assert sizes["small"] < sizes["whole"]
    files = [str(path) for path in sorted(photos.rglob("*.png"))]
    found = [zoo.load(name, accelerator="cpu").predict_proba(files) for name in ("whole", "small")]
    np.testing.assert_array_equal(*found)
    assert cli("fit", "--resume", "-o", "small", "--no-embed").code == 0
    said = cli("fit", "--resume", "-o", "whole", "--no-embed")
    assert said.code == 2
    assert "--no-embed: False there, True now" in said.err


def test_no_embed_without_named_weights_is_refused_before_anything_is_learned(cli: Cli, photos: Path) -> None:
    said = cli("fit", photos, "-b", "tiny", "-w", "none", "-s", "linear-probe", "--no-embed", "-o", "run")
    assert said.code == 2
    assert "--no-embed" in said.err
    assert not Path("run").exists()

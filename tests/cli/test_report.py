"""report, catalog: what the verbs say and refuse."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zoo


def test_catalog_says_what_it_wrote(cli: Callable[..., Any]) -> None:
    done = cli("catalog", "out/c.html", "--json")
    assert done.code == 0, done.err
    assert done.json["backbones"] == len(zoo.list_backbones())
    assert done.json["bytes"] == Path(done.json["path"]).stat().st_size
    Path("mine.html").write_text("<p>mine")
    assert cli("catalog", "mine.html").code == 2
    assert Path("mine.html").read_text() == "<p>mine"
    assert cli("catalog", "mine.html/c.html").code == 6
    assert Path("mine.html").read_text() == "<p>mine"


@pytest.mark.usefixtures("tiny_plugin")
def test_report_says_what_it_wrote_and_what_it_left_out(cli: Callable[..., Any], photos: Path) -> None:
    assert cli("fit", photos, "-b", "tiny", "-s", "linear-probe", "-w", "none", "-o", "run").code == 0
    done = cli("report", "run", "--json", "--map", "none", "--explain", "0")
    assert done.code == 0, done.err
    assert done.json["run"] == "run"
    assert done.json["path"] == str(Path("run/report.html"))
    assert done.json["parity"] == 0
    assert set(done.json["left_out"]) == {"map", "occlusion"}
    assert "guard" not in done.json["sections"]
    text = Path("run/report.html").read_text()
    assert f"fit {photos} -b tiny -s linear-probe -w none" in text
    again = cli("report", "run", "--no-audit", "--map", "pca", "--explain", "0", "--guard")
    assert again.code == 0, again.err
    assert again.out.startswith("run/report.html: ")
    assert "note: left out: audit" in again.err
    assert "Does the transfer help?" in Path("run/report.html").read_text()
    assert cli("evaluate", "run", photos, "--json").code == 0  # a page in its folder does not hurt a run


@pytest.mark.usefixtures("tiny_plugin")
def test_report_refuses_what_it_cannot_do(cli: Callable[..., Any], photos: Path) -> None:
    assert cli("report", "nothing").code == 3
    assert cli("fit", photos, "-b", "tiny", "-s", "linear-probe", "-w", "none", "-o", "run").code == 0
    before = sorted(path.name for path in Path("run").iterdir())
    Path("mine.html").write_text("mine")
    for args, code in (
        (("-o", "mine.html"), 2),
        (("-o", "run"), 2),
        (("-o", "mine.html/r.html", "--map", "none", "--explain", "0", "--no-audit"), 6),
        (("--map", "umap"), 2),
        (("--explain", "-1"), 2),
        (("--data", "nowhere"), 3),
    ):
        assert cli("report", "run", *args).code == code, args
    shutil.rmtree(photos)
    assert cli("report", "run", "--guard").code == 7
    done = cli("report", "run", "-o", "without.html", "--json")
    assert done.code == 0, done.err
    assert set(done.json["left_out"]) == {"data"}
    assert done.json["parity"] is None
    assert Path("mine.html").read_text() == "mine"
    assert sorted(path.name for path in Path("run").iterdir()) == before


@pytest.mark.usefixtures("tiny_plugin")
def test_evaluate_gains_keys_and_loses_none(cli: Callable[..., Any], photos: Path) -> None:
    assert cli("fit", photos, "-b", "tiny", "-s", "linear-probe", "-w", "none", "-o", "run").code == 0
    found = cli("evaluate", "run", photos, "--json").json
    assert {"accuracy", "interval", "n", "per_class", "guard", "confusion", "log_loss"} <= set(found)
    assert {"balanced_accuracy", "macro_f1", "roc_auc", "average_precision", "calibration", "curves"} <= set(found)
    assert found["curves"]["positive"] == "red"
    assert sum(one["n"] for one in found["calibration"]["bins"]) == found["n"]
    shown = cli("evaluate", "run", photos).out.splitlines()
    assert len(shown) == 6
    assert shown[-1].startswith("calibration error ")

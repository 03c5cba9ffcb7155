"""fit, evaluate and report of rows that belong together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zoo.adapt.evaluation import few_groups
from zoo.catalog.tables import counted

Cli = Callable[..., Any]


@pytest.fixture
def spoken(tmp_path: Path) -> Path:
    """Six speakers, two classes, five pictures each, in a manifest."""
    random = np.random.default_rng(0)
    rows = [f"{s}-{c}-{i}.png,{c},{s}" for s in "abcdef" for c in ("no", "yes") for i in range(5)]
    for row in rows:
        pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / row.partition(",")[0])
    file = tmp_path / "data.csv"
    file.write_text("\n".join(["path,label,speaker", *rows]) + "\n")
    return file


def test_groups_are_counted_from_fit_to_report(cli: Cli, spoken: Path) -> None:
    fit = ("fit", spoken, "-b", "source_cnn", "-w", "none", "-s", "linear-probe", "--group-by", "speaker", "-o", "run")
    metrics = cli(*fit, "--json").json["metrics"]
    assert metrics["interval_by"] == "groups"
    assert metrics["groups"] in (1, 2)
    found = cli("evaluate", "run", spoken)
    assert "60 rows of all, 6 groups" in found.out
    assert few_groups(6) in found.out.replace("\n", " ")
    assert "interval_by" not in cli("evaluate", "run", spoken, "--group-by", "path", "--json").json  # each row its own
    refused = cli("evaluate", "run", spoken, "--group-by", "doctor")
    assert refused.code == 7
    assert "no column doctor" in refused.err
    page = Path("page.html")
    assert cli("report", "run", "-o", page, "--guard").code == 0
    assert few_groups(metrics["groups"]) in page.read_text()
    assert cli("report", "run", "--data", spoken, "-o", page).code == 0
    assert "which is not the data of the fit" not in page.read_text()
    assert f"rows ({counted(metrics['groups'], 'group')})" in (Path("run") / "README.md").read_text()

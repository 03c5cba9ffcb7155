"""Tables from the command line: pretrained on rows alone, published, fitted, and predicted with what was never seen."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from tables_kit import people

QUICK = ("--precision", "fp32", "--set", "epochs=2")


def write(path: Path, rows: list[dict[str, Any]], labels: list[str] | None = None, column: str = "label") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*rows[0], *([column] if labels else [])])
        for row, label in zip(rows, labels or [None] * len(rows), strict=True):
            cells = [str(cell).lower() if isinstance(cell, bool) else cell for cell in row.values()]
            writer.writerow([*cells, *([label] if labels else [])])
    return path


@pytest.fixture
def credit(tmp_path: Path) -> Path:
    return write(tmp_path / "credit.csv", *people(150), "risk")


def test_from_rows_to_predictions(cli, credit: Path, tmp_path: Path) -> None:
    made = cli("pretrain", credit, "-b", "tabular_resnet", "-s", "scarf", "--publish", "tabular_resnet.credit",
               "--label", "risk", *QUICK, "-o", "pretrained", "--json")  # fmt: skip
    assert made.code == 0, made.err
    assert made.json["strategy"] == "scarf"
    assert made.json["weights"] is None
    assert "column 'contract' is left out" in made.err
    shown = cli("show", "tabular_resnet.credit")
    assert "columns=(age, savings, housing, owns)" in " ".join(shown.out.split())
    fitted = cli("fit", credit, "-b", "tabular_resnet.credit", "-s", "linear-probe", "--label", "risk", "--guard",
                 "--precision", "fp32", "-o", "run")  # fmt: skip
    assert fitted.code == 0, fitted.err
    assert "guard: " in fitted.out
    assert "random-weights" in fitted.out
    rows = people(5, seed=3)[0]
    rows[1]["housing"] = "castle"
    new = write(tmp_path / "new.csv", rows)
    said = cli("predict", "run", new, "--json")
    assert said.code == 0, said.err
    assert [one["path"] for one in said.json] == [f"{new}, row {number}" for number in range(2, 7)]
    assert "1 of 5 rows have the new category 'castle'" in said.err
    for row in rows:
        del row["savings"]
    said = cli("predict", "run", write(tmp_path / "less.csv", rows))
    assert said.code == 7
    assert "the column 'savings' is missing" in said.err
    assert "less.csv, row 2" in said.err


def test_rows_without_any_label(cli, tmp_path: Path) -> None:
    bare = write(tmp_path / "bare.csv", people(90)[0])
    made = cli("pretrain", bare, "-b", "tabular_resnet", "-s", "scarf", "--publish", "tabular_resnet.bare", *QUICK,
               "-o", "pretrained", "--json")  # fmt: skip
    assert made.code == 0, made.err
    assert made.json["metrics"]["primary"] == "r2"
    assert made.json["published"] == "tabular_resnet.bare"
    again = cli("pretrain", bare, "-b", "tabular_resnet", "--publish", "tabular_resnet.other", *QUICK)
    assert again.code == 7  # from scratch it learns from labels
    report = cli("report", "pretrained", "-o", "page.html")
    assert report.code == 0, report.err


def test_without_weights_nothing_is_random_by_itself(cli, credit: Path) -> None:
    said = cli("fit", credit, "-b", "tabular_resnet", "-s", "linear-probe", "--label", "risk")
    assert said.code == 3
    assert not Path("runs").exists()

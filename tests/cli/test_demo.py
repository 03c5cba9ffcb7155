"""The demo, on a smaller budget."""

from __future__ import annotations

import pytest

from zoo.cli import demo
from zoo.cli.demo import Cell, judge


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "LABELS", (2, None))
    monkeypatch.setattr(demo, "SEEDS", (0, 1))
    monkeypatch.setattr(demo, "SOURCE", "glyphs:1000")
    quick = {"epochs": 1, "batch_size": 128}
    options = dict.fromkeys(("pretrain", "from-scratch", "fine-tune", "distillation"), quick)
    monkeypatch.setattr(demo, "OPTIONS", {**options, "linear-probe": {}})


@pytest.mark.usefixtures("small")
def test_the_main_job_from_end_to_end(cli, home) -> None:
    said = cli("demo", "--json")
    assert said.code == 0, said.err
    facts = said.json
    assert [step["step"] for step in facts["steps"]] == ["pretrain", "publish", "list", "before adapting", "compose"]
    cells = {(cell["strategy"], cell["labels"]): cell for cell in facts["table"]}
    assert set(cells) == {(name, labels) for name in demo.STRATEGIES for labels in (20, 898)}
    assert len(cells["fine-tune", 20]["accuracies"]) == 2
    assert len(cells["fine-tune", 898]["accuracies"]) == 1
    assert len(cells["linear-probe", 898]["accuracies"]) == 2
    assert cells["linear-probe", 898]["mean"] > 0.8
    assert "source_cnn.glyphs" in (home / "registry.toml").read_text()
    again = cli("show", "source_cnn.glyphs", "--json").json
    assert again["license"] == "apache-2.0"
    assert again["default"]


def cell(strategy: str, labels: int, *accuracies: float, rows: int = 900) -> Cell:
    """The first part of the rows is right."""
    return Cell(strategy, labels, tuple(tuple(i < round(part * rows) for i in range(rows)) for part in accuracies))


def test_the_verdict_says_help_hurt_and_neither() -> None:
    table = [
        cell("from-scratch", 20, 0.60, 0.62),
        cell("linear-probe", 20, 0.80, 0.82),
        cell("fine-tune", 20, 0.60, 0.6211),
        cell("from-scratch", 898, 0.985),
        cell("linear-probe", 898, 0.96),
    ]
    few, many = judge(table)
    assert "linear-probe helps (+20.0" in few
    assert "fine-tune makes no clear difference" in few
    assert "linear-probe hurts (-2.4" in many


def test_the_margin_is_that_of_paired_rows() -> None:
    one, other = cell("a", 20, 0.8, rows=100), cell("b", 20, 0.7, rows=100)
    gain, margin = one.gain(other)
    # Ten of a hundred rows differ, all the same way: variance 0.1 - 0.01, unbiased.
    assert gain == pytest.approx(0.1)
    assert margin == pytest.approx(1.96 * (0.09 * 100 / 99 / 100) ** 0.5)

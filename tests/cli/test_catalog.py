"""`list` and `show` for people: suggestions, sizes with suffixes, order, and what options mean."""

from __future__ import annotations

from typing import Any

import pytest

from zoo.catalog.tables import counted


def test_a_glob_that_matches_nothing_gets_a_suggestion(cli: Any) -> None:
    result = cli("list", "resnte18")
    assert result.code == 0
    assert "Did you mean" in result.err
    assert "resnet18" in result.err
    assert "resnet" in cli("list", "resnte*").err
    assert "shows everything" in cli("list", "qqqqqqqq*").err
    assert cli("list", "qqqqqqqq*", "--json").json == []


def test_the_other_filters_are_to_blame(cli: Any) -> None:
    assert "1 backbone matches 'resnet18', but none passes" in cli("list", "resnet18", "--max-params", "1k").err


@pytest.mark.parametrize(
    ("text", "number"),
    [("30M", 30e6), ("30e6", 30e6), ("30_000_000", 30e6), ("500k", 5e5), ("1.5B", 1.5e9), ("1.5g", 1.5e9)],
)
def test_numbers_of_parameters(text: str, number: float, cli: Any) -> None:
    found = cli("list", "*net*", "--max-params", text, "--json").json
    assert found
    assert max(row["params"] for row in found) <= number
    assert found == cli("list", "*net*", "--max-params", number, "--json").json


@pytest.mark.parametrize("text", ["many", "3MB", "-1", "nan", "M", "1e400", ""])
def test_what_is_no_number_of_parameters(text: str, cli: Any) -> None:
    result = cli("list", "--max-params", text)
    assert result.code == 2
    assert "30M" in result.err


@pytest.mark.parametrize(("key", "column"), [("params", "params"), ("features", "num_features"), ("name", "name")])
def test_sorted(key: str, column: str, cli: Any) -> None:
    found = [row[column] for row in cli("list", "*net*", "--sort", key, "--json").json]
    assert len(found) > 100
    assert found == sorted(found)


def test_sorted_by_nothing_there_is(cli: Any) -> None:
    assert cli("list", "--sort", "beauty").code == 2


def test_what_the_options_of_a_strategy_mean(cli: Any) -> None:
    shown = cli("show", "knn")
    (line,) = [line for line in shown.out.splitlines() if line.startswith("k ")]
    assert line.split(maxsplit=2) == ["k", "20", "neighbours; all rows where there are fewer."]
    facts = cli("show", "fine-tune", "--json").json
    assert set(facts["meanings"]) == set(facts["options"])
    assert "passes over the data" in facts["meanings"]["epochs"]  # of the class it inherits from


def test_no_line_of_a_table_ends_in_blanks(cli: Any) -> None:
    for words in (("show", "fine-tune"), ("show", "resnet18"), ("list", "resnet18*"), ("strategies",), ("doctor",)):
        out = cli(*words).out
        assert out.strip()
        assert [line for line in out.splitlines() if line != line.rstrip()] == [], words


def test_a_run_that_has_not_ended_is_gone_on_with(cli: Any) -> None:
    cli("fit", "digits", "-b", "source_cnn", "-w", "none", "-s", "knn", "-o", "run")
    from pathlib import Path

    record = Path("run/run.json")
    record.write_text(record.read_text().replace('"done"', '"running"', 1))
    result = cli("fit", "-o", "run")
    assert result.code == 2
    assert "zoo fit --resume -o run" in result.err
    assert "Missing argument" in cli("fit", "-o", "elsewhere").err


def test_one_and_several() -> None:
    assert [counted(n, "file") for n in (0, 1, 2, 1000)] == ["0 files", "1 file", "2 files", "1,000 files"]
    assert [counted(n, "class", "classes") for n in (1, 2)] == ["1 class", "2 classes"]


def test_one_file_is_no_files(cli: Any) -> None:
    assert "0 files, " in cli("cache", "ls").out
    assert cli("pretrain", "glyphs:60", "-b", "source_cnn", "--publish", "source_cnn.x", "--set", "epochs=1").code == 0
    assert "\n1 file, " in cli("cache", "ls").out

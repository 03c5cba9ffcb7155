"""Rows of tables as numbers: as scikit-learn's transformers give them, fitted on what is learned from alone."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from zoo.adapt.record import preprocessing_of
from zoo.catalog import ledger
from zoo.catalog.edit import add_weights
from zoo.catalog.spec import Preprocessing, Weights
from zoo.data import table
from zoo.data.preprocess import check_rows, describe, fit_reader, fitted_width, from_description, reader
from zoo.data.table import TableReader, columns_of
from zoo.errors import DataError, UsageError

sys.path.insert(0, str(Path(__file__).parents[1]))
from tables_kit import people, split_of

PLAIN = Preprocessing(kind="table", input_size=(3,))


def fitted(rows: list[dict[str, Any]], labels: Any = None) -> TableReader:
    made, _ = table.fit(PLAIN, split_of(rows, labels))
    return TableReader(made, made.input_size[0])


def read(reader_: TableReader, rows: list[dict[str, Any]]) -> np.ndarray:
    return torch.stack([reader_(row) for row in rows]).numpy()  # type: ignore[arg-type]


def test_numbers_and_categories_are_scikit_learns() -> None:
    """StandardScaler (which passes NaN over) and OneHotEncoder, with a category that training never saw."""
    rows, new = people(150)[0], people(40, seed=1)[0]
    new[3]["housing"] = "castle"
    read_, names = fitted(rows), ("age", "savings")
    numbers = [[row[name] for name in names] for row in rows]
    scaler = StandardScaler().fit(np.array(numbers, dtype=float))
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit([[row["housing"]] for row in rows])
    found = read(read_, new)
    assert read_.names == (
        "age", "savings", "savings is empty", "housing = free", "housing = own", "housing = rent", "owns",
    )  # fmt: skip
    expected = scaler.transform(np.array([[row[name] for name in names] for row in new], dtype=float))
    np.testing.assert_allclose(found[:, :2], np.nan_to_num(expected, nan=0.0), atol=1e-6)
    np.testing.assert_array_equal(found[:, 2], [row["savings"] is None for row in new])
    np.testing.assert_array_equal(found[:, 3:6], encoder.transform([[row["housing"]] for row in new]))
    assert not found[3, 3:6].any()
    np.testing.assert_array_equal(found[:, 6], [row["owns"] for row in new])
    assert found.dtype == np.float32
    assert read_.cells == (0, 1, 1, 2, 2, 2, 3)


def test_what_says_nothing_is_left_out_and_that_is_said() -> None:
    made, notes = table.fit(PLAIN, split_of(people()[0]))
    assert [one["name"] for one in made.extra["left_out"]] == ["contract", "country", "fax"]
    assert [note.partition(":")[0] for note in notes] == [
        f"column {name!r} is left out" for name in ("contract", "country", "fax")
    ]
    assert "a text of its own" in notes[0]
    assert "'de' in every row" in notes[1]
    assert "empty in every row" in notes[2]
    assert made.input_size == (7,) == (fitted_width(made),)


def test_nothing_but_the_rows_given_is_looked_at() -> None:
    """The state of a part of the samples is that of the part alone."""
    rows = people(60)[0]
    whole = split_of([*rows, *({**row, "age": 1e6, "housing": "castle"} for row in rows)])
    assert table.fit(PLAIN, whole.subset(range(60)))[0] == table.fit(PLAIN, split_of(rows))[0]
    assert table.fit(PLAIN, whole)[0] != table.fit(PLAIN, split_of(rows))[0]


def test_the_order_of_the_rows_changes_nothing_but_rounding() -> None:
    rows = people(80)[0]
    one, other = (columns_of(table.fit(PLAIN, split_of(part))[0]) for part in (rows, rows[::-1]))
    for a, b in zip(one, other, strict=True):
        assert (a.name, a.kind, a.values, a.empty) == (b.name, b.kind, b.values, b.empty)
        assert a.mean == pytest.approx(b.mean, rel=1e-12)


def test_empty_cells() -> None:
    """Where some were empty they have a number of their own; where none was, they are the mean or no category."""
    rows = [
        {"n": float(i), "m": None if i == 2 else float(i), "t": i % 2 == 0, "s": None if i == 0 else f"{i % 3}x",
         "c": "ab"[i % 2]}
        for i in range(12)
    ]  # fmt: skip
    read_ = fitted(rows)
    assert read_.names == (
        "n", "m", "m is empty", "t", "s = 0x", "s = 1x", "s = 2x", "s is empty", "c = a", "c = b",
    )  # fmt: skip
    empty = dict.fromkeys(rows[0])
    np.testing.assert_array_equal(read(read_, [empty])[0], [0, 0, 1, 0.5, 0, 0, 0, 1, 0, 0])
    np.testing.assert_array_equal(read(read_, [empty]), read(read_, [dict.fromkeys(rows[0], math.nan)]))
    np.testing.assert_array_equal(read(read_, [empty]), read(read_, [dict.fromkeys(rows[0], " ")]))
    notes = read_.check(split_of([empty, rows[1]], name="test"))
    assert notes == [
        "column 'n': 1 of 2 rows are empty, and none was in the rows learned from: filled with the mean",
        "column 't': 1 of 2 rows are empty, and none was in the rows learned from: filled with the mean",
        "column 'c': 1 of 2 rows are empty, and none was in the rows learned from: read as no category",
    ]
    assert read_.check(split_of(rows)) == []


def test_a_column_of_one_number_and_empty_cells_says_which() -> None:
    read_ = fitted([{"a": 5.0 if i % 2 else None, "b": float(i)} for i in range(8)])
    np.testing.assert_array_equal(read(read_, [{"a": 5, "b": 3.5}, {"a": None, "b": 3.5}]), [[0, 0, 0], [0, 1, 0]])


def test_rounding_is_no_difference() -> None:
    """0.1 + 0.2 and 0.3 differ in the last bit; dividing by that would give numbers of any size."""
    read_ = fitted([{"a": (0.1 + 0.2) if i % 2 else 0.3, "b": float(i)} for i in range(8)])
    assert np.abs(read(read_, [{"a": 0.3, "b": 0}])).max() < 2


def test_new_categories_are_counted_and_named() -> None:
    read_ = fitted(people()[0])
    rows = people(6, seed=3)[0]
    for row, value in zip(rows, ["castle", "boat", "castle"], strict=False):
        row["housing"] = value
    assert check_rows(read_, split_of(rows, name="test")) == [
        "column 'housing': 3 of 6 rows have the new categories 'castle', 'boat', which the network does not know: "
        "it says nothing"
    ]


@pytest.mark.parametrize(
    ("numbers", "counts"),
    [
        (range(1, 61), True),
        ([2 * i for i in range(30)], True),
        ([3.5 + i for i in range(40)], False),
        ([i * i for i in range(40)], False),
        ([i // 2 for i in range(40)], False),
        (range(20), False),
    ],
)
def test_a_column_that_counts_the_rows_is_said(numbers: Any, counts: bool) -> None:
    notes = table.fit(PLAIN, split_of([{"n": n, "x": float(i % 5)} for i, n in enumerate(numbers)]))[1]
    assert [note for note in notes if "does it count them" in note] == notes
    assert len(notes) == counts


def test_many_categories_are_the_most_frequent() -> None:
    rows = [{"c": f"v{i % 300:03}", "n": float(i % 7)} for i in range(900)]
    rows += [{"c": f"v{i:03}", "n": 0.0} for i in range(50, 250)]
    made, notes = table.fit(PLAIN, split_of(rows))
    column = columns_of(made)[0]
    assert column.values == tuple(f"v{i:03}" for i in range(50, 250))
    assert notes == [
        "column 'c' has 300 categories: the 200 most frequent are known, 300 rows of others say nothing there"
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"age": "old"}, r"credit.csv, row 4: column 'age' holds 'old', where numbers were learned"),
        ({"age": True}, r"credit.csv, row 4: column 'age' holds True, where numbers"),
        ({"age": math.inf}, r"row 4: column 'age' holds inf"),
        ({"age": "1_000"}, r"'1_000', where numbers"),
        ({"age": 1e60}, r"row 4: column 'age' holds 1e\+60, where numbers around"),
        ({"age": [3]}, r"column 'age' holds \[3\]"),
        ({"owns": "maybe"}, r"row 4: column 'owns' holds 'maybe', where truth values"),
        ({"owns": 2}, r"row 4: column 'owns' holds 2, where truth values"),
    ],
)
def test_a_cell_of_another_type(change: dict[str, Any], says: str) -> None:
    read_ = fitted(people()[0])
    rows = people(4, seed=5)[0]
    rows[2] |= change
    with pytest.raises(DataError, match=says):
        read_.check(split_of(rows, name="test"))
    with pytest.raises(DataError, match=says.partition(": ")[2] or says):
        read_(rows[2])


def test_numbers_where_categories_were_learned() -> None:
    """A code that is all digits in this file is known by its name; numbers none of which is known are refused."""
    rows = [{"code": ("7", "12", "A3")[i % 3], "n": float(i)} for i in range(30)]
    read_ = fitted(rows)
    np.testing.assert_array_equal(read(read_, [{"code": 7, "n": 14.5}, {"code": 12.0, "n": 14.5}])[:, :3].tolist(),
                                  [[0, 1, 0], [1, 0, 0]])  # fmt: skip
    assert read_.check(split_of([{"code": 7, "n": 0.0}], name="test")) == []
    with pytest.raises(DataError, match=r"column 'code' holds '1.5', where categories were learned: '12', '7', 'A3'"):
        read_.check(split_of([{"code": 1.5, "n": 0.0}], name="test"))


def test_numbers_and_truth_values_may_be_written_as_text() -> None:
    read_ = fitted(people()[0])
    row = people(1, seed=9)[0][0]
    said = {**row, "age": f" {row['age']} ", "owns": "TRUE" if row["owns"] else "false", "savings": "12"}
    np.testing.assert_array_equal(read(read_, [said]), read(read_, [{**row, "savings": 12}]))
    np.testing.assert_array_equal(read(read_, [{**row, "owns": int(row["owns"])}]), read(read_, [row]))
    assert read(read_, [{**row, "age": np.float32(3), "savings": np.int64(4)}]).dtype == np.float32


def test_columns_that_are_missing_or_new() -> None:
    read_ = fitted(people()[0])
    rows = [{name: cell for name, cell in row.items() if name not in ("age", "fax")} for row in people(3, seed=2)[0]]
    with pytest.raises(DataError, match="row 2: the column 'age' is missing"):
        read_.check(split_of(rows, name="test"))
    with pytest.raises(DataError, match="the column 'age' is missing"):
        read_(rows[0])
    for number, row in enumerate(rows):
        row |= {"age": 30, "shoe size": number, "hat": "x"}
    assert read_.check(split_of(rows, name="test")) == [
        "columns 'shoe size', 'hat': not read, because the network has not learned from them"
    ]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"a": None, "b": "x"}] * 5, "no column that could be learned from"),
        ([{"a": 1e308}, {"a": -1e308}, {"a": 1e308}], "too large to be standardised"),
        ([{"a": math.inf}, {"a": 1.0}], "credit.csv, row 2: column 'a' holds inf"),
        ([{"a": 10**400}, {"a": 1}], "column 'a' holds"),
        ([], "no rows of a table"),
    ],
)
def test_tables_that_nothing_can_be_learned_from(rows: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(DataError, match=says):
        table.fit(PLAIN, split_of(rows))


def test_the_state_survives_json_and_registry_files(tmp_path: Path) -> None:
    """Names and values that TOML and JSON have to escape come back as they were."""
    odd = ['"quoted"', "new\nline", "täb\there", "a = b", "[x]", "🙂"]
    rows = [{'na.me "1"': odd[i % 6], "numbers": i / 3 if i else None, "t": bool(i % 2)} for i in range(24)]
    made = table.fit(PLAIN, split_of(rows))[0]
    text = json.dumps({"preprocessing": describe(made)})
    assert preprocessing_of(json.loads(text)) == made
    assert from_description(json.loads(text)["preprocessing"]) == made
    weights = Weights("tabular_resnet.mine", "tabular_resnet", f"file:{tmp_path}/x.safetensors", preprocessing=made)
    add_weights(tmp_path / "registry.toml", weights)
    found = ledger.read(tmp_path / "registry.toml")
    again = found.weights["tabular_resnet.mine"]
    assert again.preprocessing == made
    one, other = TableReader(made, made.input_size[0]), TableReader(again.preprocessing, made.input_size[0])
    np.testing.assert_array_equal(read(one, rows), read(other, rows))


def _without(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda columns: columns.pop(key)  # type: ignore[return-value]


@pytest.mark.parametrize(
    "damage",
    [
        _without("name"), _without("kind"), _without("empty"), lambda one: one.update(kind="date"),
        lambda one: one.update(scale=0), lambda one: one.update(mean=math.nan), lambda one: one.update(empty="no"),
        lambda one: one.update(mean="x"), lambda one: one.update(name=3), lambda one: one.update(values=["a"]),
        lambda one: one.update(kind="category"), lambda one: one.update(kind="category", values=["a", "a"]),
        lambda one: one.update(kind="category", values="ab"), lambda one: one.update(name="savings"),
        lambda one: one.clear(),
    ],
)  # fmt: skip
def test_a_damaged_state_is_refused(damage: Callable[[dict[str, Any]], None]) -> None:
    made = table.fit(PLAIN, split_of(people()[0]))[0]
    extra = json.loads(json.dumps(describe(made)["extra"]))
    damage(extra["columns"][0])
    with pytest.raises(UsageError, match="damaged"):
        reader(Preprocessing(kind="table", input_size=made.input_size, extra=extra), made.input_size[0])


@pytest.mark.parametrize("extra", [{"columns": 3}, {"columns": [3]}, {"columns": [], "left_out": [1]}])
def test_a_state_of_another_form_is_refused(extra: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="damaged"):
        reader(Preprocessing(kind="table", input_size=(3,), extra=extra), 3)


def test_a_reader_that_was_never_fitted_and_one_of_another_width() -> None:
    with pytest.raises(UsageError, match="has not seen a table yet"):
        reader(PLAIN, 3)
    made = table.fit(PLAIN, split_of(people()[0]))[0]
    with pytest.raises(UsageError, match="rows become 7 numbers, but the network takes 8"):
        reader(made, 8)


def test_only_what_needs_fitting_is_fitted() -> None:
    split = split_of(people()[0])
    made = fit_reader(PLAIN, split)[0]
    for one in (None, Preprocessing(), Preprocessing(kind="tensor"), made):
        assert fit_reader(one, split) == (one, [])
    assert fitted_width(Preprocessing()) is None
    assert fitted_width(PLAIN) is None


def test_numbers_without_names_are_taken_as_they_are() -> None:
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("f4")
    from zoo.data.open import open_data

    split = open_data((x, [0, 1, 0, 1, 0])).train
    made, notes = table.fit(PLAIN, split)
    assert made.input_size == (4,)
    assert "taken as they are" in notes[0]
    read_ = TableReader(made, 4)
    np.testing.assert_array_equal(read_(split.raw(2)), x[2])
    assert read_.cells == (0, 1, 2, 3)
    with pytest.raises(DataError, match="a row of 4 numbers is expected"):
        read_({"a": 1.0})
    with pytest.raises(DataError, match="no rows of a table"):
        table.fit(PLAIN, open_data((np.zeros((4, 8, 8), "u1"), [0, 1, 0, 1])).train)


CELLS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.sampled_from(["a", "b", "7", "true"])
)


@given(st.lists(st.fixed_dictionaries({"a": CELLS, "b": CELLS, "c": st.integers(-3, 3)}), min_size=1, max_size=40))
def test_whatever_the_cells_hold(rows: list[dict[str, Any]]) -> None:
    """It is refused as data, or every row becomes finite numbers, and the state is JSON that reads alike."""
    try:
        made, _ = table.fit(PLAIN, split_of(rows))
    except DataError:
        return
    read_ = TableReader(made, made.input_size[0])
    assert read_.check(split_of(rows, name="test")) == [] or any(len(one.values) == table.MOST for one in read_.columns)
    found = read(read_, rows)
    assert np.isfinite(found).all()
    again = from_description(json.loads(json.dumps(read_.describe(), allow_nan=False)))
    np.testing.assert_array_equal(read(TableReader(again, again.input_size[0]), rows), found)
    assert len(read_.names) == len(set(read_.names)) == len(read_.cells) == made.input_size[0]


@pytest.mark.parametrize("raw", [np.zeros((2, 2), "u1"), "some text", 3])
def test_what_is_no_row_is_refused(raw: object) -> None:
    with pytest.raises(DataError, match="a row of a table is expected"):
        fitted(people()[0])(raw)

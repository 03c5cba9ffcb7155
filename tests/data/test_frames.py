"""Tables in memory and Parquet."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path

import numpy as np
import pytest

from zoo.data.open import has_column, open_data
from zoo.data.task import REGRESSION
from zoo.errors import DataError, UsageError

pandas = pytest.importorskip("pandas")
pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

CELLS = {"age": [30, None, 41], "job": ["a", None, "b"], "risk": ["low", "high", "low"]}


def frame():
    return pandas.DataFrame(CELLS, index=[10, 20, 30])


class TestPandas:
    def test_a_column_is_the_target(self) -> None:
        data = open_data(frame(), label="risk")
        assert data.classes == ("high", "low")
        assert data.train.raw(1) == {"age": None, "job": None}
        assert data.train.raw(0) == {"age": 30.0, "job": "a"}
        assert data.train.location(1) == "the DataFrame, row 20"

    def test_labels_beside_it(self) -> None:
        x = frame().drop(columns="risk")
        for labels in (frame()["risk"], CELLS["risk"], np.array(CELLS["risk"])):
            data = open_data((x, labels))
            assert (data.classes, data.train.raw(2)) == (("high", "low"), {"age": 41.0, "job": "b"})

    def test_the_target_left_among_the_columns(self) -> None:
        made = pandas.DataFrame({"age": range(30), "risk": ["low", "high", "high"] * 10})
        with pytest.raises(DataError, match="the DataFrame: column risk is a copy of the target y"):
            open_data((made, made["risk"]))
        made["code"] = (made["risk"] == "low").astype(int)
        with pytest.raises(DataError, match="the DataFrame: column code is a copy of the target y"):
            open_data((made.drop(columns="risk"), made["code"].to_numpy()))
        (note,) = open_data((made.drop(columns="risk"), made["risk"])).notes
        assert "column code gives the target y away" in note
        wide = np.stack([made["code"], 1 - made["code"]], axis=1)
        assert open_data((made[["age"]], wide)).task.kind == "multi-label"

    def test_types_of_its_own(self) -> None:
        made = pandas.DataFrame(
            {
                "whole": pandas.array([1, None, 3], dtype="Int64"),
                "kind": pandas.Categorical(["u", None, "v"]),
                "truth": pandas.array([True, None, False], dtype="boolean"),
                "label": [0.5, 1.0, 2.0],
            }
        )
        data = open_data(made)
        assert data.task.kind == REGRESSION
        assert [data.train.raw(row) for row in range(3)] == [
            {"whole": 1, "kind": "u", "truth": True},
            {"whole": None, "kind": None, "truth": None},
            {"whole": 3, "kind": "v", "truth": False},
        ]
        when = pandas.DataFrame({"when": pandas.to_datetime(["2020-01-01", "2021-01-01"]), "label": [0, 1]})
        with pytest.raises(DataError, match="the DataFrame, row 0, column when: a Timestamp is no cell"):
            open_data(when)

    def test_columns_there_twice(self) -> None:
        twice = pandas.DataFrame([[1, 2, 0], [1, 3, 1]], columns=["a", "a", "label"])
        with pytest.raises(DataError, match="the DataFrame: the column a is there twice"):
            open_data(twice)

    def test_numbers_for_a_network_that_takes_tensors(self) -> None:
        x = pandas.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
        data = open_data((x, [0, 1]), kind="tensor")
        assert data.train.raw(1).tolist() == [2.0, 4.0]

    def test_texts(self) -> None:
        data = open_data((pandas.Series(["a b", "c"]), [0, 1]), kind="text")
        assert data.train.raw(0) == "a b"


class TestArrow:
    def test_tables_and_files_are_the_same(self, tmp_path: Path) -> None:
        table = pyarrow.table(CELLS)
        parquet.write_table(table, tmp_path / "t.parquet")
        opened = [open_data(source, label="risk") for source in (table, tmp_path / "t.parquet", frame())]
        assert len({data.fingerprint() for data in opened}) == 1
        assert opened[0].train.location(1) == "the Table, row 1"
        assert opened[1].train.location(1) == f"{tmp_path / 't.parquet'}, row 1"
        assert has_column(tmp_path / "t.parquet", "JOB")
        assert not has_column(table, "bank")

    def test_what_gives_itself_as_arrow(self) -> None:
        class Own:
            columns = list(CELLS)

            def __arrow_c_stream__(self, requested=None):
                return pyarrow.table(CELLS).__arrow_c_stream__(requested)

        data = open_data(Own(), label="risk")
        assert data.train.raw(0) == {"age": 30, "job": "a"}

    def test_damaged_files(self, tmp_path: Path) -> None:
        (tmp_path / "t.parquet").write_bytes(b"PAR1 no PAR1")
        with pytest.raises(DataError, match=r"t\.parquet cannot be read as Parquet"):
            open_data(tmp_path / "t.parquet")

    def test_without_the_package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        real = builtins.__import__

        def without(name: str, *args, **kwargs):
            if name.partition(".")[0] == "pyarrow":
                raise ImportError(name)
            return real(name, *args, **kwargs)

        (tmp_path / "t.parquet").write_bytes(b"PAR1")
        monkeypatch.setattr(builtins, "__import__", without)
        with pytest.raises(UsageError, match="Parquet files need the package pyarrow"):
            open_data(tmp_path / "t.parquet")


class TestRowsInMemory:
    def test_one_and_several(self) -> None:
        rows = [{"age": 3, "job": "a"}, {"age": None, "job": "b"}]
        assert open_data(rows, labelled=False).held_out.raw(1) == rows[1]
        assert open_data(rows[0], labelled=False).held_out.raw(0) == rows[0]
        assert open_data(tuple(rows), labelled=False).held_out.raw(0) == rows[0]
        assert open_data((rows, [0, 1])).train.targets.tolist() == [0, 1]
        data = open_data([{**row, "y": name} for row, name in zip(rows, "no", strict=True)], label="y")
        assert (data.classes, data.train.raw(0)) == (("n", "o"), rows[0])

    def test_ragged_ones(self) -> None:
        with pytest.raises(DataError, match="the rows, row 1: no 'job', which row 0 has"):
            open_data([{"age": 3, "job": "a"}, {"age": 3}], labelled=False)
        with pytest.raises(DataError, match="the column name 3 is no text"):
            open_data([{3: 1}], labelled=False)

    def test_labels_of_another_length(self) -> None:
        with pytest.raises(DataError, match="2 samples, but 1 labels"):
            open_data(([{"a": 1}, {"a": 2}], [0]))


def test_a_label_without_columns_is_a_slip(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no column 'y' of the target"):
        open_data((np.zeros((2, 3)), [0, 1]), label="y")
    with pytest.raises(UsageError, match="there is no column 'y' of the target"):
        open_data(tmp_path, label="y")


def test_nothing_of_it_is_imported_for_other_data() -> None:
    import subprocess

    code = "import sys; from zoo.data.open import open_data; open_data('digits'); print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pandas", "pyarrow", "datasets", "torch"} & set(found)

"""Records: what cells mean, and errors that name file, row and column."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import zoo
from zoo.data.open import open_data
from zoo.data.records import BOOLEAN, EMPTY, INTEGER, NUMBER, TEXT, column_names, read_records
from zoo.data.task import CLASSES, MULTI_LABEL, REGRESSION, Task
from zoo.errors import DataError


@pytest.fixture
def write(tmp_path: Path):
    def file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return file


class TestWrittenCells:
    """CSV holds text: what it means is told from all cells of a column."""

    @pytest.mark.parametrize(
        ("cells", "kind", "read"),
        [
            (["3", "-4", ""], INTEGER, [3, -4, None]),
            (["3", "4.5"], NUMBER, [3.0, 4.5]),
            (["1e3", ".5", "2."], NUMBER, [1000.0, 0.5, 2.0]),
            (["true", "False", ""], BOOLEAN, [True, False, None]),
            (["007", "12"], TEXT, ["007", "12"]),  # a code: its zeros mean something
            (["1_000", "2"], TEXT, ["1_000", "2"]),
            (["0", "1", "2", "3+"], TEXT, ["0", "1", "2", "3+"]),
            (["a", "", "NA"], TEXT, ["a", None, "NA"]),  # among words NA is a word
            (["", ""], EMPTY, [None, None]),
            (["99999999999999999999", "1"], NUMBER, [1e20, 1.0]),
            (["infinity", "1"], TEXT, ["infinity", "1"]),
            (["٣", "1"], TEXT, ["٣", "1"]),
        ],
    )
    def test_types(self, write, cells, kind, read) -> None:
        column = read_records(write("t.csv", "\n".join(["x,y", *(f"{cell},1" for cell in cells)]))).column("x")
        assert (column.type, list(column.cells)) == (kind, read)
        assert [type(cell) for cell in column.cells] == [type(cell) for cell in read]

    def test_marks_of_missing_numbers_are_read_as_empty_and_said(self, write) -> None:
        column = read_records(write("t.csv", "x\n1\nNA\n?\n2\nNA\n")).column("x")
        assert list(column.cells) == [1, None, None, 2, None]
        assert "'?', 'NA' in 3 cells" in column.note

    def test_numbers_and_words_in_one_column_are_words_and_said(self, write) -> None:
        column = read_records(write("t.csv", "x\n1\nNA\n3+\n")).column("x")
        assert column.type == TEXT
        assert "2 of 3 cells are no numbers, the first is '3+' in row 4" in column.note

    def test_rows_are_those_of_a_spreadsheet(self, write) -> None:
        records = read_records(write("t.csv", 'a,b\n"two\nlines",1\n\nx,2\n'))
        assert [records.location(row) for row in (0, 1)] == [f"{records.where}, row 2", f"{records.where}, row 4"]
        assert records.cells["a"] == ("two\nlines", "x")

    def test_separators_that_only_python_takes_for_line_ends(self, write) -> None:
        records = read_records(write("t.csv", "a,b\none\u2028two\x0b,1\nx\x85,2\n"))
        assert records.cells["a"] == ("one\u2028two\x0b", "x\x85")

    def test_tabs(self, write) -> None:
        records = read_records(write("t.tsv", 'a\tb\n1,5\tx "y"\n'))
        assert records.cells == {"a": ("1,5",), "b": ('x "y"',)}

    def test_a_long_text_and_the_limit_of_others(self, write) -> None:
        before = csv.field_size_limit()
        data = open_data(write("t.csv", f"text,label\n{'ab ' * 100_000},1\nshort,0\n"))
        assert len(data.train.raw(0)) == 300_000
        assert csv.field_size_limit() == before


TABLE = "age,job,label\n"


class TestErrors:
    """One message a fault: file, row and column."""

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("t.csv", b"text,label\ngood,1\nb\xe4d,0\n", r"t\.csv is not UTF-8: byte 0xe4 at position 19, in line 3"),
            ("t.csv", b"\xef\xbb\xbftext,label\n\xff,1\n", "byte 0xff at position 14, in line 2"),
            ("t.csv", "text,label\na,1\n".encode("utf-16"), "not UTF-8, but UTF-16"),
            ("t.jsonl", b'{"text": "\xff"}', r"t\.jsonl is not UTF-8: byte 0xff at position 10, in line 1"),
            ("t.csv", f"{TABLE}3,a\n", r"t\.csv, row 2: 2 cells, but the header has 3"),
            ("t.tsv", "a\tlabel\n3\n", r"t\.tsv, row 2: 1 cells"),
            ("t.csv", 'text,label\nx,1\n"open,1\n', r"t\.csv, row 3: not CSV"),
            ("t.csv", f"{TABLE}3,a,\n", r"t\.csv, row 2, column label: the cell is empty"),
            ("t.csv", "age,job\n3,a\n", r"t\.csv, row 1: no column label"),
            ("t.csv", "age;job;label\n3;a;1\n", r"t\.csv, row 1: no column label"),
            ("t.csv", "a,a,label\n1,2,x\n1,2,y\n", r"t\.csv, row 1: the column a is there twice"),
            ("t.csv", "Label,a,label\n1,2,x\n1,2,y\n", r"t\.csv, row 1: the column label is there twice"),
            ("t.csv", ",a,label\n0,2,x\n1,2,y\n", r"t\.csv, row 1: column 1 has no name"),
            ("t.csv", "label\nx\ny\n", "no column is left to learn from"),
            ("t.csv", f"{TABLE}3,a,x\n4,b,x\n", "only one class, 'x'"),
            ("t.csv", TABLE, "t is empty"),
            ("t.jsonl", "\n", r"t\.jsonl is empty: it has no rows"),
            ("t.csv", "y,copy,label\n1,b,b\n2,a,a\n", r"t\.csv, row 1: column copy is a copy of the target label"),
            ("t.csv", "text,label\n ,1\nb,0\n", "1 of 2 texts cannot be read"),
            ("t.jsonl", '{"a": 1, "label": 1}\n\n{"a": 1}\n', r"t\.jsonl, line 3: no 'label', which line 1 has"),
            ("t.jsonl", '{"a": 1, "label": 1}\n{"a": 1, "label": 0, "b": 2}\n', r"line 2: a 'b', which line 1 has not"),
            ("t.jsonl", '{"a": 1, "label": 1}\n{"a": 1, label: 0}\n', r"t\.jsonl, line 2: not JSON: .* \(column 10\)"),
            ("t.jsonl", '{"a": 1, "a": 2}\n', "line 1: not JSON that can be read"),
            ("t.jsonl", f'{{"a": {"[" * 10_000}', "line 1: not JSON"),
            ("t.jsonl", f'{{"a": {"9" * 5_000}}}', "line 1: not JSON that can be read"),
            ("t.jsonl", "[1]\n", "line 1: a list, where an object is expected"),
            ("t.jsonl", '{"": 1, "label": 0}\n', "line 1: a key without a name"),
            (
                "t.jsonl",
                '{"a": 1, "label": 1}\n{"a": "x", "label": 0}\n',
                r"t\.jsonl, line 2, column a: 'x' is a text, but 1 in line 1 is a number",
            ),
            ("t.jsonl", '{"a": true, "label": 1}\n{"a": 2, "label": 0}\n', "line 2, column a: 2 is a number, but True"),
            ("t.jsonl", '{"a": {"b": 1}, "label": 1}\n', "line 1, column a: a dict is no cell of a table"),
            ("t.jsonl", '{"a": [1], "label": 1}\n', "line 1, column a: a list is no cell of a table"),
            ("t.jsonl", '{"a": ["x"], "label": 1}\n', "line 1, column a: a list is no cell of a table"),
            ("t.jsonl", '{"a": Infinity, "label": 1}\n', "line 1, column a: inf is no finite number"),
            ("t.jsonl", '{"a": 99999999999999999999, "label": 1}\n', "line 1, column a: a number beyond 64 bits"),
            ("t.jsonl", '{"text": "\\ud800", "label": 1}\n', "line 1, column text: half a character"),
            ("t.jsonl", '{"text": 3, "label": 1}\n{"text": 4, "label": 0}\n', "line 1, column text: 3 is no text"),
            ("t.jsonl", '{"a": 1, "label": null}\n', "line 1, column label: the cell is empty"),
        ],
    )
    def test_it_says_where(self, write, name, content, said) -> None:
        with pytest.raises(DataError, match=said):
            open_data(write(name, content))

    def test_a_file_that_cannot_be_read(self, write, monkeypatch) -> None:
        file = write("t.csv", TABLE)

        def refused(self):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "read_bytes", refused)
        with pytest.raises(DataError, match=r"t\.csv cannot be read") as caught:
            open_data(file)
        assert caught.value.why == "Permission denied"

    def test_the_row_of_an_empty_text(self, write) -> None:
        file = write("t.csv", "text,label\na,1\n\t,1\nb,0\n")
        with pytest.raises(DataError) as caught:
            open_data(file)
        assert f"{file}, row 3, column text: the text is empty" in caught.value.why
        data = open_data(file, skip_bad=True)
        assert data.train.rows.tolist() == [0, 2]
        assert data.notes == ("1 unreadable texts left out: t.csv, row 3, column text",)

    def test_how_to_name_the_target(self, write) -> None:
        file = write("t.csv", "age,job,risk\n3,a,good\n4,b,bad\n")
        with pytest.raises(DataError) as caught:
            open_data(file)
        assert "--label COLUMN" in caught.value.hint
        assert "age, job, risk" in caught.value.why
        with pytest.raises(DataError, match="no column rsk"):
            open_data(file, label="rsk")
        assert open_data(file, label="risk").classes == ("bad", "good")

    @pytest.mark.parametrize(
        ("name", "kind", "labelled", "said", "hint"),
        [
            ("t.json", None, True, "neither a folder nor", "one object a line"),
            ("t.xlsx", "table", False, "is no file of rows of a table", "Save it as CSV"),
            ("t.csv.gz", "table", False, "is no file of rows of a table", "Unpack it"),
            ("t.md", "text", False, "is no file of texts", "Texts end in .txt"),
            ("t.dat", None, True, "neither a folder nor", "Give a folder"),
        ],
    )
    def test_files_that_others_read(self, write, name, kind, labelled, said, hint) -> None:
        file = write(name, b"\x00")
        for source in (file, str(file)) if labelled else (file, [file]):
            with pytest.raises(DataError, match=said) as caught:
                open_data(source, kind=kind, labelled=labelled)
            assert hint in caught.value.hint

    def test_a_first_row_of_data(self, write) -> None:
        with pytest.raises(DataError, match="no column label") as caught:
            open_data(write("t.csv", "A11,6,1\nA12,48,2\n"))
        assert "The first row must name the columns" in caught.value.hint

    def test_names_of_files_alone_are_no_table(self, write) -> None:
        with pytest.raises(DataError, match="no column path"):
            open_data(write("t.csv", "file,label\na.jpg,1\nb.jpg,0\n"))


class TestTables:
    def test_rows_are_mappings_without_target_split_and_group(self, write) -> None:
        text = "Age,job,risk,Split,bank\n30,a,good,train,x\n,b,bad,train,y\n41,,good,test,z\n"
        data = open_data(write("t.csv", text), label="risk", group_by="BANK")
        assert {name: len(split) for name, split in data.splits.items()} == {"train": 2, "test": 1}
        assert data.train.samples.kind == "table"
        assert data.train.raw(1) == {"Age": None, "job": "b"}
        assert data.splits["test"].raw(0) == {"Age": 41, "job": None}
        assert data.train.samples.columns["Age"].type == INTEGER
        assert data.train.groups_named() == {"x", "y"}
        assert data.train.location(1).endswith("t.csv, row 3")

    def test_a_row_has_one_digest_whatever_file_it_is_in(self, write) -> None:
        a = open_data(write("a.csv", "n,w,label\n3,x,1\n4,y,0\n")).train
        b = open_data(write("b.jsonl", '{"w": "x", "n": 3.0, "label": 1}\n{"w": "y", "n": 4.5, "label": 0}\n')).train
        assert a.digest(0) == b.digest(0) != a.digest(1)
        assert a.digest(1) != b.digest(1)

    def test_text_and_number_are_not_the_same_cell(self, write) -> None:
        a = open_data(write("a.jsonl", '{"n": 3}\n{"n": 4}\n'), labelled=False).train
        b = open_data(write("b.jsonl", '{"n": "3"}\n{"n": "4"}\n'), labelled=False).train
        assert a.digest(0) != b.digest(0)

    def test_a_column_that_gives_the_target_away_is_said(self, write) -> None:
        file = write("t.csv", "a,yes,label\n1,ja,good\n2,nein,bad\n2,ja,good\n")
        (note,) = open_data(file).notes
        assert "column yes gives the target label away ('ja' is 'good', 'nein' is 'bad')" in note
        assert open_data(file, task_classes=("bad", "good")).notes == ()  # rows to be judged by may be few

    def test_a_copy_in_numbers_is_sure_in_many_rows_alone(self, write) -> None:
        few = write("t.csv", "a,b,label\n" + "".join(f"{i},{i % 2},{i % 2}\n" for i in range(6)))
        (note,) = open_data(few).notes
        assert "column b gives the target label away" in note
        many = write("t.csv", "a,b,label\n" + "".join(f"{i},{i % 2},{i % 2}\n" for i in range(20)))
        with pytest.raises(DataError, match="row 1: column b is a copy of the target label"):
            open_data(many)

    def test_columns_that_say_nothing_are_named(self, write) -> None:
        file = write("t.csv", "gone,age,label\n" + "".join(f",{30 + i % 7},{'ab'[i % 2]}\n" for i in range(40)))
        learner = zoo.compose("tabular_resnet", "knn", weights=None, accelerator="cpu").fit(file)
        assert any("'gone' is left out: it is empty in every row" in note for note in learner.notes)
        assert any("'gone' is left out: it is empty in every row" in note for note in zoo.audit(file).notes)

    def test_one_row_under_two_labels_is_noted(self, write) -> None:
        (note,) = open_data(write("t.csv", "a,b,label\n1,x,good\n1,x,bad\n2,x,bad\n")).notes
        assert "row 2 (good)" in note
        assert "row 3 (bad)" in note

    def test_kinds_of_targets(self, write) -> None:
        assert open_data(write("t.csv", "a,label\n1,red|blue\n2,red\n")).task == Task(MULTI_LABEL, ("blue", "red"))
        assert open_data(write("t.csv", "a,label\n1,0.5\n2,3\n")).task.kind == REGRESSION
        several = open_data(write("t.jsonl", '{"a": 1, "label": ["red", "blue"]}\n{"a": 2, "label": ["red"]}\n'))
        assert several.train.targets.tolist() == [[1, 1], [0, 1]]
        assert open_data(write("t.jsonl", '{"a": 1, "label": 0.5}\n{"a": 2, "label": 3}\n')).task.kind == REGRESSION
        truth = open_data(write("t.jsonl", '{"a": 1, "label": true}\n{"a": 2, "label": false}\n'))
        assert truth.task == Task(CLASSES, ("False", "True"))
        known = open_data(write("t.jsonl", '{"a": 1, "label": 2}\n'), task_classes=Task(REGRESSION, ("0",)))
        assert known.train.targets.tolist() == [[2.0]]

    def test_without_labels(self, write) -> None:
        file = write("t.csv", "a,risk\n1,good\n2,\n")
        data = open_data(file, label="risk", labelled=False)
        assert data.task is None
        assert data.held_out.raw(1) == {"a": 2}
        one = open_data(write("one.csv", "a,risk\n1,good\n"), label="risk", labelled=False)
        assert one.held_out.raw(0) == {"a": 1}
        assert open_data(write("none.csv", "a\n1\n"), label="risk", labelled=False).held_out.raw(0) == {"a": 1}


class TestKinds:
    def test_texts_where_there_is_a_column_text(self, write) -> None:
        data = open_data(write("t.csv", 'text,stars,label\n"Good, really",5,1\nbad,1,0\n'))
        assert data.train.samples.kind == "text"
        assert data.train.raw(0) == "Good, really"
        assert data.train.location(1).endswith("t.csv, row 3, column text")

    def test_the_only_column_of_words_will_do_for_texts(self, write) -> None:
        file = write("t.csv", "review,stars,label\ngood,5,1\nbad,1,0\n")
        assert open_data(file).train.samples.kind == "table"
        assert open_data(file, kind="text").train.raw(1) == "bad"
        with pytest.raises(DataError, match="row 1: no column text"):
            open_data(write("t.csv", "a,b,label\nx,y,1\nx,z,0\n"), kind="text")

    def test_a_column_text_beside_others_is_a_cell_of_a_table(self, write) -> None:
        file = write("t.csv", "text,stars,label\ngood,5,1\nbad,1,0\n")
        assert open_data(file, kind="table").train.raw(0) == {"text": "good", "stars": 5}

    @pytest.mark.parametrize(
        ("content", "kind", "said"),
        [
            ("text,label\na,1\nb,0\n", "image", "holds texts, but the backbone takes pictures"),
            ("text,label\na,1\nb,0\n", "table", "holds texts, but the backbone takes rows of a table"),
            ("text,label\na,1\nb,0\n", "tensor", "holds texts, but the backbone takes tensors"),
            ("a,label\n1,1\n2,0\n", "audio", "holds rows of a table, but the backbone takes recordings"),
        ],
    )
    def test_another_kind_is_refused(self, write, content, kind, said) -> None:
        with pytest.raises(DataError, match=said):
            open_data(write("t.csv", content), kind=kind)


def test_the_header_alone(write) -> None:
    assert column_names(write("a.csv", "\ufeffx, y\n1,2\n")) == ["x", "y"]
    assert column_names(write("a.tsv", "x\ty\n")) == ["x", "y"]
    assert column_names(write("a.jsonl", '\n{"x": 1, "y": 2}\n')) == ["x", "y"]
    for name, content in (("b.jsonl", "nothing"), ("b.jsonl", "[" * 10_000), ("b.parquet", "nothing"), ("b.csv", "")):
        assert column_names(write(name, content)) == []


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=6))
def test_what_csv_and_json_write_is_read_back(tmp_path_factory, rows) -> None:
    folder = tmp_path_factory.mktemp("t")
    kept = [row for row in rows if any(cell.strip() for cell in row)]
    with (folder / "t.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("a", "b"), *rows])
    records = read_records(folder / "t.csv")
    assert list(zip(records.cells["a"], records.cells["b"], strict=True)) == kept
    lines = "".join(json.dumps({"a": a, "b": b}, ensure_ascii=False) + "\n" for a, b in rows)
    (folder / "t.jsonl").write_text(lines, encoding="utf-8", newline="")
    records = read_records(folder / "t.jsonl")
    assert list(zip(records.cells["a"], records.cells["b"], strict=True)) == rows

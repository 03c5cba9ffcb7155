"""Pages of one file: nothing of the data is markup or code, and only a page of ours is written over."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from zoo.errors import UsageError
from zoo.report.page import MARK, as_script, check_place, number, write_page

HOSTILE = "</script><script>alert(1)</script><!-- \u2028 & 'a' \"b\""


def test_json_cannot_end_its_script_and_is_what_it_was() -> None:
    text = str(as_script({"name": HOSTILE}))
    assert not re.search(r"[<>&\u2028]", text)
    assert json.loads(text) == {"name": HOSTILE}


def test_numbers_that_are_not_finite_are_no_json() -> None:
    with pytest.raises(ValueError, match="JSON"):
        as_script([float("nan")])


def test_only_a_page_of_ours_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "deep" / "page.html"
    write_page(page, f'<html>{MARK}1">one')
    write_page(page, f'<html>{MARK}1">two')
    assert page.read_text().endswith("two")
    other = tmp_path / "thesis.html"
    other.write_text("three years of work")
    for place in (other, tmp_path):
        with pytest.raises(UsageError):
            check_place(place)
        with pytest.raises(UsageError):
            write_page(place, "x")
    assert other.read_text() == "three years of work"
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]


def test_a_name_that_is_no_text_is_written(tmp_path: Path) -> None:
    page = write_page(tmp_path / "page.html", "caf\udce9.jpg")  # as Python spells a file name of other bytes
    assert page.read_bytes() == b"caf\\udce9.jpg"


def test_numbers_are_written_for_people() -> None:
    assert (number(0.12345), number(12345), number(None), number(2.0, 1)) == ("0.123", "12,345", "-", "2.0")

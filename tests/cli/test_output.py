"""Text from data gives no orders to the terminal."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from zoo.cli.output import Output, table_of, visible

EVIL = "a\x1b[31mb\x1b]0;c\x07d\x9b1me\r\udcff"
SHOWN = r"a\x1b[31mb\x1b]0;c\x07d\x9b1me\r\udcff"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_controls_are_shown_and_lines_stay_lines() -> None:
    assert visible(EVIL) == SHOWN
    assert visible("one\ttwo\nthree \u00e9 \u4e2d") == "one\ttwo\nthree \u00e9 \u4e2d"


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_no_way_to_print_sends_a_control_of_the_data(
    stream: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    out = Output()
    out.stream = stream()

    def draw(console: Any) -> None:
        console.print(EVIL)
        table = table_of("name")
        table.add_row(EVIL)
        console.print(table)

    out.data(None, draw)
    out.table(None, ("name",), [(EVIL,)], cut=False)
    text = out.stream.getvalue()
    # Bold titles are the house's own, and NO_COLOR allows them.
    assert not [one for one in text.replace("\x1b[1m", "").replace("\x1b[0m", "") if one != "\n" and ord(one) < 32]
    assert "\x9b" not in text
    assert text.count(r"a\x1b[31mb\x1b]0;c") == 3
    out.echo(EVIL)
    assert out.stream.getvalue().endswith(f"{SHOWN}\n")
    out.note(EVIL)
    out.error("data", EVIL, EVIL, None, [EVIL])
    err = capsys.readouterr().err
    assert err.count("a\\x1b[31mb") == 4
    assert "\x1b" not in err
    assert "\x07" not in err


def test_json_is_as_it_was() -> None:
    out = Output(json=True)
    out.stream = io.StringIO()
    out.data({"name": EVIL}, lambda console: None)
    text = out.stream.getvalue()
    assert json.loads(text) == {"name": EVIL}
    text.encode("utf-8")

"""Progress without a terminal: few lines, none for what is done soon."""

from __future__ import annotations

import pytest

from zoo.cli.lines import Lines
from zoo.cli.output import Output


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_is_done_soon_is_not_spoken_of() -> None:
    said: list[str] = []
    clock = Clock()
    told = Lines(said.append, clock=clock)
    for done in range(10):
        clock.now += 0.9
        told("features", done, 9)
    assert said == []


def test_a_line_now_and_then_rarer_and_rarer() -> None:
    said: list[str] = []
    clock = Clock()
    told = Lines(said.append, clock=clock)
    for done in range(1201):
        told("features", done, 1200)
        clock.now += 1
    assert said == [
        "features: 10 of 1,200, 1.0/s, 19:50 left",
        "features: 30 of 1,200, 1.0/s, 19:30 left",
        "features: 70 of 1,200, 1.0/s, 18:50 left",
        "features: 150 of 1,200, 1.0/s, 17:30 left",
        "features: 310 of 1,200, 1.0/s, 14:50 left",
        "features: 610 of 1,200, 1.0/s, 9:50 left",
        "features: 910 of 1,200, 1.0/s, 4:50 left",
        "features: 1,200 of 1,200 in 20:00",
    ]


def test_bytes_of_unknown_total_and_work_that_goes_on() -> None:
    said: list[str] = []
    clock = Clock()
    told = Lines(said.append, bytes=True, clock=clock)
    told("tiny", 5_000_000, 0)
    clock.now = 20.0
    told("tiny", 45_000_000, 0)
    clock.now = 4000.0
    told("other", 0, 100)
    clock.now = 8000.0
    told("other", 1, 100)
    assert said == ["tiny: 45.0 MB, 2.0 MB/s", "other: 0 B of 100 B", "other: 1 B of 100 B, 0 B/s, 110:00:00 left"]


@pytest.mark.parametrize(("how", "lines"), [({}, 1), ({"quiet": True}, 0), ({"json": True}, 0)])
def test_where_lines_are_said(
    how: dict[str, bool], lines: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.cli.lines.FIRST", 0.0)
    with Output(**how).progress() as told:
        if told:
            told("features", 1, 3)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("features: 1 of 3") == lines

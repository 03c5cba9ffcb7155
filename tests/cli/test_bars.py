"""Progress says how fast and how long, also of a fit that goes on in its midst."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from zoo.cli.bars import bars


@pytest.mark.parametrize("start", [0, 60])
def test_rate_and_time_left(start: int) -> None:
    """Half a second a step: what an earlier process did counts for nothing."""
    now = 0.0
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120, get_time=lambda: now, color_system=None)
    with bars(console) as told:
        for step in range(start, start + 21):
            told("train", step, 200)
            now += 0.5
    last = screen.getvalue().rsplit("train", 1)[1]
    left = round((200 - start - 20) / 2)
    assert f"{start + 20}/200" in last
    assert "2.0/s" in last
    assert f"0:{left // 60:02}:{left % 60:02}" in last


def test_what_is_done_is_gone() -> None:
    screen = io.StringIO()
    with bars(Console(file=screen, force_terminal=True, width=120)) as told:
        told("features", 0, 2), told("features", 2, 2), told("train", 0, 5)
    assert "features" not in screen.getvalue().rsplit("train", 1)[1]

"""Scales and ticks of charts."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.report.charts import Axis, Chart, Line, linear, logarithmic, shape


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=20))
def test_round_ticks_hold_all_values(values: list[float]) -> None:
    axis = linear(values)
    places = [place for place, _ in axis.ticks]
    slack = 1e-9 * (axis.high - axis.low)
    assert axis.low - slack <= min(values) <= max(values) <= axis.high + slack
    assert 2 <= len(places) <= 8
    assert places == sorted(set(places))
    steps = [b - a for a, b in pairwise(places)]
    assert max(steps) == pytest.approx(min(steps), rel=1e-6)


def test_ticks_are_the_numbers_that_they_say() -> None:
    assert [text for _, text in linear([0.0, 1.0]).ticks] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert [text for _, text in linear([0, 12_000]).ticks] == ["0", "5,000", "10,000", "15,000"]
    assert linear([3.0, 5.0], zero=True).low == 0
    assert linear([2.0, 2.0]).low < 2 < linear([2.0, 2.0]).high
    assert linear([math.nan, 1.0, math.inf]).high >= 1


def test_powers_of_ten_are_ticks() -> None:
    axis = logarithmic([2e5, 3e8], units=((1e6, "M"), (1e3, "k")))
    assert [text for _, text in axis.ticks] == ["1 M", "10 M", "100 M"]
    assert 0 < axis.at(2e5) < axis.at(1e6) < axis.at(3e8) < 1
    assert axis.at(1e7) - axis.at(1e6) == pytest.approx(axis.at(1e8) - axis.at(1e7))


def test_a_line_is_drawn_upwards_and_inside() -> None:
    chart = Chart("t", "w", Axis(0, 10, ()), Axis(0, 1, ()), width=100, height=50, margins=(10, 10, 0, 0))
    assert chart.path(Line([(0, 0), (10, 1)])) == "M10.0 40.0 L100.0 0.0"
    assert chart.py(7) == 0.0  # what is outside lies on the edge


def test_32_series_look_different() -> None:
    from zoo.report.charts import colour

    assert len({(colour(i), shape(i, 0, 0)) for i in range(32)}) == 32

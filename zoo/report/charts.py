"""The geometry of plain charts. The templates draw them as SVG in the colours of the page, so that dark mode holds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

#: Colours that are told apart on light and dark, and with the shapes also without colour (see style.css, `--s0` ...).
COLOURS: Final = 8
_SHAPES: Final = 4
#: About how many ticks an axis has.
_TICKS: Final = 5
#: By this factor a logarithmic axis goes beyond its values.
_AROUND: Final = 1.5


@dataclass(frozen=True)
class Axis:
    """A scale from numbers to 0 .. 1.

    Attributes:
        low, high: ends of the scale.
        ticks: (value, text).
        label: what it shows.
        logarithmic: whether equal steps are equal factors.
    """

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    label: str = ""
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """0 at `low`, 1 at `high`; outside it is cut off."""
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(max(value, 1e-300))
        return min(1.0, max(0.0, (value - low) / (high - low)))


def linear(values: Iterable[float], label: str = "", *, zero: bool = False) -> Axis:
    """An axis with round ticks around all values; with `zero` it begins at 0 at the latest."""
    known = [float(value) for value in values if math.isfinite(value)] or [0.0]
    low, high = min(known), max(known)
    low = min(low, 0.0) if zero else low
    if high - low <= 1e-12 * max(abs(high), abs(low), 1e-300):
        low, high = low - 0.5, high + 0.5
    step = _round_step((high - low) / _TICKS)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    ticks = tuple(
        (i * step, f"{i * step:,.{digits}f}" if digits < 6 else f"{i * step:.1e}") for i in range(first, last + 1)
    )
    return Axis(first * step, last * step, ticks, label)


def logarithmic(values: Iterable[float], label: str = "", units: Sequence[tuple[float, str]] = ()) -> Axis:
    """An axis with powers of ten for ticks, around all values above 0.

    Args:
        values: numbers above 0.
        label: what it shows.
        units: (size, text), the largest first: (1e6, "M").
    """
    known = [value for value in values if value > 0] or [1.0]
    low, high = min(known) / _AROUND, max(known) * _AROUND
    powers = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    return Axis(low, high, tuple((10.0**i, _with_unit(10.0**i, units)) for i in powers), label, True)


@dataclass(frozen=True)
class Line:
    """Points joined in order.

    Attributes:
        points: (x, y) in the units of the axes.
        name: for the legend.
        colour: of the page's series; None = the axis' grey.
        dashed: for what is only there to compare with.
    """

    points: Sequence[tuple[float, float]]
    name: str = ""
    colour: int | None = 0
    dashed: bool = False


@dataclass(frozen=True)
class Bar:
    """From (x0, y0) to (x1, y1), in the units of the axes."""

    x0: float
    x1: float
    y0: float
    y1: float
    title: str = ""
    colour: int = 0


@dataclass(frozen=True)
class Dot:
    """A mark at (x, y).

    Attributes:
        series: colour and shape; None = grey.
        title: what is said when it is pointed at.
        suspect: whether it is ringed.
        group: what it is hidden and shown with.
    """

    x: float
    y: float
    series: int | None = 0
    title: str = ""
    suspect: bool = False
    group: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart, ready to be drawn.

    Attributes:
        title: what it is, in a few words.
        words: what it shows, for those who cannot see it.
        x, y: the axes.
    """

    title: str
    words: str
    x: Axis
    y: Axis
    lines: Sequence[Line] = ()
    bars: Sequence[Bar] = ()
    dots: Sequence[Dot] = ()
    width: int = 560
    height: int = 300
    #: Space for the numbers of the axes: left, below, above, right.
    margins: tuple[int, int, int, int] = field(default=(52, 44, 12, 14))

    def px(self, value: float) -> float:
        """Pixels from the left."""
        left, _, _, right = self.margins
        return round(left + self.x.at(value) * (self.width - left - right), 1)

    def py(self, value: float) -> float:
        """Pixels from the top."""
        _, below, above, _ = self.margins
        return round(above + (1 - self.y.at(value)) * (self.height - below - above), 1)

    def path(self, line: Line) -> str:
        """The `d` of a line."""
        return " ".join(f"{'L' if i else 'M'}{self.px(x)} {self.py(y)}" for i, (x, y) in enumerate(line.points))

    @property
    def named(self) -> list[Line]:
        """Lines for the legend."""
        return [line for line in self.lines if line.name]


def colour(series: int | None) -> str:
    """The page's colour of a series."""
    return "var(--s8)" if series is None else f"var(--s{series % COLOURS})"


def shape(series: int | None, x: float, y: float, r: float = 3.6) -> str:
    """The `d` of a circle, square, triangle or diamond around (x, y): classes are told apart without colours too."""
    kind = 0 if series is None else (series + series // COLOURS) % _SHAPES
    if kind == 0:
        return f"M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r:.1f} 0a{r} {r} 0 1 0 {-2 * r:.1f} 0z"
    if kind == 1:
        return f"M{x - r:.1f} {y - r:.1f}h{2 * r:.1f}v{2 * r:.1f}h{-2 * r:.1f}z"
    if kind == 2:
        return f"M{x:.1f} {y - 1.2 * r:.1f}l{1.2 * r:.1f} {2.1 * r:.1f}h{-2.4 * r:.1f}z"
    d = round(1.3 * r, 1)
    return f"M{x:.1f} {y - d:.1f}l{d} {d}l{-d} {d}l{-d} {-d}z"


def _round_step(size: float) -> float:
    """1, 2 or 5 times a power of ten, at least `size`."""
    power = 10.0 ** math.floor(math.log10(size))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= size * (1 - 1e-9))


def _with_unit(value: float, units: Sequence[tuple[float, str]]) -> str:
    for size, text in units:
        if value >= size:
            return f"{value / size:g} {text}"
    return f"{value:g}"

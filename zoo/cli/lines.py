"""Progress where no terminal shows bars: a line now and then, so that a log tells waiting from hanging."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from zoo.cli.output import size

#: Seconds until the first line; from one to the next it is twice as long, but no longer than the second of these.
FIRST: Final = 10.0
LONGEST: Final = 300.0


class Lines:
    """Called with (what, done, total), in pieces or in bytes, as bars are. What is done soon is not spoken of.

    Args:
        say: prints a line.
        bytes: whether what is counted are bytes.
        clock: seconds.
    """

    def __init__(
        self, say: Callable[[str], None], *, bytes: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say = say
        self._bytes = bytes
        self._clock = clock
        self._pause = FIRST
        self._last = clock()
        #: what -> when it was first heard of, and how much was done then.
        self._begun: dict[str, tuple[float, int]] = {}
        self._told: set[str] = set()

    def __call__(self, what: str, done: int, total: int) -> None:
        now = self._clock()
        since, first = self._begun.setdefault(what, (now, done))
        ended = 0 < total <= done
        if ended:
            del self._begun[what]
            if what not in self._told:
                return
            self._told.remove(what)
        elif now - self._last < self._pause:
            return
        else:
            self._told.add(what)
            self._pause = min(2 * self._pause, LONGEST)
        self._last = now
        self._say(f"{what}: {self._line(done - first, done, total, now - since, ended)}")

    def _line(self, more: int, done: int, total: int, seconds: float, ended: bool) -> str:
        amount = f"{self._amount(done)} of {self._amount(total)}" if total else self._amount(done)
        if ended:
            return f"{amount} in {_duration(seconds)}"
        if more <= 0 or seconds <= 0:
            return amount
        rate = more / seconds
        left = f", {_duration((total - done) / rate)} left" if total else ""
        return f"{amount}, {self._amount(int(rate)) if self._bytes else f'{rate:.1f}'}/s{left}"

    def _amount(self, count: int) -> str:
        return size(count) if self._bytes else f"{count:,}"


def _duration(seconds: float) -> str:
    """75.2 -> "1:15"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"

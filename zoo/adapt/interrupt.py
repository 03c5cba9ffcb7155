"""Ctrl-C between two steps, not in the midst of one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupt:
    """Whether somebody pressed Ctrl-C."""

    def __init__(self) -> None:
        self.asked = False

    def __bool__(self) -> bool:
        return self.asked


@contextmanager
def held_back(active: bool = True) -> Iterator[Interrupt]:
    """The first Ctrl-C is only noted, so that what is under way can end well; the second is as ever.

    Nothing changes where the caller handles Ctrl-C otherwise than Python does, and outside the main thread.
    """
    found = Interrupt()
    main = threading.current_thread() is threading.main_thread()
    if not active or not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield found
        return

    def note(_: int, __: object) -> None:
        found.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, note)
    try:
        yield found
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)

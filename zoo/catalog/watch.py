"""Say for which plugin everybody waits, while they wait."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Self


class Watch:
    """A thread that names what takes too long. It never ends it: that is for the person, with Ctrl-C.

    Args:
        tell: called from the thread, once for each stretch that passes the deadline, with what was given to `over`.
        deadline: seconds.
        interrupt: also interrupt the main thread, as Ctrl-C would, where it is the one that waits.
    """

    def __init__(self, tell: Callable[[str], None], deadline: float, *, interrupt: bool = False) -> None:
        self._tell: Final = tell
        self._deadline: Final = deadline
        self._interrupt: Final = interrupt
        self._lock: Final = threading.Lock()
        self._end: Final = threading.Event()
        self._what: str | None = None
        self._began = 0.0
        self._late = False
        self._waits = 0
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._waits = threading.get_ident()
        self._thread = threading.Thread(target=self._run, name="zoo-plugin-watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        if self._thread is not None:
            self._thread.join()

    @contextmanager
    def over(self, what: str) -> Iterator[None]:
        """Watch what is done inside."""
        with self._lock:
            self._what, self._began, self._late = what, time.monotonic(), False
        try:
            yield
        finally:
            with self._lock:
                self._what = None

    @property
    def late(self) -> bool:
        """Whether the last stretch passed the deadline."""
        return self._late

    def _run(self) -> None:
        # It looks when the deadline could first have passed; what it watches pays no more than two locks.
        pause = self._deadline
        while not self._end.wait(pause):
            with self._lock:
                left = self._began + self._deadline - time.monotonic()
                if self._what is None or self._late:
                    left = self._deadline
                elif left <= 0:
                    self._late, left = True, self._deadline
                    self._tell(self._what)
                    if self._interrupt and self._waits == threading.main_thread().ident:
                        _interrupt_main()
            pause = max(left, 0.001)


def _interrupt_main() -> None:
    import signal

    if os.name == "posix":
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)  # unlike the other, it ends a sleep
    else:
        import _thread

        _thread.interrupt_main()

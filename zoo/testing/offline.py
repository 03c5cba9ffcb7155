"""A block of code in which no socket may reach out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

#: Audit events of Python's socket module that mean a request to somewhere; the place of the address in their arguments.
EVENTS: Final = {
    "socket.connect": 1,
    "socket.sendto": 1,
    "socket.sendmsg": 1,
    "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0,
    "socket.gethostbyaddr": 0,
}

_asked: Final[list[list[str]]] = []
_installed: Final[list[bool]] = []


class NetworkRefusedError(OSError):
    """A request was tried where none may be."""


@contextmanager
def no_network() -> Iterator[list[str]]:
    """Refuse every request of this process, and list the addresses that were asked for, whoever hides the error.

    Sockets of the file system stay open: processes of one machine talk through them.
    """
    if not _installed:  # an audit hook stays until the process ends, so there is one
        sys.addaudithook(_audit)
        _installed.append(True)
    asked: list[str] = []
    _asked.append(asked)
    try:
        yield asked
    finally:
        _asked.remove(asked)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _asked or event not in EVENTS:
        return
    address = arguments[EVENTS[event]]
    if isinstance(address, (str, bytes)) and event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        return  # a path
    if address is None:
        return
    if event == "socket.getaddrinfo":  # a name and a port
        address = tuple(part for part in arguments[:2] if part is not None)
    named = ":".join(map(str, address[:2])) if isinstance(address, tuple) else str(address)
    for asked in _asked:
        asked.append(named)
    raise NetworkRefusedError(f"no network here, but {named} was asked for")

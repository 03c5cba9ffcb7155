"""HTTP with a policy: https stays https, a token reaches one origin only, waiting has an end."""

from __future__ import annotations

import errno
import http.client
import re
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from zoo.errors import DownloadError

#: Told a sentence that the person who waits should read.
Note = Callable[[str], None]

_MAX_REDIRECTS: Final = 5
_RETRIED: Final = {408, 425, 429}
_NEVER_RETRIED: Final = {501, 505}
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|[0-9a-f:.]{2,45}")
#: Fewer bytes than this within the longest silence are silence too.
_TRICKLE: Final = 4096
#: Who waits is told this often, in seconds.
_SAY_S: Final = 5.0
_NO_NETWORK: Final = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL}


class Broken(Exception):  # noqa: N818  (the caller tries again)
    """An attempt failed in a way that may pass.

    Args:
        why: a phrase for the user.
        wait: what the server asked for, in seconds.
        unreachable: no name was found, or no way to the host: this machine may have no network.
    """

    def __init__(self, why: str, wait: float | None = None, *, unreachable: bool = False) -> None:
        super().__init__(why)
        self.wait, self.unreachable = wait, unreachable


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to keep trying.

    Attributes:
        attempts: attempts in a row without progress.
        total: seconds spent on silent servers and between attempts, all together.
        first: the first wait; each further one doubles.
        longest: the longest wait and the longest silence of a server, in seconds; less than ten, so that nobody sits
            before a silent screen for longer. A server that asks for a longer wait gets it if somebody is told of it
            and the total allows it.
    """

    attempts: int = 5
    total: float = 60.0
    first: float = 0.5
    longest: float = 8.0


class Budget:
    """What is left of the patience for `what`.

    Args:
        note: told every five seconds of waiting what is waited for.
    """

    def __init__(self, patience: Patience, what: str, note: Note | None = None) -> None:
        self.patience, self.what, self.note = patience, what, note
        self.failures = 0
        self.waited = 0.0
        self.silent = 0.0
        self.reached = False

    def progress(self) -> None:
        """Bytes arrived: the next failure is a first one again."""
        self.failures = 0
        self.reached = True

    def again(self, failure: Broken) -> None:
        """An attempt ended that brought bytes: the next may follow at once.

        Raises:
            DownloadError: the silence of all attempts together was too long.
        """
        self.progress()
        if self.waited >= self.patience.total:
            self.give_up(f"{failure}; {self.waited:.0f} s of silence in all")
        if self.note is not None and self.silent >= 1:
            self.note(f"{failure}; trying {self.what} again")
        self.silent = 0.0

    def silence(self, seconds: float) -> None:
        """Time went by without a byte."""
        self.silent = seconds
        self.waited += seconds

    def timeout(self) -> float:
        """How long the next attempt may be silent, in seconds."""
        return max(0.1, min(self.patience.longest, self.patience.total - self.waited))

    def spend(self, failure: Broken) -> None:
        """Wait before the next attempt.

        Raises:
            DownloadError: there is none: too many failures without progress, or too long a wait.
        """
        self.failures += 1
        wait = min(self.patience.first * 2 ** (self.failures - 1), self.patience.longest)
        if failure.wait is not None:
            wait = max(wait, failure.wait)
        if failure.unreachable and not self.reached:
            # One more look, then the truth within a second: a machine without network gets none by waiting.
            if self.failures > 1:
                raise UnreachableError(
                    f"{self.what} cannot be reached",
                    why=str(failure),
                    hint="Check the network, HTTPS_PROXY and HF_ENDPOINT; with --offline only this disk is asked.",
                )
            wait = min(wait, self.patience.first / 2)
        if self.failures >= self.patience.attempts:
            self.give_up(f"{failure}; {self.failures} attempts brought nothing")
        allowed = self.patience.total - self.waited
        if wait > (allowed if self.note is not None else min(self.patience.longest, allowed)):
            self.give_up(f"{failure}; the next attempt would be in {wait:.0f} s")
        self.sleep(wait, str(failure))

    def sleep(self, seconds: float, why: str) -> None:
        """Wait, and say so."""
        self.waited += seconds
        told = self.note if self.silent + seconds >= 1 else None
        self.silent = 0.0
        while seconds > 0:
            if told is not None:
                told(f"{why}; next attempt at {self.what} in {max(1, round(seconds))} s")
            time.sleep(min(seconds, _SAY_S))
            seconds -= _SAY_S
        if told is not None:
            told(f"trying {self.what} again")

    def give_up(self, why: str) -> None:
        """Raise the error that ends the download."""
        raise DownloadError(
            f"cannot download {self.what}",
            why=why,
            hint="Try again later: what arrived is kept, and the download goes on from there.",
        )


class UnreachableError(DownloadError):
    """There is no way to the server: this machine may have no network."""


@dataclass(frozen=True, slots=True)
class Token:
    """A secret, and the only origin that may see it."""

    secret: str
    origin: tuple[str, str, int | None]

    def __repr__(self) -> str:
        return f"Token(for {self.origin[1]})"


def origin(url: str) -> tuple[str, str, int | None]:
    """(scheme, host, port) of an address."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or {"http": 80, "https": 443}.get(parts.scheme)


@contextmanager
def request(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    token: Token | None = None,
    timeout: float,
) -> Iterator[Any]:
    """Send a request and give the reply, whatever its status except those worth another attempt.

    Redirects are followed to https addresses (or, for a plain http endpoint, within its own origin). A HEAD follows
    none that leaves the origin: the reply that redirects carries the answer.

    Args:
        timeout: seconds until the reply's headers are here, redirects included; then the longest silence of its body.

    Raises:
        Broken: it may work at another attempt.
        DownloadError: a redirect that is refused.
    """
    start, ends = origin(url), time.monotonic() + timeout
    for _ in range(_MAX_REDIRECTS):
        sent = {"Accept-Encoding": "identity", "User-Agent": "zoo", **(headers or {})}
        if token is not None and origin(url) == token.origin:
            sent["Authorization"] = f"Bearer {token.secret}"
        wanted = urllib.request.Request(url, headers=sent, method=method)
        reply = _in_time(partial(_send, wanted, timeout), ends - time.monotonic())
        try:
            target = reply.headers.get("Location") if reply.status in (301, 302, 303, 307, 308) else None
            if target is not None:
                target = _allowed(url, target, start)
            if target is None or (method == "HEAD" and origin(target) != start):
                _raise_for_retry(reply)
                yield reply
                return
            url = target
        finally:
            reply.close()
    raise DownloadError(
        f"more than {_MAX_REDIRECTS} redirects from {_printable(url)}",
        hint="Correct the address in the registry entry.",
    )


def chunks(reply: Any, size: int, silence: float) -> Iterator[bytes]:
    """The body as it arrives; `Broken` where it ends with an error, or hardly anything arrives within `silence` s."""
    since, arrived = time.monotonic(), 0
    while True:
        try:
            chunk = reply.read1(size)
        except (OSError, http.client.HTTPException) as error:
            raise _broken(error) from error
        if not chunk:
            return
        yield chunk
        arrived += len(chunk)
        now = time.monotonic()
        if now - since >= silence:
            if arrived < _TRICKLE:
                raise Broken(f"{arrived} bytes within {now - since:.0f} s")
            since, arrived = now, 0


def _in_time(ask: Callable[[], Any], seconds: float) -> Any:
    """What `ask` returns, if it does so in time: a name server or a server that drips its headers may take for ever."""
    guard, done = threading.Lock(), threading.Event()
    found: list[Any] = []
    late = False

    def work() -> None:
        try:
            answer = ask()
        except BaseException as error:
            answer = error
        with guard:
            found.append(answer)
            done.set()
            if late and not isinstance(answer, BaseException):
                answer.close()

    threading.Thread(target=work, daemon=True).start()
    done.wait(max(seconds, 0.01))
    with guard:
        late = not found
    if late:
        raise Broken(f"no answer within {max(seconds, 0):.0f} s")
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


def _send(wanted: urllib.request.Request, timeout: float) -> Any:
    # No handler for files, FTP or data, none that follows redirects, and none that turns a status into an error.
    opener = urllib.request.OpenerDirector()
    handlers = (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        *([urllib.request.HTTPSHandler(context=_tls())] if wanted.type == "https" else ()),
        urllib.request.UnknownHandler(),
    )
    for handler in handlers:
        opener.add_handler(handler)
    try:
        return opener.open(wanted, timeout=timeout)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _broken(error) from error


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if paths.cafile is None and paths.capath is None:  # a Python without certificates of its own
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def _allowed(url: str, location: str, start: tuple[str, str, int | None]) -> str:
    target = urljoin(url, location)
    parts = urlsplit(target)
    plain = parts.scheme == "http" and start[0] == "http" and origin(target) == start
    sound = target.isascii() and target.isprintable() and " " not in target and "@" not in parts.netloc
    if (parts.scheme != "https" and not plain) or not sound or not _HOST.fullmatch(parts.hostname or ""):
        raise DownloadError(
            f"the server of {_printable(url)} redirects to an address that is not taken",
            why=_printable(location),
            hint="Only https addresses are followed.",
        )
    return target


def _raise_for_retry(reply: Any) -> None:
    if reply.status in _RETRIED or (reply.status >= 500 and reply.status not in _NEVER_RETRIED):
        asked = (reply.headers.get("Retry-After") or "").strip()
        wait = float(asked) if re.fullmatch(r"[0-9]{1,9}", asked) else None
        raise Broken(f"the server answered {reply.status}", wait)


def _broken(error: BaseException) -> Broken:
    cause = getattr(error, "reason", None) or error
    said = f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
    lost = isinstance(cause, socket.gaierror) or getattr(cause, "errno", None) in _NO_NETWORK
    return Broken(_printable(said), unreachable=lost)


def _printable(text: str) -> str:
    return ascii(text[:200])[1:-1]

"""HTTP with a policy: https stays https, a token reaches one origin only, waiting has an end."""

from __future__ import annotations

import http.client
import re
import ssl
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from zoo.errors import DownloadError

_MAX_REDIRECTS: Final = 5
_RETRIED: Final = {408, 425, 429, 500, 502, 503, 504}
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|[0-9a-f:.]{2,45}")


class Broken(Exception):  # noqa: N818  (the caller tries again)
    """An attempt failed in a way that may pass; `wait` is what the server asked for, in seconds."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to keep trying.

    Attributes:
        attempts: attempts in a row without progress.
        total: seconds of waiting between attempts, all together.
        first: the first wait; each further one doubles.
        longest: the longest wait, and the longest silence of a server, in seconds.
    """

    attempts: int = 5
    total: float = 60.0
    first: float = 0.5
    longest: float = 10.0


class Budget:
    """What is left of the patience."""

    def __init__(self, patience: Patience, what: str) -> None:
        self.patience, self.what = patience, what
        self.failures = 0
        self.waited = 0.0

    def progress(self) -> None:
        """Bytes arrived: the next failure is a first one again."""
        self.failures = 0

    def spend(self, failure: Broken) -> None:
        """Wait before the next attempt.

        Raises:
            DownloadError: there is none: too many failures without progress, or too long a wait.
        """
        self.failures += 1
        wait = min(self.patience.first * 2 ** (self.failures - 1), self.patience.longest)
        if failure.wait is not None:
            wait = max(wait, failure.wait)
        if self.failures >= self.patience.attempts:
            self.give_up(f"{failure}; {self.failures} attempts brought nothing")
        if wait > min(self.patience.longest, self.patience.total - self.waited):
            self.give_up(f"{failure}; the next attempt would be in {wait:.0f} s")
        time.sleep(wait)
        self.waited += wait

    def give_up(self, why: str) -> None:
        raise DownloadError(
            f"cannot download {self.what}",
            why=why,
            hint="Try again later: what arrived is kept, and the download goes on from there.",
        )


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
    timeout: float = 10.0,
) -> Iterator[Any]:
    """Send a request and give the reply, whatever its status except those worth another attempt.

    Redirects are followed to https addresses (or, for a plain http endpoint, within its own origin). A HEAD follows
    none that leaves the origin: the reply that redirects carries the answer.

    Raises:
        Broken: it may work at another attempt.
        DownloadError: a redirect that is refused.
    """
    start = origin(url)
    for _ in range(_MAX_REDIRECTS):
        sent = {"Accept-Encoding": "identity", "User-Agent": "zoo", **(headers or {})}
        if token is not None and origin(url) == token.origin:
            sent["Authorization"] = f"Bearer {token.secret}"
        reply = _send(urllib.request.Request(url, headers=sent, method=method), timeout)
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
    raise DownloadError(f"more than {_MAX_REDIRECTS} redirects from {_printable(url)}")


def chunks(reply: Any, size: int) -> Iterator[bytes]:
    """The body as it arrives; `Broken` where it ends with an error."""
    while True:
        try:
            chunk = reply.read1(size)
        except (OSError, http.client.HTTPException) as error:
            raise Broken(_reason(error)) from error
        if not chunk:
            return
        yield chunk


def _send(wanted: urllib.request.Request, timeout: float) -> Any:
    # No handler for files, FTP or data, none that follows redirects, and none that turns a status into an error.
    opener = urllib.request.OpenerDirector()
    handlers = (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=_tls()),
        urllib.request.UnknownHandler(),
    )
    for handler in handlers:
        opener.add_handler(handler)
    try:
        return opener.open(wanted, timeout=timeout)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Broken(_reason(error)) from error


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
    if reply.status in _RETRIED:
        asked = (reply.headers.get("Retry-After") or "").strip()
        wait = float(asked) if re.fullmatch(r"[0-9]{1,9}", asked) else None
        raise Broken(f"the server answered {reply.status}", wait)


def _reason(error: BaseException) -> str:
    cause = getattr(error, "reason", None) or error
    return f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__


def _printable(text: str) -> str:
    return ascii(text[:200])[1:-1]

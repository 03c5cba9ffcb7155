"""A small Hub on this machine: good enough for huggingface_hub's own client, and able to misbehave on purpose.

with FakeHub() as hub:
    hub.add("timm/tiny", "model.safetensors", content)
    ...  # HF_ENDPOINT=hub.url
    hub.fault = "flip"
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

_RESOLVE: Final = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
_MODEL: Final = re.compile(
    r"/api/models/(?P<repo>[^/]+/[^/]+)(?:/(?P<what>revision|tree)/(?P<revision>[^/]+)(?:/.*)?)?"
)
_RAW: Final = re.compile(r"/raw/(?P<file>.+)")

#: What `FakeHub.fault` may be, and what it does.
FAULTS: Final[Mapping[str, str]] = {
    "flip": "one bit of the body is another; the size is right",
    "truncate": "the body ends after half of the promised bytes",
    "short": "half of the file, and Content-Length says so",
    "longer": "more bytes than the Hub's metadata promises, and Content-Length says so",
    "html": "a page of text instead of the file, with status 200",
    "empty": "a body of no bytes, with status 200",
    "no-repo": "404 RepoNotFound",
    "no-revision": "404 RevisionNotFound",
    "no-file": "404 EntryNotFound",
    "unauthorized": "401",
    "gated": "403 GatedRepo",
    "busy": "429 with Retry-After of `retry_after` seconds",
    "broken": "503 to everything",
    "broken-get": "503 to the first `times` GETs",
    "redirect": "a GET is sent on to `redirect_to`",
    "cut": "the connection is cut after every `cut_every` bytes; Range is honoured",
    "no-range": "like cut, but Range is ignored",
    "no-commit": "no X-Repo-Commit",
    "bad-commit": "X-Repo-Commit is `hostile`",
    "bad-etag": "the ETags are `hostile`",
}


@dataclass
class Seen:
    """One request that arrived."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)

    def header(self, name: str) -> str | None:
        """A header, whatever its case."""
        return self.headers.get(name.lower())


class FakeHub:
    """A server of model repositories on 127.0.0.1. A context manager.

    A file is also served without the Hub's headers, at `/raw/FILE`, as a plain web server would.

    Args:
        certificate: a PEM file with a key and a certificate for 127.0.0.1; given, the server speaks https.

    Attributes:
        url: its address, for `HF_ENDPOINT`.
        fault: one of `FAULTS`, or None to behave.
        requests: what has arrived, in order.
        sent: bytes of bodies that were sent.
    """

    def __init__(self, certificate: Path | None = None) -> None:
        self.fault: str | None = None
        self.retry_after = 3600
        self.times = 2
        self.redirect_to = ""
        self.cut_every = 65536
        self.hostile = "../../etc/passwd"
        self.requests: list[Seen] = []
        self.sent = 0
        self._files: dict[str, dict[str, bytes]] = {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self._scheme = "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """The endpoint's address."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    def add(self, repo: str, file: str, content: bytes) -> str:
        """Put a file into a repository (made where there is none), and return the repository's new commit."""
        with self._lock:
            self._files.setdefault(repo, {})[file] = content
        return self.commit(repo)

    def commit(self, repo: str) -> str:
        """The commit of a repository: 40 hex digits that depend on all its files."""
        with self._lock:
            files = self._files[repo]
            state = json.dumps([repo, *((name, hashlib.sha256(files[name]).hexdigest()) for name in sorted(files))])
        return hashlib.sha1(state.encode()).hexdigest()

    def files(self, repo: str) -> dict[str, bytes] | None:
        """The files of a repository by name, or None."""
        with self._lock:
            return dict(self._files[repo]) if repo in self._files else None

    def find(self, file: str) -> bytes | None:
        """A file of any repository, by its name."""
        with self._lock:
            return next((files[file] for files in self._files.values() if file in files), None)

    def count(self, method: str | None = None) -> int:
        """How many requests arrived."""
        with self._lock:
            return sum(method in (None, seen.method) for seen in self.requests)

    def forget(self) -> None:
        """Start counting anew."""
        with self._lock:
            self.requests.clear()
            self.sent = 0

    def note(self, seen: Seen) -> int:
        """Count a request; how many of its method came before."""
        with self._lock:
            before = sum(seen.method == other.method for other in self.requests)
            self.requests.append(seen)
            return before

    def note_sent(self, count: int) -> None:
        """Count bytes of a body."""
        with self._lock:
            self.sent += count

    def __enter__(self) -> FakeHub:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        pass

    Handler.hub = hub
    return Handler


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # a client that was killed, or gave up
            super().handle()

    def log_message(self, *_: Any) -> None:
        """Say nothing: the tests read `requests`."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        before = self.hub.note(Seen(self.command, self.path, headers))
        try:
            if not self.refused(before):
                self.route(unquote(urlsplit(self.path).path))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def refused(self, before: int) -> bool:
        fault, hub = self.hub.fault, self.hub
        errors = {
            "no-repo": (404, "RepoNotFound"),
            "no-revision": (404, "RevisionNotFound"),
            "no-file": (404, "EntryNotFound"),
            "unauthorized": (401, None),
            "gated": (403, "GatedRepo"),
            "broken": (503, None),
        }
        if fault in errors:
            status, code = errors[fault]
            self.reply(status, {"X-Error-Code": code} if code else {})
        elif fault == "busy":
            self.reply(429, {"Retry-After": str(hub.retry_after)})
        elif fault == "broken-get" and self.command == "GET" and before < hub.times:
            self.reply(503, {})
        elif fault == "redirect" and self.command == "GET":
            self.reply(302, {"Location": hub.redirect_to})
        else:
            return False
        return True

    def route(self, path: str) -> None:
        if found := _RESOLVE.fullmatch(path):
            self.resolve(found["repo"], found["revision"], found["file"])
        elif found := _MODEL.fullmatch(path):
            self.model(found["repo"], found["what"], found["revision"] or "main")
        elif found := _RAW.fullmatch(path):  # a plain web server: no headers of the Hub
            content = self.hub.find(found["file"])
            if content is None:
                self.reply(404, {})
            else:
                self.body(content, {})
        else:
            self.reply(404, {})

    def known(self, repo: str, revision: str) -> dict[str, bytes] | None:
        files = self.hub.files(repo)
        if files is None:
            self.reply(404, {"X-Error-Code": "RepoNotFound"})
        elif revision not in ("main", self.hub.commit(repo)):
            self.reply(404, {"X-Error-Code": "RevisionNotFound"})
            return None
        return files

    def resolve(self, repo: str, revision: str, file: str) -> None:
        files = self.known(repo, revision)
        if files is None:
            return
        if file not in files:
            self.reply(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": self.hub.commit(repo)})
            return
        content, fault = files[file], self.hub.fault
        etag = self.hub.hostile if fault == "bad-etag" else hashlib.sha256(content).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Linked-ETag": f'"{etag}"', "X-Linked-Size": str(len(content))}
        if fault != "no-commit":
            headers["X-Repo-Commit"] = self.hub.hostile if fault == "bad-commit" else self.hub.commit(repo)
        self.body(content, headers)

    def body(self, content: bytes, headers: dict[str, str]) -> None:
        fault = self.hub.fault if self.command == "GET" else None
        if fault == "flip":
            content = content[:-1] + bytes([content[-1] ^ 1])
        elif fault == "short":
            content = content[: len(content) // 2]
        elif fault == "longer":
            content = content + b"\0" * 64
        elif fault == "html":
            content, headers = b"<html>Sign in to this network</html>", {"Content-Type": "text/html"}
        elif fault == "empty":
            content = b""
        start, status = 0, 200
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and fault != "no-range":
            start = int(wanted[1])
            if start >= len(content):
                self.reply(416, {"Content-Range": f"bytes */{len(content)}"})
                return
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        limit = len(content) - start
        if fault in ("cut", "no-range"):
            limit = min(limit, self.hub.cut_every)
        elif fault == "truncate":
            limit //= 2
        self.head(status, {"Accept-Ranges": "bytes", **headers}, len(content) - start)
        if self.command == "GET":
            piece = content[start : start + limit]
            self.wfile.write(piece)
            self.wfile.flush()
            self.hub.note_sent(len(piece))
            self.close_connection = limit < len(content) - start

    def model(self, repo: str, what: str | None, revision: str) -> None:
        files = self.known(repo, revision)
        if files is None:
            return
        commit = self.hub.commit(repo)
        tree = [
            {
                "type": "file",
                "path": name,
                "size": len(content),
                "oid": hashlib.sha1(content).hexdigest(),
                "lfs": {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134},
            }
            for name, content in sorted(files.items())
        ]
        info = {"id": repo, "sha": commit, "siblings": [{"rfilename": name} for name in sorted(files)], "tags": []}
        text = json.dumps(tree if what == "tree" else info).encode()
        self.head(200, {"Content-Type": "application/json", "X-Repo-Commit": commit}, len(text))
        if self.command == "GET":
            self.wfile.write(text)

    def reply(self, status: int, headers: dict[str, str]) -> None:
        self.head(status, headers, 0)

    def head(self, status: int, headers: dict[str, str], length: int) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

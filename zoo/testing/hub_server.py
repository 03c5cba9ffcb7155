"""What a `zoo.testing.FakeHub` answers to those who read, and where each fault is played."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from zoo.testing import uploads
from zoo.testing.faults import REFUSALS

if TYPE_CHECKING:
    from zoo.testing.hub import FakeHub

_RESOLVE: Final = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
_MODEL: Final = re.compile(
    r"/api/models/(?P<repo>[^/]+/[^/]+)(?:/(?P<what>revision|tree)/(?P<revision>[^/]+)(?:/(?P<folder>.*))?)?"
)
_RAW: Final = re.compile(r"/raw/(?P<file>.+)")
_PIECE: Final = 1 << 20
_HUGE: Final = 2**60


@dataclass
class Seen:
    """One request that arrived."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)

    def header(self, name: str) -> str | None:
        """A header, whatever its case."""
        return self.headers.get(name.lower())


class File:
    """A file of a repository: its bytes, and what it is called by."""

    def __init__(self, content: bytes) -> None:
        self.content: Final = content
        self.sha256: Final = hashlib.sha256(content).hexdigest()
        self.sha1: Final = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # as git names it

    def other(self) -> bytes:
        """Other bytes of the same size."""
        return self.content[: len(self.content) // 2] + bytes(
            byte ^ 0x55 for byte in self.content[len(self.content) // 2 :]
        )


class Server(ThreadingHTTPServer):
    """One thread for each connection."""

    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: Any) -> None:
        """A client that goes away is no news."""


class Handler(BaseHTTPRequestHandler):
    """Answers one connection for the hub that a subclass names."""

    hub: FakeHub
    protocol_version = "HTTP/1.1"
    #: Requests with the same method before this one.
    before = 0

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # a client that was killed, or gave up
            super().handle()

    def log_message(self, *_: Any) -> None:
        """Say nothing: the tests read `requests`."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.take()

    def do_PUT(self) -> None:
        self.take()

    def take(self) -> None:
        """A request of somebody who writes."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        self.before = self.hub._note(Seen(self.command, self.path, headers))
        if self.refused():
            return
        done = uploads.answer(self.hub, self.command, unquote(urlsplit(self.path).path), headers, body)
        if self.hub.fault == "unheard-commit" and done.status == 200 and "/commit/" in self.path:
            self.close_connection = True
            return
        content = b"" if done.value is None else json.dumps(done.value).encode()
        self.head(done.status, {"Content-Type": "application/json", **done.headers}, len(content))
        self.wfile.write(content)

    def answer(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.before = self.hub._note(Seen(self.command, self.path, headers))
        if not self.refused():
            self.route(unquote(urlsplit(self.path).path))

    @property
    def fault(self) -> str | None:
        """The fault, where this request asks for bytes."""
        return self.hub.fault if self.command == "GET" else None

    def refused(self) -> bool:
        fault, hub = self.hub.fault, self.hub
        if fault is not None and fault in REFUSALS:
            status, code = REFUSALS[fault]
            self.reply(status, {"X-Error-Code": code} if code else {})
        elif fault == "busy":
            self.reply(429, {"Retry-After": str(hub.retry_after)})
        elif fault == "broken-head" and self.command == "HEAD" and self.before < hub.times:
            self.reply(500, {})
        elif fault == "broken-get" and self.command == "GET" and self.before < hub.times:
            self.reply(503, {})
        elif fault == "redirect-loop":
            self.reply(302, {"Location": self.path})
        elif fault == "redirect-file" and self.command == "GET":
            self.reply(302, {"Location": "file:///etc/passwd"})
        elif fault == "redirect-plain" and self.command == "GET":
            self.reply(302, {"Location": f"http://127.0.0.2:9{self.path}"})
        elif fault == f"redirect{'' if self.command == 'GET' else '-head'}":
            self.reply(302, {"Location": hub.redirect_to})
        elif fault == "hang":
            hub._pause(hub.silence)
            self.close_connection = True
        elif fault == "refuse":
            self.close_connection = True
        else:
            return False
        return True

    def route(self, path: str) -> None:
        if found := _RESOLVE.fullmatch(path):
            self.resolve(found["repo"], found["revision"], found["file"])
        elif found := _MODEL.fullmatch(path):
            self.model(found["repo"], found["what"], found["revision"] or "main", found["folder"] or "")
        elif found := _RAW.fullmatch(path):  # a plain web server: no headers of the Hub
            file = self.hub._find(found["file"])
            if file is None:
                self.reply(404, {})
            else:
                self.body(file, {"ETag": f'"{file.sha1}"'} if self.hub.versions else {})
        else:
            self.reply(404, {})

    def known(self, repo: str, revision: str) -> dict[str, File] | None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        hidden = self.hub.private(repo) and not self.hub.may(headers)
        files = None if hidden else self.hub._files(repo, revision)
        if files is None:
            code = "RevisionNotFound" if self.hub._knows(repo) and not hidden else "RepoNotFound"
            self.reply(404, {"X-Error-Code": code})
        return files

    def resolve(self, repo: str, revision: str, file: str) -> None:
        files = self.known(repo, revision)
        if files is None:
            return
        fault, commit = self.hub.fault, self.hub.commit(repo) if revision == "main" else revision
        if file not in files:
            self.reply(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return
        found = files[file]
        if fault == "bad-index" and file.endswith(".index.json"):
            index = json.loads(found.content)
            index["weight_map"] = dict.fromkeys(index["weight_map"], self.hub.hostile)
            found = File(json.dumps(index).encode())
        large = len(found.content) >= self.hub.lfs_from
        etag = found.sha256 if large else found.sha1
        if fault in ("bad-etag", "other-etag"):
            etag = self.hub.hostile if fault == "bad-etag" else hashlib.sha256(b"other").hexdigest()
        headers = {"ETag": f'"{etag}"'}
        if large:
            size = _HUGE if fault == "huge" else len(found.content)
            headers |= {"X-Linked-ETag": f'"{etag}"', "X-Linked-Size": str(size)}
        if fault in ("bad-commit", "other-commit"):
            commit = self.hub.hostile if fault == "bad-commit" else hashlib.sha1(b"other").hexdigest()
        if fault != "no-commit":
            headers["X-Repo-Commit"] = commit
        if fault == "bad-name":
            headers["Content-Disposition"] = f'attachment; filename="{self.hub.hostile}"'
        self.body(found, headers)

    def body(self, file: File, headers: dict[str, str]) -> None:
        fault, content = self.fault, self.bytes_of(file)
        if fault == "html":
            headers = {"Content-Type": "text/html"}
        elif fault == "encoded":
            headers["Content-Encoding"] = "gzip"
        start, end, status = 0, len(content), 200
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        same = fault == "no-if-range" or self.headers.get("If-Range") in (None, headers.get("ETag"))
        if wanted and same and fault != "no-range":
            start = int(wanted[1])
            end = min(int(wanted[2]) + 1, end) if wanted[2] else end
            if start >= end:
                self.reply(416, {"Content-Range": f"bytes */{len(content)}"})
                return
            status = 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
            if fault == "wrong-range":
                headers["Content-Range"] = f"bytes 0-{end - start - 1}/{len(content)}"
                start, end = 0, end - start
        promised: int | None = end - start
        limit = end - start
        if fault in ("cut", "no-range", "wrong-range") or (fault == "changed-midway" and self.before == 0):
            limit = min(limit, self.hub.cut_every)
        elif fault in ("truncate", "stall"):
            limit //= 2
        elif fault == "wrong-length":
            promised = end - start + 100
        elif fault == "endless":
            promised = None
        if self.hub.fault == "huge":
            promised = _HUGE
        self.head(status, {"Accept-Ranges": "bytes", **headers}, promised)
        if self.command == "GET":
            self.send(memoryview(content)[start : start + limit])
            self.afterwards(promised, limit)

    def bytes_of(self, file: File) -> bytes:
        fault, content = self.fault, file.content
        if fault == "flip":
            return content[:-1] + bytes([content[-1] ^ 1])
        if fault == "changed" or (fault == "changed-midway" and self.before):
            return file.other()
        if fault == "short":
            return content[: len(content) // 2]
        if fault == "longer":
            return content + b"\0" * 64
        if fault == "html":
            return b"<html>Sign in to this network</html>"
        return b"" if fault == "empty" else content

    def send(self, content: memoryview) -> None:
        piece = max(1, self.hub.rate // 20) if self.fault == "slow" else _PIECE
        for first in range(0, len(content), piece):
            part = content[first : first + piece]
            self.wfile.write(part)
            self.hub._note_sent(len(part))
            if self.fault == "slow" and not self.hub._pause(0.05):
                break
        self.wfile.flush()

    def afterwards(self, promised: int | None, sent: int) -> None:
        if promised is None:
            while not self.hub._closed.is_set():
                self.wfile.write(b"\0" * _PIECE)
        elif self.fault in ("stall", "wrong-length"):
            self.hub._pause(self.hub.silence)
        if sent != promised:
            self.close_connection = True

    def model(self, repo: str, what: str | None, revision: str, folder: str) -> None:
        files = self.known(repo, revision)
        if files is None:
            return
        commit = self.hub.commit(repo) if revision == "main" else revision
        if self.hub.fault == "bad-name":
            files = dict.fromkeys([self.hub.hostile], next(iter(files.values())))
        recursive = "recursive=true" in urlsplit(self.path).query.lower()
        siblings = [{"rfilename": name, **self.entry(file)} for name, file in sorted(files.items())]
        private = self.hub.private(repo)
        info = {"id": repo, "modelId": repo, "sha": commit, "siblings": siblings, "tags": [], "private": private}
        found = self.tree(files, folder, recursive) if what == "tree" else info
        text = json.dumps(found).encode()
        self.head(200, {"Content-Type": "application/json", "X-Repo-Commit": commit}, len(text))
        if self.command == "GET":
            self.wfile.write(text)

    def entry(self, file: File) -> dict[str, Any]:
        size = len(file.content)
        entry: dict[str, Any] = {"size": size, "blobId": file.sha1}
        if size >= self.hub.lfs_from:
            entry["lfs"] = {"oid": file.sha256, "sha256": file.sha256, "size": size, "pointerSize": 134}
        return entry

    def tree(self, files: dict[str, File], folder: str, recursive: bool) -> list[dict[str, Any]]:
        start = f"{folder}/" if folder else ""
        rows: dict[str, dict[str, Any]] = {}
        for name, file in sorted(files.items()):
            if not name.startswith(start):
                continue
            inner = name.removeprefix(start).split("/")
            for depth in range(1, len(inner) if recursive else min(len(inner), 2)):
                path = start + "/".join(inner[:depth])
                oid = hashlib.sha1(path.encode()).hexdigest()
                rows[path] = {"type": "directory", "path": path, "size": 0, "oid": oid}
            if recursive or len(inner) == 1:
                rows[name] = {"type": "file", "path": name, "oid": file.sha1, **self.entry(file)}
        return list(rows.values())

    def reply(self, status: int, headers: dict[str, str]) -> None:
        self.head(status, headers, 0)

    def head(self, status: int, headers: dict[str, str], length: int | None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        else:
            self.close_connection = True
        if self.hub.fault == "drip":
            self.send_header("X-Padding", "x" * 4096)
            self.wfile = _Dripping(self.wfile, self.hub)  # type: ignore[assignment]
        self.end_headers()


class _Dripping:
    """A file that is written byte by byte, four a second."""

    def __init__(self, file: Any, hub: FakeHub) -> None:
        self.file, self.hub = file, hub
        self.flush, self.close, self.closed = file.flush, file.close, False

    def write(self, content: bytes) -> None:
        for byte in content:
            self.file.write(bytes([byte]))
            if not self.hub._pause(0.25):
                return

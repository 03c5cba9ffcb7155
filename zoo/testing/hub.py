"""A small Hub on this machine: good enough for huggingface_hub's own client, and able to misbehave on purpose.

    from zoo.testing import FakeHub

    with FakeHub() as hub:
        commit = hub.add("timm/tiny", "model.safetensors", content)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        ...                                    # zoo.pull, hf_hub_download, HfApi().model_info, snapshot_download
        assert hub.count("GET") == 1
        hub.fault = "flip"                     # one of `zoo.testing.hub.FAULTS`
        ...                                    # must fail now, and keep nothing

It serves `/{repo}/resolve/{revision}/{file}` with the Hub's headers (commit, ETag, linked size; Range and If-Range are
honoured), `/api/models/{repo}` and its `/revision/` and `/tree/`, and each file also at `/raw/{file}` as a plain web
server would. A repository has one branch, `main`, and every commit it ever had stays readable. It takes new
repositories and commits too (see `zoo.testing.uploads`).
"""

from __future__ import annotations

import hashlib
import json
import ssl
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from zoo.testing.faults import FAULTS, UPLOAD_FAULTS
from zoo.testing.hub_server import File, Handler, Seen, Server

__all__ = ["FAULTS", "UPLOAD_FAULTS", "FakeHub", "Seen"]


class FakeHub:
    """A server of model repositories on 127.0.0.1. A context manager.

    Args:
        certificate: a PEM file with a key and a certificate for 127.0.0.1; given, the server speaks https.
        lfs_from: files of at least so many bytes have their sha256 as ETag, as large files of the Hub do; smaller ones
            have their name in git.

    Attributes:
        url: its address, for `HF_ENDPOINT`.
        fault: one of `FAULTS` or `UPLOAD_FAULTS`, or None to behave.
        requests: what has arrived, in order.
        sent: bytes of bodies that were sent.
        versions: whether `/raw/` files have an ETag.
        token: who does not send it may neither write nor see private repositories; None = everybody may.
        user: who owns repositories that are created without an owner.
        objects: large files that were uploaded, by their sha256.
        hostile, redirect_to, retry_after, times, cut_every, rate, silence: the details of some faults; see `FAULTS`.
    """

    def __init__(self, certificate: Path | None = None, *, lfs_from: int = 0) -> None:
        self.fault: str | None = None
        self.lfs_from: Final = lfs_from
        self.versions = True
        self.retry_after = 3600
        self.times = 2
        self.redirect_to = ""
        self.cut_every = 65536
        self.rate = 65536
        self.silence = 30.0
        self.hostile = "../../etc/passwd"
        self.token: str | None = None
        self.user = "me"
        self.objects: dict[str, bytes] = {}
        self.requests: list[Seen] = []
        self.sent = 0
        self._history: dict[str, dict[str, dict[str, File]]] = {}  # repository -> commit -> name -> file
        self._private: set[str] = set()
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._server = Server(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": self}))
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
        return self.change(repo, {file: content})

    def change(self, repo: str, files: Mapping[str, bytes | None]) -> str:
        """Make one commit of several files, None = removed; it is returned."""
        with self._lock:
            commits = self._history.setdefault(repo, {})
            before = list(commits.values())[-1] if commits else {}
            now = {name: file for name, file in before.items() if name not in files}
            now |= {name: File(content) for name, content in files.items() if content is not None}
            state = json.dumps([repo, len(commits), *((name, now[name].sha256) for name in sorted(now))])
            commit = hashlib.sha1(state.encode()).hexdigest()
            commits[commit] = now
        return commit

    def make(self, repo: str, *, private: bool = False) -> str:
        """Make a repository as the Hub does, with a first commit, which is returned."""
        if private:
            self._private.add(repo)
        return self.add(repo, ".gitattributes", b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n")

    def private(self, repo: str) -> bool:
        """Whether only those with the token see a repository."""
        return repo in self._private

    def may(self, headers: Mapping[str, str]) -> bool:
        """Whether a request with these headers, their names in lower case, brings the token."""
        return self.token is None or headers.get("authorization") == f"Bearer {self.token}"

    def commit(self, repo: str) -> str:
        """The newest commit of a repository: 40 hex digits."""
        with self._lock:
            return list(self._history[repo])[-1]

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes] | None:
        """The files of a repository by name; None where there is no such repository or revision."""
        found = self._files(repo, revision)
        return None if found is None else {name: file.content for name, file in found.items()}

    def count(self, method: str | None = None) -> int:
        """How many requests arrived."""
        with self._lock:
            return sum(method in (None, seen.method) for seen in self.requests)

    def forget(self) -> None:
        """Start counting anew."""
        with self._lock:
            self.requests.clear()
            self.sent = 0

    def __enter__(self) -> FakeHub:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    # -- for the handler -------------------------------------------------------------------------------------------

    def _knows(self, repo: str) -> bool:
        with self._lock:
            return repo in self._history

    def _files(self, repo: str, revision: str) -> dict[str, File] | None:
        with self._lock:
            commits = self._history.get(repo, {})
            return commits.get(list(commits)[-1] if commits and revision == "main" else revision)

    def _find(self, file: str) -> File | None:
        with self._lock:
            newest = (list(commits.values())[-1] for commits in self._history.values())
            return next((files[file] for files in newest if file in files), None)

    def _note(self, seen: Seen) -> int:
        """Count a request; how many of its method came before."""
        with self._lock:
            before = sum(seen.method == other.method for other in self.requests)
            self.requests.append(seen)
            return before

    def _note_sent(self, count: int) -> None:
        with self._lock:
            self.sent += count

    def _pause(self, seconds: float) -> bool:
        """Wait; whether the hub is still open."""
        return not self._closed.wait(seconds)

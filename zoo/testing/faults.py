"""The ways in which a `zoo.testing.FakeHub` can misbehave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: What `FakeHub.fault` may be, and what it does. Words in backquotes are attributes of the hub.
FAULTS: Final[Mapping[str, str]] = {
    # other bytes than promised
    "flip": "one bit of the body is another; the size is right",
    "changed": "the file is replaced by another of the same size between HEAD and GET; its name, commit and hash stay",
    "changed-midway": "the connection is cut once, and what comes afterwards is of another file of the same size",
    "truncate": "the body ends after half of the promised bytes",
    "short": "half of the file, and Content-Length says so",
    "longer": "64 bytes more than the file has, and Content-Length says so",
    "endless": "no Content-Length, and zeros behind the file until the client goes",
    "wrong-length": "Content-Length speaks of 100 bytes more than come, and the connection stays open",
    "huge": "every length that the server speaks of is 2**60",
    "html": "a page of text instead of the file, with status 200",
    "empty": "a body of no bytes, with status 200",
    "encoded": "the body is said to be compressed",
    "wrong-range": "like cut, but every piece is the first one, whatever was asked for",
    # strings that would like to be paths or addresses
    "bad-commit": "X-Repo-Commit is `hostile`",
    "other-commit": "X-Repo-Commit is that of another commit",
    "no-commit": "no X-Repo-Commit",
    "bad-etag": "the ETags are `hostile`",
    "other-etag": "the ETags are the hash of other bytes",
    "bad-name": "Content-Disposition and every listing name `hostile` as the file",
    "bad-index": "every file that a shard index (*.index.json) names is `hostile`",
    "redirect": "a GET is sent on to `redirect_to`",
    "redirect-head": "a HEAD is sent on to `redirect_to`",
    "redirect-file": "a GET is sent on to a file of the client's machine",
    "redirect-plain": "a GET is sent on to plain http on another host",
    "redirect-loop": "every request is sent on to itself",
    # refusals
    "no-repo": "404 RepoNotFound",
    "no-revision": "404 RevisionNotFound",
    "no-file": "404 EntryNotFound",
    "missing": "404 without a reason",
    "hidden": "401 RepoNotFound, as for a private repository",
    "unauthorized": "401",
    "forbidden": "403",
    "gated": "403 GatedRepo",
    "gone": "410",
    "busy": "429 with Retry-After of `retry_after` seconds",
    "broken": "503 to everything",
    "broken-head": "500 to the first `times` HEADs",
    "broken-get": "503 to the first `times` GETs",
    # time
    "cut": "the connection is cut after every `cut_every` bytes; Range is honoured",
    "no-range": "like cut, but Range is ignored",
    "no-if-range": "If-Range is ignored: the rest of another version is sent",
    "slow": "`rate` bytes a second",
    "stall": "half of the body, then nothing for `silence` seconds",
    "drip": "the headers come byte by byte, four a second",
    "hang": "no answer for `silence` seconds, then the connection ends",
    "refuse": "the connection is reset as soon as it is made",
}

#: The same for those who write. The refusals above concern them too.
UPLOAD_FAULTS: Final[Mapping[str, str]] = {
    "taken": "409 to who creates a repository: somebody else did it just now",
    "no-space": "507 to who uploads a large file",
    "broken-commit": "503 to who commits",
    "unheard-commit": "the commit is made, and the connection ends without an answer",
    "overtaken": "412 to who commits: somebody else did it just now",
}

#: Status and X-Error-Code of the plain refusals.
REFUSALS: Final[Mapping[str, tuple[int, str | None]]] = {
    "no-repo": (404, "RepoNotFound"),
    "no-revision": (404, "RevisionNotFound"),
    "no-file": (404, "EntryNotFound"),
    "missing": (404, None),
    "hidden": (401, "RepoNotFound"),
    "unauthorized": (401, None),
    "forbidden": (403, None),
    "gated": (403, "GatedRepo"),
    "gone": (410, None),
    "broken": (503, None),
}

"""What the Hub says about a file: the commit behind a branch, the hash, the size."""

from __future__ import annotations

import hashlib
import os
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from zoo.errors import DownloadError, IntegrityError, NotFoundError, UsageError
from zoo.weights.source import COMMIT, SHA256, HubFile
from zoo.weights.transport import Broken, Budget, Patience, Token, origin, request

_SIZE: Final = re.compile(r"[0-9]{1,20}")
_TOKEN: Final = re.compile(r"[!-~]{1,1000}")
_ENDPOINT: Final = re.compile(
    r"(https://[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|http://(?:127(?:\.[0-9]{1,3}){3}|localhost|\[::1\]))"
    r"(?::[0-9]{1,5})?(?:/[A-Za-z0-9_.~-]+)*"
)


@dataclass(frozen=True, slots=True)
class Facts:
    """One file of one commit.

    Attributes:
        file: the file, its revision a commit.
        url: where its bytes are.
        sha256: of the bytes, where the Hub knows (it does for large files).
        bytes: their number, where the Hub says.
        blob: the bytes' name in git, where the Hub knows it instead (it does for small files). See `blob_name`.
    """

    file: HubFile
    url: str
    sha256: str | None
    bytes: int | None
    blob: str | None = None


def endpoint() -> str:
    """The Hub's address: `HF_ENDPOINT`, else huggingface_hub's own.

    Raises:
        UsageError: it is neither https nor on this machine.
    """
    from huggingface_hub import constants

    address = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
    if not _ENDPOINT.fullmatch(address):
        raise UsageError(
            f"the endpoint {address[:200]!a} of the Hub is not taken",
            why="weights and tokens travel over https; plain http is for servers on this machine",
            hint="Set HF_ENDPOINT to an https:// address.",
        )
    return address


def token() -> Token | None:
    """The user's token, as huggingface_hub finds it; for the endpoint's origin alone.

    Raises:
        UsageError: it has characters that no header may have; it is not printed.
    """
    from huggingface_hub import constants, get_token

    secret = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    if secret and not _TOKEN.fullmatch(secret):
        raise UsageError("HF_TOKEN, or the token that `hf auth login` kept, is no token", hint="Set it anew.")
    return Token(secret, origin(endpoint())) if secret else None


def address(file: HubFile) -> str:
    """The address of a file's bytes."""
    return f"{endpoint()}/{file.repo}/resolve/{quote(file.revision, safe='')}/{quote(file.file)}"


def look_up(file: HubFile, patience: Patience, budget: Budget | None = None) -> Facts:
    """Ask the Hub about `file`.

    Args:
        budget: what is left of the patience, where this is one step of several.

    Raises:
        NotFoundError: it has no such repository, revision or file.
        DownloadError: it does not answer, forbids, or answers nonsense.
        IntegrityError: it gives another commit than the one asked for.
    """
    budget = budget or Budget(patience, str(file))
    while True:
        start = time.monotonic()
        try:
            with request("HEAD", address(file), token=token(), timeout=budget.timeout()) as reply:
                budget.progress()
                raise_for_status(reply, str(file))
                return _facts(file, reply)
        except Broken as failure:
            budget.silence(time.monotonic() - start)
            budget.spend(failure)


def raise_for_status(reply: Any, what: str) -> None:
    """Turn a refusal into an error that says what to do."""
    code = reply.headers.get("X-Error-Code", "")
    if reply.status < 400:
        return
    if reply.status == 404 or code in ("RepoNotFound", "RevisionNotFound", "EntryNotFound"):
        missing = {"RepoNotFound": "repository", "RevisionNotFound": "revision"}.get(code, "file")
        raise NotFoundError(
            f"the server has no such {missing}: {what}",
            hint="Check the name; a private repository needs HF_TOKEN."
            if code == "RepoNotFound"
            else "Check the name.",
        )
    if reply.status in (401, 403):
        raise DownloadError(
            f"the server does not give {what} to you (status {reply.status})",
            why="the repository is gated: its terms must be accepted first" if code == "GatedRepo" else None,
            hint="Set HF_TOKEN to a token that may read it.",
        )
    raise DownloadError(
        f"the server refuses {what}",
        why=f"status {reply.status}",
        hint="Correct the source in the registry entry, or ask who runs the server.",
    )


def blob_name(content: bytes) -> str:
    """The name of a file's content in git: the SHA-1 of a header and the bytes.

    Source: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects ("Object Storage").

    >>> blob_name(b"what is up, doc?")
    'bd9dbf5aae1a3862dd1526723246b20206e5fc37'
    """
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def cached(file: HubFile, sha256: str) -> Path | None:
    """The blob that huggingface_hub has already put into the user's cache under this hash; its bytes prove nothing."""
    from huggingface_hub import constants

    cache = Path(os.environ.get("HF_HUB_CACHE") or constants.HF_HUB_CACHE)
    blob = cache / f"models--{file.repo.replace('/', '--')}" / "blobs" / sha256
    return blob if blob.is_file() else None


def _facts(file: HubFile, reply: Any) -> Facts:
    commit = reply.headers.get("X-Repo-Commit") or ""
    if not COMMIT.fullmatch(commit):
        raise DownloadError(
            f"{endpoint()} does not answer as the Hub does",
            why=f"it names no commit for {file}",
            hint="Check HF_ENDPOINT.",
        )
    if file.pinned and commit != file.revision:
        raise IntegrityError(f"the Hub gives commit {commit} for {file}", hint="Check HF_ENDPOINT, and try again.")
    etag = (reply.headers.get("X-Linked-ETag") or reply.headers.get("ETag") or "").removeprefix("W/").strip('"')
    size = reply.headers.get("X-Linked-Size") or (reply.headers.get("Content-Length") if reply.status == 200 else None)
    found = replace(file, revision=commit)
    return Facts(
        found,
        address(found),
        etag if SHA256.fullmatch(etag) else None,
        int(size) if size is not None and _SIZE.fullmatch(size) else None,
        etag if COMMIT.fullmatch(etag) else None,
    )

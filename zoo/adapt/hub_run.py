"""A run that lies on the Hub, brought to this disk: `$ZOO_HOME/runs/OWNER/NAME/COMMIT`. See docs/formats.md."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any, Final

from zoo.adapt.record import ASSETS, HISTORY, RUN, read_record
from zoo.atomic import PART, locked, write_atomically
from zoo.catalog.spec import Weights
from zoo.errors import IntegrityError, NotFoundError, UsageError
from zoo.settings import Settings
from zoo.weights import hub
from zoo.weights.download import Request, download
from zoo.weights.files import disk_errors
from zoo.weights.pull import tell
from zoo.weights.source import COMMIT, HubFile, parse
from zoo.weights.store import Store
from zoo.weights.transport import Broken, Budget, Patience, UnreachableError, chunks, request

#: What a run on the Hub begins with.
SCHEME: Final = "hf://"
_TENSORS: Final = "model.safetensors"
_TEXTS: Final = (RUN, HISTORY, "README.md")
#: The largest text that is taken, in bytes.
_MOST: Final = 64 << 20
_REPO: Final = re.compile(r"hf://[^/@]+/[^/@]+(?:@[^/@]+)?")


def is_on_hub(run: Any) -> bool:
    """Whether `run` is `hf://OWNER/NAME` or `hf://OWNER/NAME@REVISION`."""
    return isinstance(run, str) and run.startswith(SCHEME)


def fetch_run(run: str, settings: Settings) -> Path:
    """The folder with the run of `hf://OWNER/NAME[@REVISION]`, downloaded if need be.

    A revision that is a commit and here costs no request; a branch (default `main`) costs one, and where the Hub cannot
    be reached, what was last seen of it is taken.

    Raises:
        UsageError: it is no such address.
        NotFoundError: there is no such repository or revision, it holds no run, or it is not here while offline.
        DownloadError: the Hub failed.
        IntegrityError: other bytes came than were promised; nothing of them is kept.
        DiskError: the disk is full, or not ours to write.
    """
    if not _REPO.fullmatch(run):
        raise UsageError(
            f"{run[:200]!r} is no run on the Hub", hint="Write hf://OWNER/NAME or hf://OWNER/NAME@REVISION."
        )
    wanted = parse(f"{run}/{RUN}")
    assert isinstance(wanted, HubFile)
    folder = settings.home / "runs" / wanted.repo  # nested: a--b/c is not a/b--c
    known = _seen(folder, wanted)
    if known is not None and (wanted.pinned or settings.offline):
        return known
    if settings.offline:
        raise NotFoundError(
            f"the run {run} is not on this disk, and the zoo is offline", hint="Load it when connected."
        )
    try:
        commit = hub.look_up(wanted, Patience()).file.revision
    except UnreachableError:
        if known is None:
            raise
        return known
    place = folder / commit
    if not place.is_dir():
        with disk_errors("write", folder):
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder / ".lock"):
                if not place.is_dir():  # another process may have brought it meanwhile
                    _fetch(dataclasses.replace(wanted, revision=commit), folder, place, settings)
    with disk_errors("write", folder):
        if not wanted.pinned:
            write_atomically(folder / f"{wanted.revision}.ref", f"{commit}\n".encode())
    return place


def _seen(folder: Path, wanted: HubFile) -> Path | None:
    """The commit that is here of what is wanted."""
    commit = wanted.revision
    if not wanted.pinned:
        try:
            commit = (folder / f"{wanted.revision}.ref").read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return None
    place = folder / commit
    return place if COMMIT.fullmatch(commit) and place.is_dir() else None


def _fetch(wanted: HubFile, folder: Path, place: Path, settings: Settings) -> None:
    """Bring a commit's run to `place`, whole or not at all. What was half downloaded is gone on with next time."""
    part = folder / f".{place.name}{PART}"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        for name in _TEXTS:
            (part / name).write_bytes(_text(dataclasses.replace(wanted, file=name)))
        record = read_record(part)  # before anything large comes
        for name in record.get("assets", {}):
            (part / ASSETS).mkdir(exist_ok=True)
            (part / ASSETS / name).write_bytes(_text(dataclasses.replace(wanted, file=f"{ASSETS}/{name}")))
        source = dataclasses.replace(wanted, file=_TENSORS)
        # A store of its own, so that nobody takes the run's file for weights.
        store = Store(dataclasses.replace(settings, home=folder))
        weights = Weights(wanted.repo, "", str(source))
        got = download(Request(weights, source, None, None, None), store, note=tell)
        os.replace(store.path(got.sha256), part / _TENSORS)
        os.rename(part, place)
        shutil.rmtree(folder / "blobs", ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _text(file: HubFile) -> bytes:
    """A small file of the Hub, by the hash that the Hub states for it.

    Raises:
        IntegrityError: other bytes came, or far too many.
    """
    facts = hub.look_up(file, Patience())
    found = _bytes(file)
    if (facts.sha256 is not None and hashlib.sha256(found).hexdigest() != facts.sha256) or (
        facts.blob is not None and hub.blob_name(found) != facts.blob
    ):
        raise IntegrityError(
            f"{file} is not what the Hub says it is",
            why=f"Its hash there is {facts.sha256 or facts.blob}; {len(found)} other bytes came.",
            hint="Try again; if it stays so, something between here and the Hub changes files.",
        )
    return found


def _bytes(file: HubFile) -> bytes:
    """What comes when a small file is asked for."""
    budget = Budget(Patience(), str(file))
    while True:
        start = time.monotonic()
        try:
            timeout = budget.timeout()
            with request("GET", hub.address(file), token=hub.token(), timeout=timeout) as reply:
                hub.raise_for_status(reply, str(file))
                found = bytearray()
                for chunk in chunks(reply, 1 << 16, timeout):
                    found += chunk
                    if len(found) > _MOST:
                        raise IntegrityError(f"{file} is longer than {_MOST} bytes", hint="This is no run of zoo.")
                length = reply.headers.get("Content-Length")
                if length is not None and length != str(len(found)):
                    raise Broken("the connection ended early")
                return bytes(found)
        except Broken as failure:
            budget.silence(time.monotonic() - start)
            budget.spend(failure)

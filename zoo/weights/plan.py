"""What a pull would do, without doing it: nothing on this disk is touched."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from zoo.catalog.pickles import PICKLES, is_pickle, refusal
from zoo.catalog.spec import Weights
from zoo.errors import IntegrityError, NotFoundError
from zoo.settings import Settings
from zoo.weights.lock import Lock
from zoo.weights.pull import drift, drifted, locked_source
from zoo.weights.source import HubFile, LocalFile, Source, WebFile, assets_of, single, source_of
from zoo.weights.store import Store
from zoo.weights.transport import Broken, Budget, Patience, request

#: Bytes of the largest size that a server's word is taken for.
_MOST_DIGITS: Final = 15


@dataclass(frozen=True, slots=True)
class Planned:
    """One set of weights as `zoo pull` would bring it.

    Attributes:
        name: `arch.tag`.
        path: where the file would be; None where that depends on a hash which is not known yet.
        sha256: of the file at the source; None where nobody says it before the first pull.
        bytes: its size; None where nobody says.
        source: with the revision that would be taken.
        revision: the Hub's commit.
        cached: whether nothing would be fetched.
        license: of the weights.
        converted: whether the file is a pickle, which is converted after it was fetched.
        files: further files: name, source, sha256, bytes, and whether they are here.
    """

    name: str
    path: Path | None
    sha256: str | None
    bytes: int | None
    source: str
    revision: str | None
    cached: bool
    license: str | None
    converted: bool
    files: tuple[dict[str, Any], ...] = ()

    def row(self) -> dict[str, Any]:
        """As plain values: the keys of a pull, and `license` and `converted`; `files` where there are further ones."""
        values = {name: getattr(self, name) for name in self.__slots__ if name != "files"}
        files = {"files": list(self.files)} if self.files else {}
        return {**values, "path": str(self.path) if self.path else None, **files}


def plan(weights: Weights, settings: Settings, *, locked: bool = False, update: bool = False) -> Planned:
    """What pulling `weights` would fetch. The source is asked for revision and size where that is not known here.

    Raises:
        NotFoundError: the file is nowhere; offline, what is not known here stays None instead.
        DownloadError: the network or the server failed.
        IntegrityError: with `locked`, nobody pins them, or registry and lock do not agree.
    """
    planned = _planned(single(weights), settings, locked, update)
    store, files = Store(settings), []
    for asset in assets_of(weights):
        here = store.has_asset(weights, asset)
        facts = {name: getattr(asset, name) for name in ("name", "source", "sha256", "bytes", "role")}
        files.append({**facts, "cached": here})
    return replace(planned, files=tuple(files), cached=planned.cached and all(file["cached"] for file in files))


def _planned(weights: Weights, settings: Settings, locked: bool, update: bool) -> Planned:
    source, lock, store = source_of(weights), Lock.of(settings), Store(settings)
    if locked and (why := drift(weights, lock)) is not None:
        raise drifted([why], lock)
    if isinstance(source, LocalFile):
        return _local(weights, source)
    entry = None if update else lock.entry(weights)
    fresh = update and weights.sha256 is None
    held = None if fresh else store.here(weights) if settings.offline else store.held(weights)
    sha256 = weights.sha256 or (entry.sha256 if entry else None)
    size = weights.bytes or (entry.bytes if entry else None)
    source = locked_source(source, entry)
    pickled = source.file.endswith(PICKLES)
    if held is None and not settings.offline:
        source, sha256, size = _asked(source, sha256, size)
        if not pickled and sha256 is not None and store.has(sha256):
            held = sha256
    if held is not None and not pickled:
        sha256, size = held, store.path(held).stat().st_size
    path = store.path(held) if held else store.path(sha256) if sha256 and not pickled else None
    revision = source.revision if isinstance(source, HubFile) and source.pinned else None
    return Planned(weights.name, path, sha256, size, str(source), revision, held is not None, weights.license, pickled)


def _local(weights: Weights, source: LocalFile) -> Planned:
    if is_pickle(source.path.name):
        raise refusal(source.path)
    if not source.path.is_file():
        raise NotFoundError(
            f"no file {source.path}", why=f"the weights {weights.name} are there", hint="Check the path."
        )
    size = source.path.stat().st_size
    return Planned(
        weights.name, source.path, weights.sha256, size, str(source), None, True, weights.license, converted=False
    )


def _asked(source: Source, sha256: str | None, size: int | None) -> tuple[Source, str | None, int | None]:
    """Source, hash and size as the server says; a file that is pinned needs it for its size alone."""
    if isinstance(source, HubFile):
        from zoo.weights import hub

        facts = hub.look_up(source, Patience())
        if facts.sha256 is not None and sha256 not in (None, facts.sha256):
            raise IntegrityError(
                f"the Hub has other bytes for {source} than are pinned",
                why=f"sha256 {facts.sha256} there, {sha256} in the registry or the lock",
                hint="Correct the registry entry, or `zoo pull --update` to take what is there now.",
            )
        return facts.file, sha256 or facts.sha256, size or facts.bytes
    if isinstance(source, WebFile) and size is None:
        return source, sha256, length(source)
    return source, sha256, size


def length(source: WebFile) -> int | None:
    """What the web server says; many do not answer a HEAD, and then the size is not known."""
    patience = Patience()
    budget = Budget(patience, str(source))
    while True:
        try:
            with request("HEAD", source.url, timeout=patience.longest) as reply:
                if reply.status == 404:
                    raise NotFoundError(f"the server has no such file: {source}", hint="Check the address.")
                text = reply.headers.get("Content-Length") or ""
                known = reply.status == 200 and text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
                return int(text) if known else None
        except Broken as failure:
            budget.spend(failure)

"""Bytes from the Hub, the web or a plugin into the store: resumed, hashed on the way, visible only once proved."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from zoo.atomic import PART, locked
from zoo.catalog.spec import Weights
from zoo.errors import DiskError, DownloadError, IntegrityError, NotFoundError, PluginError, ZooError
from zoo.weights import hub
from zoo.weights.files import CHUNK, disk_errors, hash_file
from zoo.weights.header import read_header
from zoo.weights.part import Part
from zoo.weights.remembered import Remembered
from zoo.weights.source import PICKLES, HubFile, PluginFile, Source, WebFile
from zoo.weights.store import NOTE, SUFFIX, Store
from zoo.weights.transport import Broken, Budget, Note, Patience, Token, UnreachableError, chunks, request

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry

#: Told (bytes so far, bytes in all or None) while bytes arrive.
Progress = Callable[[int, "int | None"], None]

#: The largest file taken where nobody says a size.
MAX_BYTES: Final = 64 * 2**30
#: An attempt made progress if it brought this share of the file, or so many bytes: a server that cuts every byte must
#: end somewhere.
_SHARE: Final = 1000
_ENOUGH: Final = 65536
_SIZE: Final = re.compile(r"[0-9]{1,20}")
_IN_BETWEEN: Final = "Something else lies there now, or stands in between. Try again, or correct the registry entry."
_ETAG: Final = re.compile(r'"[!#-~]{1,200}"')
_DATE: Final = re.compile(r"[A-Za-z]{3}, [0-9]{2} [A-Za-z]{3} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT")


@dataclass(frozen=True, slots=True)
class Request:
    """What is wanted, and what is known about its bytes."""

    weights: Weights
    source: Source
    sha256: str | None
    prefix: str | None
    bytes: int | None


@dataclass(frozen=True, slots=True)
class Got:
    """What is now in the store.

    Attributes:
        source: with its revision resolved.
        sha256: of the bytes at the source.
        bytes: their number.
        converted: the sha256 of the safetensors file made of them, if they are a pickle.
        fetched: whether bytes came over the network.
    """

    source: Source
    sha256: str
    bytes: int
    converted: str | None
    fetched: bool


def download(
    wanted: Request,
    store: Store,
    *,
    registry: Registry | None = None,
    progress: Progress | None = None,
    note: Note | None = None,
    patience: Patience | None = None,
    learn: Callable[[], str | None] | None = None,
    record: Callable[[Got], None] | None = None,
) -> Got:
    """Bring the wanted bytes into the store.

    Args:
        note: told, at least every ten seconds of silence, what is waited for.
        learn: the sha256 that another process recorded while this one waited for it.
        record: told what is in the store, before another process that waits for the same goes on.

    Raises:
        NotFoundError: offline and not in the user's own Hub cache, or not at the source.
        DownloadError: the network or the server failed.
        IntegrityError: other bytes than promised came; nothing of them stays visible.
        DiskError: the disk is full, or not ours to write.
    """
    job = _Download(wanted, store, registry, progress, note, patience or Patience())
    return job.run(learn or (lambda: None), record or (lambda _: None))


class _Download:
    def __init__(
        self,
        wanted: Request,
        store: Store,
        registry: Registry | None,
        progress: Progress | None,
        note: Note | None,
        patience: Patience,
    ) -> None:
        self.wanted, self.store, self.registry = wanted, store, registry
        self.progress, self.note, self.patience = progress, note, patience
        self.budget = Budget(patience, str(wanted.source), note)
        self.source = wanted.source
        self.url = ""
        self.token: Token | None = None
        # What must come, and the size that the server at hand speaks of.
        self.sha256, self.bytes = wanted.sha256, wanted.bytes
        self.size: int | None = None
        self.pickled = self.source.file.endswith(PICKLES) and store.suffix == SUFFIX

    def run(self, learn: Callable[[], str | None], record: Callable[[Got], None]) -> Got:
        if self.store.settings.offline:
            got = self.at_hand()
            if got is None:
                self.refuse_offline()
            record(got)
            return got
        try:
            if isinstance(self.source, HubFile):
                self.ask_hub(self.source)
            elif isinstance(self.source, WebFile):
                self.url = self.source.url
            got = self.at_hand()
            if got is None:
                return self.fetch_under_lock(learn, record)
        except UnreachableError as error:
            got = self.at_hand()
            if got is None:
                raise self.without_network(error) from error
        record(got)
        return got

    def without_network(self, error: UnreachableError) -> UnreachableError:
        name = self.wanted.weights.name
        return UnreachableError(
            f"the weights {name} are not on this disk, and {self.source} cannot be reached",
            why=error.why,
            hint=f"When connected: zoo pull {name}\n"
            f"From another machine: zoo pull {name} --to DIR, then here: zoo cache add DIR",
        )

    def refuse_offline(self) -> NoReturn:
        name = self.wanted.weights.name
        raise NotFoundError(
            f"the weights {name} are not on this disk, and the zoo is offline",
            why=f"they come from {self.source}",
            hint=f"Run `zoo pull {name}` when connected (without --offline, ZOO_OFFLINE and HF_HUB_OFFLINE).",
        )

    def ask_hub(self, file: HubFile) -> None:
        facts = hub.look_up(file, self.patience, self.budget)
        if facts.sha256 is not None and not self.is_promised(facts.sha256):
            raise IntegrityError(
                f"the Hub has other bytes for {self.wanted.weights.name} than were promised",
                why=f"sha256 {facts.sha256} at {facts.file}, {self.sha256 or self.wanted.prefix} in the registry or "
                "the lock",
                hint="Correct the registry entry, or `zoo pull --update` to take what is there now.",
            )
        if facts.bytes is not None and self.bytes not in (None, facts.bytes):
            raise IntegrityError(
                f"the Hub says {facts.bytes} bytes for {facts.file}",
                why=f"{self.bytes} were promised",
                hint=_IN_BETWEEN,
            )
        if self.bytes is None:
            self.check_size(facts.bytes)
        self.source, self.url, self.token = facts.file, facts.url, hub.token()
        self.sha256, self.bytes = self.sha256 or facts.sha256, self.bytes or facts.bytes

    def at_hand(self) -> Got | None:
        """What needs no transfer: a blob already here, or a file in the user's Hub cache that hashes right."""
        if self.sha256 is None:
            return None
        made = Remembered(self.store.settings).converted(self.sha256) if self.pickled else self.sha256
        if made is not None and self.store.has(made):
            size = self.bytes or self.store.path(made).stat().st_size
            return Got(self.source, self.sha256, size, made if self.pickled else None, fetched=False)
        if not isinstance(self.source, HubFile) or self.pickled:
            return None
        found = hub.cached(self.source, self.sha256)
        if found is None or hash_file(found) != self.sha256:
            return None
        self.check_header(found)
        self.store.add(found, expected=self.sha256)
        return Got(self.source, self.sha256, found.stat().st_size, None, fetched=False)

    # -- fetching --------------------------------------------------------------------------------------------------

    def fetch_under_lock(self, learn: Callable[[], str | None], record: Callable[[Got], None]) -> Got:
        key = self.sha256 or hashlib.sha256(str(self.source).encode()).hexdigest()
        part = self.store.parts / f"{key}{PART}"
        with contextlib.ExitStack() as stack:
            with disk_errors("write", self.store.parts):
                self.store.parts.mkdir(parents=True, exist_ok=True)
                held = locked(self.store.lock_of(part), waiting=lambda: self.tell_of_another(part))
                waited = stack.enter_context(held)
            if waited and self.sha256 is None:
                self.sha256 = learn()
            got = self.at_hand() or self.fetch(part)  # another process may have finished it while this one waited
            record(got)
            return got

    def tell_of_another(self, part: Path) -> None:
        with contextlib.suppress(OSError):
            have = part.stat().st_size
            if self.progress is not None:
                self.progress(have, self.bytes)
            if self.note is not None:
                self.note(f"another process fetches {self.source} ({have} bytes so far); waiting for it")

    def fetch(self, part: Path) -> Got:
        try:
            got = self.proved(part)
        except IntegrityError:
            self.drop(part)
            raise
        self.drop(part)
        return got

    def drop(self, part: Path) -> None:
        with disk_errors("remove", part):
            part.unlink(missing_ok=True)
            part.with_suffix(NOTE).unlink(missing_ok=True)

    def proved(self, part: Path) -> Got:
        if isinstance(self.source, PluginFile):
            sha256 = self.from_plugin(self.source, part)
        else:
            resumed = part.exists()
            sha256 = self.stream(part)
            if resumed and not self.is_promised(sha256):
                self.drop(part)  # what an earlier process left may have been another version
                sha256 = self.stream(part)
        with disk_errors("read", part):
            size = part.stat().st_size
        self.expect(sha256, size)
        if self.pickled:
            return Got(self.source, sha256, size, self.convert(part, sha256), fetched=True)
        self.check_header(part)
        with disk_errors("publish", part):
            self.store.publish(part, sha256)
        return Got(self.source, sha256, size, None, fetched=True)

    def stream(self, path: Path) -> str:
        """Append to `path` until it is whole; its sha256."""
        with disk_errors("write", path), Part(path) as part:
            if part.have and self.sha256 is None and _noted(path) is None:
                part.restart()  # nothing says which version of the file it is of
            while self.bytes is None or part.have != self.bytes:
                before, heard = part.have, time.monotonic()

                def hear() -> None:
                    nonlocal heard
                    heard = time.monotonic()

                try:
                    if self.attempt(part, hear):
                        break
                    raise Broken("the connection ended early")
                except Broken as failure:
                    self.budget.silence(time.monotonic() - heard)
                    if part.have - before >= max(1, min(_ENOUGH, (self.bytes or self.size or _ENOUGH) // _SHARE)):
                        self.budget.again(failure)
                    else:
                        self.budget.spend(failure)
            return part.finish()

    def attempt(self, part: Part, hear: Callable[[], None]) -> bool:
        """One request; whether the file is whole afterwards."""
        headers = {"Range": f"bytes={part.have}-"} if part.have else {}
        version = _noted(part.path) if self.sha256 is None else None
        if part.have and version is not None:
            headers["If-Range"] = version
        timeout = self.budget.timeout()
        with request("GET", self.url, headers=headers, token=self.token, timeout=timeout) as reply:
            hear()
            if reply.status == 416:  # the part is longer than the file
                part.restart()
                return False
            hub.raise_for_status(reply, str(self.source))
            self.size = self.total(reply, part, version)
            self.check_space(part)
            ceiling = next(size for size in (self.bytes, self.size, MAX_BYTES) if size is not None)
            for chunk in chunks(reply, CHUNK, timeout):
                hear()
                part.write(chunk)
                if part.have > ceiling:
                    raise IntegrityError(f"{self.source} is longer than the {ceiling} bytes promised", hint=_IN_BETWEEN)
                if self.progress is not None:
                    self.progress(part.have, self.bytes or self.size)
        size = self.bytes if self.bytes is not None else self.size
        return size is None or part.have == size

    def total(self, reply: Any, part: Part, version: str | None) -> int | None:
        """The size of the whole file as this reply says; the part is started anew where the reply is not its rest."""
        if reply.headers.get("Content-Encoding", "identity") != "identity":
            raise DownloadError(f"the server sends {self.source} in another encoding", hint=_IN_BETWEEN)
        commit = reply.headers.get("X-Repo-Commit")
        if isinstance(self.source, HubFile) and commit not in (None, self.source.revision):
            raise IntegrityError(f"the Hub sends another commit than {self.source}", hint=_IN_BETWEEN)
        if reply.status == 206 and part.have:
            unit, _, span = reply.headers.get("Content-Range", "").partition(" ")
            first, _, rest = span.partition("-")
            if unit != "bytes" or first != str(part.have):
                raise DownloadError(
                    f"the server sends another piece of {self.source} than was asked for", hint=_IN_BETWEEN
                )
            if version is not None and _version(reply) != version:
                part.restart()
                raise Broken("the file at the server was changed")
            total = _size(rest.partition("/")[2])
        elif reply.status == 200:
            part.restart()
            total = _size(reply.headers.get("Content-Length", ""))
            self.take_note(part.path, _version(reply))
        else:
            raise DownloadError(f"the server answers {reply.status} for {self.source}", hint=_IN_BETWEEN)
        if total is not None and self.bytes not in (None, total):
            raise IntegrityError(
                f"the server sends {total} bytes for {self.source}",
                why=f"{self.bytes} were promised",
                hint=_IN_BETWEEN,
            )
        if self.bytes is None:
            self.check_size(total)
        return total

    def check_size(self, size: int | None) -> None:
        if size is not None and size > MAX_BYTES:
            raise IntegrityError(
                f"the server speaks of {size} bytes for {self.source}",
                why=f"no more than {MAX_BYTES} are taken",
                hint="Say the size in the registry (`bytes = ...`) if it is right.",
            )

    def take_note(self, path: Path, version: str | None) -> None:
        """Note which version of the file this is the beginning of, where no hash will tell."""
        note = path.with_suffix(NOTE)
        if version is None or self.sha256 is not None:
            note.unlink(missing_ok=True)
        else:
            note.write_text(version, encoding="ascii")

    def check_space(self, part: Part) -> None:
        free = shutil.disk_usage(self.store.parts).free
        more = (self.bytes or self.size or 0) - part.have
        if free < more:
            raise DiskError(
                f"{self.source} needs {more} bytes more",
                why=f"{free} are free at {self.store.parts}",
                hint="Free some space, or set ZOO_HOME to another disk.",
            )

    def from_plugin(self, source: PluginFile, part: Path) -> str:
        """Ask every plugin that fetches; the first that says it did is believed, then hashed."""
        fetchers = self.plugins().fetchers()
        for plugin, fetch in fetchers:
            with disk_errors("write", part):
                part.unlink(missing_ok=True)
            try:
                done = fetch(weights=self.wanted.weights, target=part)
            except ZooError:
                raise
            except Exception as error:
                raise PluginError(
                    f"the plugin {plugin!r} failed to fetch {source}", why=f"{type(error).__name__}: {error}"
                ) from error
            if done:
                if not part.is_file():
                    raise PluginError(f"the plugin {plugin!r} says it fetched {source}, and wrote nothing")
                if part.is_symlink() or part.stat().st_nlink > 1:
                    with disk_errors("remove", part):
                        part.unlink()
                    raise PluginError(
                        f"the plugin {plugin!r} made a link for {source}", why="a blob shares its bytes with no file"
                    )
                with disk_errors("read", part), part.open("rb+") as file:
                    os.fsync(file.fileno())
                return hash_file(part)
        asked = f"asked: {', '.join(name for name, _ in fetchers) or 'none has the hook zoo_fetch'}"
        raise NotFoundError(
            f"no plugin fetches {source.scheme}: sources",
            why="\n".join([asked, *self.plugins().absent()]),
            hint="Install the plugin that these weights need.",
        )

    def plugins(self) -> Registry:
        if self.registry is not None:
            return self.registry
        from zoo.catalog.registry import default

        return default()

    # -- proving ---------------------------------------------------------------------------------------------------

    def is_promised(self, sha256: str) -> bool:
        return self.sha256 in (None, sha256) and sha256.startswith(self.wanted.prefix or "")

    def expect(self, sha256: str, size: int) -> None:
        if not self.is_promised(sha256) or self.bytes not in (None, size):
            raise IntegrityError(
                f"{self.source} gave other bytes than promised for {self.wanted.weights.name}",
                why=f"{size} bytes with the sha256 {sha256}; promised: {self.bytes or 'any number'} bytes, "
                f"{self.sha256 or self.wanted.prefix}",
                hint="Nothing was kept. Try again; if it stays, the file at the source was changed.",
            )

    def check_header(self, path: Path) -> None:
        if self.store.suffix != SUFFIX:
            return
        try:
            read_header(path)
        except IntegrityError as error:
            raise IntegrityError(
                f"{self.source} is not a sound safetensors file",
                why=error.why,
                hint="Nothing was kept. A pickle must be named .pth, .pt, .bin or .ckpt to be converted.",
            ) from error

    def convert(self, part: Path, sha256: str) -> str:
        from zoo.weights.convert import convert_into

        return convert_into(part, sha256, self.store)


def _size(text: str) -> int | None:
    return int(text) if _SIZE.fullmatch(text) else None


def _version(reply: Any) -> str | None:
    """What tells one version of a file from another: a strong ETag, else the time of the last change."""
    for name, pattern in (("ETag", _ETAG), ("Last-Modified", _DATE)):
        value = (reply.headers.get(name) or "").strip()
        if pattern.fullmatch(value):
            return value
    return None


def _noted(path: Path) -> str | None:
    try:
        text = path.with_suffix(NOTE).read_text(encoding="ascii")
    except (OSError, ValueError):
        return None
    return text if _ETAG.fullmatch(text) or _DATE.fullmatch(text) else None

"""Bytes from the Hub, the web or a plugin into the store: resumed, hashed on the way, visible only once proved."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from zoo.catalog.spec import Weights
from zoo.errors import DiskError, DownloadError, IntegrityError, NotFoundError, PluginError, ZooError
from zoo.weights import hub
from zoo.weights.files import CHUNK, disk_errors, hash_file
from zoo.weights.header import read_header
from zoo.weights.remembered import Remembered
from zoo.weights.source import PICKLES, HubFile, PluginFile, Source, WebFile
from zoo.weights.store import Store
from zoo.weights.transport import Broken, Budget, Patience, Token, chunks, request

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry

#: Told (bytes so far, bytes in all or None) while bytes arrive.
Progress = Callable[[int, "int | None"], None]

#: The largest file taken where nobody says a size.
MAX_BYTES: Final = 64 * 2**30
#: An attempt made progress if it brought this share of the file: a server that cuts every byte must end somewhere.
_SHARE: Final = 1000


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
    patience: Patience | None = None,
) -> Got:
    """Bring the wanted bytes into the store.

    Raises:
        NotFoundError: offline and not in the user's own Hub cache, or not at the source.
        DownloadError: the network or the server failed.
        IntegrityError: other bytes than promised came; nothing of them stays visible.
        DiskError: the disk is full, or not ours to write.
    """
    return _Download(wanted, store, registry, progress, patience or Patience()).run()


class _Download:
    def __init__(
        self,
        wanted: Request,
        store: Store,
        registry: Registry | None,
        progress: Progress | None,
        patience: Patience,
    ) -> None:
        self.wanted, self.store, self.registry = wanted, store, registry
        self.progress, self.patience = progress, patience
        self.source = wanted.source
        self.url = ""
        self.token: Token | None = None
        self.sha256, self.bytes = wanted.sha256, wanted.bytes
        self.pickled = self.source.file.endswith(PICKLES)

    def run(self) -> Got:
        if self.store.settings.offline:
            if (got := self.at_hand()) is not None:
                return got
            self.refuse_offline()
        if isinstance(self.source, HubFile):
            self.ask_hub(self.source)
        elif isinstance(self.source, WebFile):
            self.url = self.source.url
        return self.at_hand() or self.fetch_under_lock()

    def refuse_offline(self) -> None:
        name = self.wanted.weights.name
        raise NotFoundError(
            f"the weights {name} are not on this disk, and the zoo is offline",
            why=f"they come from {self.source}",
            hint=f"Run `zoo pull {name}` when connected (without --offline, ZOO_OFFLINE and HF_HUB_OFFLINE).",
        )

    def ask_hub(self, file: HubFile) -> None:
        facts = hub.look_up(file, self.patience)
        if facts.sha256 is not None and self.sha256 not in (None, facts.sha256):
            raise IntegrityError(
                f"the Hub has other bytes for {self.wanted.weights.name} than were promised",
                why=f"sha256 {facts.sha256} at {facts.file}, {self.sha256} in the registry or the lock",
                hint="Correct the registry entry, or `zoo pull --update` to take what is there now.",
            )
        if facts.bytes is not None and self.bytes not in (None, facts.bytes):
            raise IntegrityError(
                f"the Hub says {facts.bytes} bytes for {facts.file}", why=f"{self.bytes} were promised"
            )
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

    def fetch_under_lock(self) -> Got:
        from filelock import FileLock

        key = self.sha256 or hashlib.sha256(str(self.source).encode()).hexdigest()
        part = self.store.parts / f"{key}.part"
        with disk_errors("write", self.store.parts):
            self.store.parts.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.store.lock_of(part))
            lock.acquire()
        try:
            # Another process may have finished it while this one waited.
            return self.at_hand() or self.fetch(part)
        finally:
            lock.release()

    def fetch(self, part: Path) -> Got:
        try:
            got = self.proved(part)
        except IntegrityError:
            part.unlink(missing_ok=True)
            raise
        part.unlink(missing_ok=True)
        return got

    def proved(self, part: Path) -> Got:
        if isinstance(self.source, PluginFile):
            sha256 = self.from_plugin(self.source, part)
        else:
            resumed = part.exists()
            sha256 = self.stream(part)
            if resumed and not self.is_promised(sha256):
                part.unlink()  # what an earlier process left may have been another version
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

    def stream(self, part: Path) -> str:
        """Append to `part` until it is whole; its sha256."""
        budget = Budget(self.patience, str(self.source))
        digest = hashlib.sha256()
        with disk_errors("write", part), part.open("ab+") as file:
            file.seek(0)
            while chunk := file.read(CHUNK):
                digest.update(chunk)
            state = _State(file, digest)
            while not (self.bytes is not None and state.have == self.bytes):
                before = state.have
                try:
                    if self.attempt(state):
                        break
                    raise Broken("the connection ended early")
                except Broken as failure:
                    if state.have - before >= max(1, (self.bytes or 2**26) // _SHARE):
                        budget.progress()
                    else:
                        budget.spend(failure)
            file.flush()
            os.fsync(file.fileno())
        return state.digest.hexdigest()

    def attempt(self, state: _State) -> bool:
        """One request; whether the file is whole afterwards."""
        headers = {"Range": f"bytes={state.have}-"} if state.have else {}
        timeout = self.patience.longest
        with request("GET", self.url, headers=headers, token=self.token, timeout=timeout) as reply:
            if reply.status == 416:  # the part is longer than the file
                state.restart()
                return False
            hub.raise_for_status(reply, str(self.source))
            total = self.total(reply, state)
            if self.bytes is None:
                self.bytes = total
            self.check_space(state)
            for chunk in chunks(reply, CHUNK):
                state.write(chunk)
                if state.have > (self.bytes if self.bytes is not None else MAX_BYTES):
                    raise IntegrityError(f"{self.source} is longer than the {self.bytes or MAX_BYTES} bytes promised")
                if self.progress is not None:
                    self.progress(state.have, self.bytes)
        return self.bytes is None or state.have == self.bytes

    def total(self, reply: Any, state: _State) -> int | None:
        """The size of the whole file as this reply says; the part is started anew where the reply is not its rest."""
        if reply.headers.get("Content-Encoding", "identity") != "identity":
            raise DownloadError(f"the server sends {self.source} in another encoding")
        length = reply.headers.get("Content-Length", "")
        length = int(length) if length.isascii() and length.isdigit() else None
        if reply.status == 206 and state.have:
            unit, _, span = reply.headers.get("Content-Range", "").partition(" ")
            first, _, rest = span.partition("-")
            if unit != "bytes" or first != str(state.have):
                raise DownloadError(f"the server sends another piece of {self.source} than was asked for")
            last = rest.partition("/")[2]
            return int(last) if last.isascii() and last.isdigit() else None
        if reply.status != 200:
            raise DownloadError(f"the server answers {reply.status} for {self.source}")
        state.restart()
        if length is not None and self.bytes not in (None, length):
            raise IntegrityError(
                f"the server sends {length} bytes for {self.source}",
                why=f"{self.bytes} were promised",
                hint="Something else lies there now, or stands in between; try again, or correct the registry entry.",
            )
        return length

    def check_space(self, state: _State) -> None:
        free = shutil.disk_usage(self.store.parts).free
        if self.bytes is not None and free < self.bytes - state.have:
            raise DiskError(
                f"{self.source} needs {self.bytes - state.have} bytes more",
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
                with disk_errors("read", part), part.open("rb+") as file:
                    os.fsync(file.fileno())
                return hash_file(part)
        raise NotFoundError(
            f"no plugin fetches {source.scheme}: sources",
            why=f"asked: {', '.join(name for name, _ in fetchers) or 'none has the hook zoo_fetch'}",
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
        try:
            read_header(path)
        except IntegrityError as error:
            raise IntegrityError(
                f"{self.source} is not a sound safetensors file",
                why=error.why,
                hint="Nothing was kept. A pickle must be named .pth, .pt, .bin or .ckpt to be converted.",
            ) from error

    def convert(self, part: Path, sha256: str) -> str:
        from zoo.weights.convert import convert

        made = part.with_name(f"fetch-{sha256}.part")
        try:
            convert(part, made)
            self.check_header(made)
            converted = self.store.add(made)
        finally:
            made.unlink(missing_ok=True)
        Remembered(self.store.settings).note_converted(sha256, converted)
        return converted


class _State:
    """A part and the hash of what is in it."""

    def __init__(self, file: Any, digest: Any) -> None:
        self.file, self.digest = file, digest
        self.have: int = file.tell()

    def write(self, chunk: bytes) -> None:
        self.file.write(chunk)
        self.digest.update(chunk)
        self.have += len(chunk)

    def restart(self) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.digest = hashlib.sha256()
        self.have = 0

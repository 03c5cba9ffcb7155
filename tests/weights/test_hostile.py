"""Hostile strings in every field that a server or a file fills: nothing outside the home is ever touched."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.message import Message
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.catalog.spec import Weights
from zoo.errors import DownloadError, RegistryError, ZooError
from zoo.settings import Settings
from zoo.testing.hostile import strings, watched
from zoo.testing.hub import FakeHub
from zoo.weights import download as downloads
from zoo.weights import hub as hubs
from zoo.weights.lock import Entry, Lock, _dump
from zoo.weights.pull import pull
from zoo.weights.source import HubFile, parse
from zoo.weights.store import Store
from zoo.weights.transport import Patience, _allowed, origin

Make = Callable[..., bytes]
REPO, FILE = "timm/tiny.a", "model.safetensors"
COMMIT = "0123456789" * 4
STRINGS = strings()


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of small pulls; no power is cut while they run."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def test_the_watch_sees(tmp_path: Path) -> None:
    """The other tests are worth something only if this one passes."""
    (tmp_path / "home").mkdir()
    with watched(tmp_path / "home") as escaped:
        (tmp_path / "home" / "x").write_text("")
        assert escaped == []
        (tmp_path / "home" / ".." / "y").write_text("")
        os.replace(tmp_path / "home" / "x", tmp_path / "z")
        (tmp_path / "folder").mkdir()
    assert [Path(path).name for path in escaped] == ["y", "z", "folder"]


def test_there_are_enough_and_they_differ() -> None:
    assert len(STRINGS) >= 200
    assert len(set(STRINGS)) == len(STRINGS)


class Reply:
    """A reply without a server."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, Message(), BytesIO(body)
        for name, value in headers.items():
            self.headers[name] = value

    def read1(self, size: int) -> bytes:
        return self.body.read1(size)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, make: Make) -> Callable[..., None]:
    """Serves one file from memory, with some headers set to what is given."""
    content = make()
    monkeypatch.setattr(downloads, "Patience", lambda: Patience(attempts=1))
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example.org")

    def serve(**hostile: str) -> None:
        given = {name.replace("_", "-"): value for name, value in hostile.items()}

        @contextmanager
        def request(method: str, url: str, **_: Any) -> Iterator[Reply]:
            assert url.isascii()
            assert url.isprintable()
            good = {"X-Repo-Commit": COMMIT, "Content-Length": str(len(content))}
            yield Reply(int(given.get("status", 200)), {**good, **given}, b"" if method == "HEAD" else content)

        monkeypatch.setattr(hubs, "request", request)
        monkeypatch.setattr(downloads, "request", request)

    return serve


def outcome(weights: Weights, settings: Settings) -> str:
    """Pull, and forget what came."""
    try:
        got = pull(weights, settings=settings)
    except ZooError as error:
        return type(error).__name__
    Store(settings).remove(got.sha256)
    Lock.of(settings).path.unlink(missing_ok=True)
    return "pulled"


#: Fields that are tried together, and what a pull ends in.
FIELDS: dict[tuple[str, ...], set[str]] = {
    ("X_Repo_Commit",): {"DownloadError"},
    ("ETag", "X_Linked_ETag", "Last_Modified", "Content_Disposition", "Location"): {"pulled"},
    ("X_Linked_Size",): {"pulled", "IntegrityError"},
    ("Content_Length",): {"pulled", "IntegrityError"},
    ("X_Error_Code 404",): {"NotFoundError"},
    ("X_Error_Code 403",): {"DownloadError"},
    ("Content_Range 206",): {"DownloadError"},
    ("Content_Encoding",): {"DownloadError"},
}


@pytest.mark.parametrize("fields", FIELDS, ids=lambda fields: fields[0])
def test_headers(fields: tuple[str, ...], settings: Settings, served: Callable[..., None]) -> None:
    weights = Weights(name="tiny.a", backbone="tiny", source=f"hf://{REPO}@main/{FILE}")
    ends: set[str] = set()
    settings.home.mkdir(exist_ok=True)
    with watched(settings.home) as escaped:
        for string in STRINGS:
            hostile = {field.partition(" ")[0]: string for field in fields}
            served(**hostile, status=fields[0].partition(" ")[2] or "200")
            ends.add(outcome(weights, settings))
    assert escaped == []
    assert ends <= FIELDS[fields]
    left = {path.name for path in settings.home.rglob("*") if path.is_file()}
    assert all(name.endswith((".part", ".etag", ".json")) for name in left), left


@pytest.mark.parametrize("fault", ["bad-commit", "bad-etag", "bad-name", "redirect", "redirect-head"])
def test_over_the_wire(
    fault: str, settings: Settings, hub: FakeHub, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sample of the same through a real server; all of them go through it in tools/bench/weights.py."""
    monkeypatch.setattr(downloads, "Patience", lambda: Patience(attempts=1))
    hub.add(REPO, FILE, make())
    weights = Weights(name="tiny.a", backbone="tiny", source=f"hf://{REPO}@main/{FILE}")
    settings.home.mkdir(exist_ok=True)
    hub.fault = fault
    with watched(settings.home) as escaped:
        for string in STRINGS[::15]:
            hub.hostile = hub.redirect_to = string
            ended = outcome(weights, settings)
            assert ended in ("pulled", "DownloadError", "IntegrityError", "NotFoundError")
            assert ended != "pulled" or fault in ("bad-etag", "bad-name") or not string
    assert escaped == []


@pytest.mark.parametrize("base", ["https://hub.example.org/a/b", "http://127.0.0.1:9/a/b"])
def test_where_a_redirect_may_lead(base: str) -> None:
    for string in STRINGS:
        try:
            target = _allowed(base, string, origin(base))
        except DownloadError:
            continue
        # What is taken is an address of its own origin, or https; never another scheme, never with a password.
        assert target.startswith("https://") or origin(target) == origin(base), string
        assert "@" not in target.partition("//")[2].partition("/")[0], string


FORMS = ["hf://{}/b@main/x", "hf://a/{}@main/x", "hf://a/b@{}/x", "hf://a/b@main/{}", "hf://a/b@main/y/{}", "{}"]


@pytest.mark.parametrize("form", FORMS)
def test_sources(form: str, settings: Settings, served: Callable[..., None]) -> None:
    served()
    settings.home.mkdir(exist_ok=True)
    taken = 0
    with watched(settings.home) as escaped:
        for string in STRINGS:
            text = form.replace("{}", string)
            try:
                source = parse(text)
            except RegistryError:
                continue
            if isinstance(source, HubFile):
                taken += 1
                parts = [*source.repo.split("/"), source.revision, *source.file.split("/")]
                assert not any(part in ("", ".", "..") for part in parts), text
                outcome(Weights(name="tiny.a", backbone="tiny", source=text), settings)
    assert escaped == []
    assert taken < 60


@pytest.mark.parametrize("key", ["source", "file", "sha256", "revision", "format", "converted_sha256"])
def test_locks(key: str, tmp_path: Path) -> None:
    """A lock file from a stranger: a field that is not of its form is refused, and none becomes a path."""
    good = {"source": f"hf://{REPO}@{COMMIT}/{FILE}", "file": FILE, "sha256": "a" * 64, "bytes": 1, "revision": COMMIT}
    path = tmp_path / "zoo.lock"
    for string in STRINGS:
        entry = Entry(**{**good, key: string})  # type: ignore[arg-type]
        path.write_text(_dump({"tiny.a": entry}), encoding="utf-8")
        try:
            found = Lock(path).entries["tiny.a"]
        except ZooError:
            continue
        assert key in ("source", "file", "format"), string
        if key == "source":
            parse(found.source)


@given(st.text(max_size=80))
def test_a_hash_is_a_hash(text: str) -> None:
    store = Store(Settings(home=Path("/nowhere")))
    for one in (text, f"{'a' * 64}{text}", f"{text}{'a' * 64}"):
        try:
            path = store.path(one)
        except ZooError:
            continue
        assert path.parent.parent == Path("/nowhere/blobs/sha256")
        assert len(path.stem) == 64

"""Every way in which the fake Hub misbehaves: the right bytes or the right error, soon, and nothing wrong is kept."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from zoo.catalog.spec import Weights
from zoo.errors import DownloadError, IntegrityError, NotFoundError, UsageError, ZooError
from zoo.settings import Settings
from zoo.testing.hub import FAULTS, FakeHub
from zoo.weights import download as downloads
from zoo.weights import transport
from zoo.weights.download import Request, download
from zoo.weights.lock import Lock
from zoo.weights.pull import pull
from zoo.weights.source import parse
from zoo.weights.store import Store
from zoo.weights.transport import Broken, Budget, Patience, UnreachableError

Make = Callable[..., bytes]
REPO, FILE = "timm/tiny.a", "model.safetensors"
QUICK = Patience(attempts=3, total=1.0, first=0.01, longest=0.4)
SIZE = 200_000
#: Faults that cost time; who knows them waits less.
SILENT = ("stall", "hang", "drip", "wrong-length")

#: What a pull from the Hub ends in; None = the right bytes.
FROM_HUB: dict[str, type[ZooError] | None] = {
    "flip": IntegrityError,
    "changed": IntegrityError,
    "changed-midway": IntegrityError,
    "truncate": DownloadError,
    "short": IntegrityError,
    "longer": IntegrityError,
    "endless": IntegrityError,
    "wrong-length": IntegrityError,
    "huge": IntegrityError,
    "html": IntegrityError,
    "empty": IntegrityError,
    "encoded": DownloadError,
    "wrong-range": DownloadError,
    "bad-commit": DownloadError,
    "other-commit": NotFoundError,
    "no-commit": DownloadError,
    "bad-etag": None,
    "other-etag": IntegrityError,
    "bad-name": None,
    "bad-index": None,
    "redirect": DownloadError,
    "redirect-head": DownloadError,
    "redirect-file": DownloadError,
    "redirect-plain": DownloadError,
    "redirect-loop": DownloadError,
    "no-repo": NotFoundError,
    "no-revision": NotFoundError,
    "no-file": NotFoundError,
    "missing": NotFoundError,
    "hidden": NotFoundError,
    "unauthorized": DownloadError,
    "forbidden": DownloadError,
    "gated": DownloadError,
    "gone": DownloadError,
    "busy": DownloadError,
    "broken": DownloadError,
    "broken-head": None,
    "broken-get": None,
    "cut": None,
    "no-range": DownloadError,
    "no-if-range": None,
    "slow": None,
    "stall": DownloadError,
    "drip": DownloadError,
    "hang": DownloadError,
    "refuse": DownloadError,
}

#: The same for a plain web server and a sha256 in the registry, where it differs: there is no HEAD and no metadata.
FROM_WEB = FROM_HUB | {
    "wrong-length": DownloadError,
    "bad-commit": None,
    "other-commit": None,
    "no-commit": None,
    "other-etag": None,
    "redirect-head": None,
}


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits are short; their number and order are as ever. No file is larger than 4 MB."""
    silent = "fault" in request.fixturenames and request.getfixturevalue("fault") in SILENT
    patience = replace(QUICK, attempts=2, longest=0.3) if silent else replace(QUICK, longest=2.0, total=4.0)
    monkeypatch.setattr(downloads, "Patience", lambda: patience)
    monkeypatch.setattr(downloads, "MAX_BYTES", 4_000_000)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """An https server."""
    certificate = Path(__file__).with_name("localhost.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with FakeHub(certificate) as server:
        yield server


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def weights(source: str = f"hf://{REPO}@main/{FILE}", **fields: object) -> Weights:
    return Weights(name="tiny.a", backbone="tiny", source=source, **fields)


def visible(settings: Settings) -> list[str]:
    return [path.stem for path in settings.blobs.glob("*/*")]


def unfinished(settings: Settings) -> list[str]:
    parts = Store(settings).parts
    return [path.name for path in parts.iterdir()] if parts.is_dir() else []


def try_one(wanted: Weights, end: type[ZooError] | None, settings: Settings, server: FakeHub, content: bytes) -> None:
    start = time.perf_counter()
    if end is None:
        assert pull(wanted, settings=settings).path.read_bytes() == content
    else:
        with pytest.raises(end) as caught:
            pull(wanted, settings=settings)
        assert caught.value.hint or caught.value.why
        assert visible(settings) == []
        assert "tiny.a" not in Lock.of(settings).entries
        if end is IntegrityError:
            assert unfinished(settings) == []
    assert time.perf_counter() - start < 5
    server.fault = None
    assert pull(wanted, settings=settings).path.read_bytes() == content
    assert visible(settings) == [sha(content)]
    assert unfinished(settings) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_hub_that_misbehaves(fault: str, settings: Settings, hub: FakeHub, make: Make) -> None:
    content = make(size=SIZE)
    hub.add(REPO, FILE, content)
    hub.fault, hub.redirect_to, hub.rate = fault, "http://127.0.0.2:9/x", 4_000_000
    if fault == "no-range":
        hub.cut_every = 100
    try_one(weights(), FROM_HUB[fault], settings, hub, content)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_web_server_that_misbehaves(fault: str, settings: Settings, web: FakeHub, make: Make) -> None:
    content = make(size=SIZE)
    web.add("x/y", "a.safetensors", content)
    web.fault, web.redirect_to, web.rate = fault, "http://127.0.0.2:9/x", 4_000_000
    if fault == "no-range":
        web.cut_every = 100
    wanted = weights(f"{web.url}/raw/a.safetensors", sha256=sha(content))
    try_one(wanted, FROM_WEB[fault], settings, web, content)


def test_another_commit_than_the_pinned_one(settings: Settings, hub: FakeHub, make: Make) -> None:
    commit = hub.add(REPO, FILE, make())
    hub.fault = "other-commit"
    with pytest.raises(IntegrityError, match="gives commit"):
        pull(weights(f"hf://{REPO}@{commit}/{FILE}"), settings=settings)


def test_a_branch_that_moves_between_the_two_requests(
    settings: Settings, hub: FakeHub, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hub.add(REPO, FILE, make(1))
    at_hand = downloads._Download.at_hand

    def moved(self: downloads._Download) -> object:
        if hub.commit(REPO) == first:
            hub.add(REPO, FILE, make(2))
        return at_hand(self)

    monkeypatch.setattr(downloads._Download, "at_hand", moved)
    got = pull(weights(), settings=settings)
    assert (got.sha256, got.revision) == (sha(make(1)), first), "what was asked about is what was fetched"


# -- versions, where no hash is known --------------------------------------------------------------------------------


@pytest.mark.parametrize(("versions", "then"), [(True, None), (False, None), (True, "no-if-range")])
def test_two_versions_are_never_mixed(
    versions: bool, then: str | None, settings: Settings, web: FakeHub, make: Make
) -> None:
    """The file changes after half of it came: what comes next is the new version from its start."""
    old, new = make(1, size=SIZE), make(2, size=SIZE)
    web.add("x/y", "a.safetensors", old)
    web.versions, web.fault, web.silence = versions, "truncate", 0
    wanted = weights(f"{web.url}/raw/a.safetensors")
    with pytest.raises(DownloadError):
        pull(wanted, settings=settings)
    assert any(name.endswith(".part") for name in unfinished(settings))
    web.fault, before = then, web.count("GET")
    web.add("x/y", "a.safetensors", new)
    assert pull(wanted, settings=settings).sha256 == sha(new)
    assert web.count("GET") - before == (2 if then else 1), "a server that knows If-Range is asked once"


def test_the_same_version_goes_on(settings: Settings, web: FakeHub, make: Make) -> None:
    content = make(size=SIZE)
    web.add("x/y", "a.safetensors", content)
    web.fault = "truncate"
    wanted = weights(f"{web.url}/raw/a.safetensors")
    with pytest.raises(DownloadError):
        pull(wanted, settings=settings)
    before = web.sent
    web.fault = None
    assert pull(wanted, settings=settings).sha256 == sha(content)
    assert web.sent == len(content), f"{before} bytes were kept"


# -- waiting ---------------------------------------------------------------------------------------------------------


def test_a_server_that_says_when_is_waited_for_and_it_is_said(
    settings: Settings, hub: FakeHub, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    said: list[str] = []

    def sleep(seconds: float) -> None:
        assert len(said) > len(slept), "first said, then slept"
        slept.append(seconds)
        if sum(slept) >= 23:
            hub.fault = None

    hub.add(REPO, FILE, make())
    hub.fault, hub.retry_after = "busy", 23
    monkeypatch.setattr(transport.time, "sleep", sleep)
    wanted = Request(weights(), parse(f"hf://{REPO}@main/{FILE}"), None, None, None)
    download(wanted, Store(settings), patience=Patience(), note=said.append)
    assert slept == [5, 5, 5, 5, 3]
    assert said[0] == f"the server answered 429; next attempt at hf://{REPO}@main/{FILE} in 23 s"


@pytest.mark.parametrize(("asked", "note"), [(61, True), (3600, True), (999_999_999, True), (11, False)])
def test_longer_than_the_limit_is_not_waited_for(
    asked: int, note: bool, settings: Settings, hub: FakeHub, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport.time, "sleep", lambda _: pytest.fail("slept"))
    hub.add(REPO, FILE, make())
    hub.fault, hub.retry_after = "busy", asked
    wanted = Request(weights(), parse(f"hf://{REPO}@main/{FILE}"), None, None, None)
    with pytest.raises(DownloadError, match=f"{asked} s"):
        download(wanted, Store(settings), patience=Patience(), note=print if note else None)


def test_all_waits_together_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that brings a little and then falls silent, again and again, does not hold anybody for ever."""
    slept: list[float] = []
    monkeypatch.setattr(transport.time, "sleep", slept.append)
    budget = Budget(Patience(), "x", note=lambda _: None)

    def again() -> None:
        budget.silence(9)
        budget.again(Broken("silent"))

    for _ in range(6):
        again()
    with pytest.raises(DownloadError, match="silence in all"):
        again()
    assert slept == []


def test_a_server_that_cuts_often_is_asked_as_often_without_a_wait(
    settings: Settings, hub: FakeHub, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport.time, "sleep", lambda _: pytest.fail("slept"))
    monkeypatch.setattr(downloads, "Patience", Patience)
    content = make(size=SIZE)
    hub.add(REPO, FILE, content)
    hub.fault, hub.cut_every = "cut", 1000
    assert pull(weights(), settings=settings).sha256 == sha(content)
    assert hub.count("GET") == -(-len(content) // 1000) > 200
    assert hub.sent == len(content)


def test_progress_forgives_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport.time, "sleep", lambda _: None)
    budget = Budget(Patience(), "x")
    for _ in range(100):
        budget.progress()
        budget.spend(Broken("cut"))
    assert budget.failures == 1


def test_without_a_network_the_truth_comes_soon(
    settings: Settings, make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)

    def nowhere(*_: object, **__: object) -> None:
        raise transport.socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(transport.socket, "getaddrinfo", nowhere)
    start = time.perf_counter()
    with pytest.raises(UnreachableError, match="not on this disk") as caught:
        pull(weights(), settings=settings)
    assert time.perf_counter() - start < 1
    assert "When connected: zoo pull tiny.a" in str(caught.value.hint)
    assert "zoo pull tiny.a --to DIR" in str(caught.value.hint)
    assert caught.value.exit_code == 4
    # A hash that is known can still be met by the user's own cache of the Hub.
    blob = tmp_path / "hf-cache" / "models--timm--tiny.a" / "blobs" / sha(make())
    blob.parent.mkdir(parents=True)
    blob.write_bytes(make())
    assert pull(weights(sha256=sha(make())), settings=settings).path.read_bytes() == make()


# -- where bytes and tokens may travel -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "http://example.org",
        "http://127.0.0.1.example.org",
        "http://localhost.example.org:80",
        "http://127.0.0.1@example.org",
        "ftp://example.org",
        "file:///etc",
        "https://user:secret@example.org",
        "https://example.org/?x=",
        "https://exa mple.org",
        "//example.org",
        "example.org",
    ],
)
def test_an_endpoint_is_https_or_on_this_machine(
    address: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setattr(transport, "_send", lambda *_: pytest.fail("a request left"))
    with pytest.raises(UsageError, match="endpoint"):
        pull(weights(), settings=settings)


@pytest.mark.parametrize("address", ["https://hub.example.org", "https://example.org:8443/hf", "http://[::1]:80"])
def test_other_endpoints(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.weights import hub

    monkeypatch.setenv("HF_ENDPOINT", f"{address}/")
    assert hub.endpoint() == address


def test_a_proxy_is_used(settings: Settings, hub: FakeHub, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(REPO, FILE, make())
    monkeypatch.setenv("http_proxy", hub.url)
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert pull(weights(), settings=settings).sha256 == sha(make())
    assert hub.requests[0].path.startswith("http://127.0.0.1:9/timm/")


@pytest.mark.parametrize("fault", ["redirect", "redirect-head"])
def test_no_token_over_any_number_of_redirects(
    fault: str, settings: Settings, hub: FakeHub, web: FakeHub, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the endpoint to another host, and from there on: only the endpoint sees the token."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.add(REPO, FILE, make())
    certificate = Path(__file__).with_name("localhost.pem")
    with FakeHub(certificate) as last:
        last.add("x/y", "a.safetensors", make())
        hub.fault, hub.redirect_to = fault, f"{web.url}/first"
        web.fault, web.redirect_to = "redirect", f"{last.url}/raw/a.safetensors"
        if fault == "redirect":
            assert pull(weights(), settings=settings).sha256 == sha(make())
            assert (web.count("GET"), last.count("GET")) == (1, 1)
        else:  # nobody but the endpoint may speak for it
            with pytest.raises(DownloadError, match="names no commit"):
                pull(weights(), settings=settings)
            assert web.count() == 0
        for seen in (*web.requests, *last.requests):
            assert seen.header("Authorization") is None
            assert "hf_secret" not in str(seen)
    assert {seen.header("Authorization") for seen in hub.requests} == {"Bearer hf_secret"}


def test_a_web_source_never_sees_a_token_even_at_the_endpoint(
    settings: Settings, web: FakeHub, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    web.add("x/y", "a.safetensors", make())
    pull(weights(f"{web.url}/raw/a.safetensors"), settings=settings)
    assert [seen.header("Authorization") for seen in web.requests] == [None]


@pytest.mark.parametrize("secret", ["hf_se cret", "hf_\x01secret", "hf_s\u00e9cret"])
def test_what_is_no_token_is_neither_sent_nor_printed(
    secret: str, settings: Settings, hub: FakeHub, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", secret)
    hub.add(REPO, FILE, make())
    with pytest.raises(UsageError, match="no token") as caught:
        pull(weights(), settings=settings)
    assert "cret" not in str(caught.value)
    assert hub.count() == 0


def test_the_implicit_token_can_be_switched_off(
    settings: Settings, hub: FakeHub, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    hub.add(REPO, FILE, make())
    pull(weights(), settings=settings)
    assert {seen.header("Authorization") for seen in hub.requests} == {None}


# -- which hash is expected ------------------------------------------------------------------------------------------


def test_the_registry_comes_before_the_lock_and_the_lock_before_the_hub(
    settings: Settings, hub: FakeHub, make: Make
) -> None:
    first = hub.add(REPO, FILE, make(1))
    pull(weights(), settings=settings)
    Store(settings).remove(sha(make(1)))
    # The lock's hash holds against what the Hub says of the commit ...
    hub.fault = "other-etag"
    with pytest.raises(IntegrityError, match="other bytes"):
        pull(weights(), settings=settings)
    # ... and the registry's against both.
    hub.fault = None
    wanted = weights(f"hf://{REPO}@{first}/{FILE}", sha256=sha(make(2)))
    with pytest.raises(IntegrityError, match="not as pinned"):
        pull(wanted, settings=settings)
    with pytest.raises(IntegrityError, match="other bytes"):
        pull(wanted, settings=settings, update=True)
    assert visible(settings) == []
    assert pull(weights(), settings=settings).revision == first


def test_without_a_hash_of_the_hub_the_first_pull_records_it(settings: Settings, make: Make) -> None:
    with FakeHub(lfs_from=10**9) as hub, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", hub.url)
        hub.add(REPO, FILE, make())
        assert pull(weights(), settings=settings).sha256 == sha(make())
        Store(settings).remove(sha(make()))
        hub.fault = "flip"
        with pytest.raises(IntegrityError, match="other bytes than promised"):
            pull(weights(), settings=settings)


def test_a_prefix_is_held_against_the_hub_before_a_byte_is_fetched(
    settings: Settings, hub: FakeHub, make: Make
) -> None:
    hub.add(REPO, FILE, make())
    with pytest.raises(IntegrityError, match="the Hub has other bytes"):
        pull(weights(sha256_prefix="00000000"), settings=settings)
    assert hub.count("GET") == 0
    assert pull(weights(sha256_prefix=sha(make())[:8]), settings=replace(settings)).sha256 == sha(make())

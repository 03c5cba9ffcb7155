"""Pulls against a real server on this machine, behaving and misbehaving."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from zoo.catalog.spec import Weights
from zoo.errors import DiskError, DownloadError, IntegrityError, NotFoundError, PluginError, RegistryError, UsageError
from zoo.settings import Settings
from zoo.testing.hub import FakeHub
from zoo.weights import download as downloads
from zoo.weights.download import Request, download
from zoo.weights.lock import Lock
from zoo.weights.pull import pull
from zoo.weights.source import parse
from zoo.weights.store import Store
from zoo.weights.transport import Patience

Make = Callable[..., bytes]
REPO, FILE = "timm/tiny.a", "model.safetensors"
QUICK = Patience(attempts=3, total=1.0, first=0.01, longest=0.5)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits are short; their number and order are as ever."""
    monkeypatch.setattr(downloads, "Patience", lambda: QUICK)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def weights(source: str = f"hf://{REPO}@main/{FILE}", **fields: object) -> Weights:
    return Weights(name="tiny.a", backbone="tiny", source=source, **fields)


def leftovers(settings: Settings) -> list[str]:
    """What the store shows: blobs, and parts that are not empty."""
    parts = settings.blobs.parent / "parts"
    found = [*settings.blobs.glob("*/*"), *(p for p in parts.glob("*") if p.suffix != ".lock")]
    return [path.name for path in found]


# -- behaving --------------------------------------------------------------------------------------------------------


def test_pull_resolves_verifies_and_locks(settings: Settings, hub: FakeHub, make: Make) -> None:
    commit = hub.add(REPO, FILE, make())
    seen: list[tuple[int, int | None]] = []
    got = pull(weights(), settings=settings, progress=lambda have, total: seen.append((have, total)))
    assert got.path.read_bytes() == make()
    assert (got.sha256, got.bytes, got.revision, got.cached) == (sha(make()), len(make()), commit, False)
    assert got.source == f"hf://{REPO}@{commit}/{FILE}"
    assert seen[-1] == (len(make()), len(make()))
    entry = Lock.of(settings).entries["tiny.a"]
    assert (entry.revision, entry.sha256, entry.bytes, entry.format) == (commit, got.sha256, got.bytes, "safetensors")
    assert leftovers(settings) == [got.path.name]


def test_pinned_and_present_costs_no_request(settings: Settings, hub: FakeHub, make: Make) -> None:
    hub.add(REPO, FILE, make())
    pull(weights(), settings=settings)
    hub.forget()
    for known in (weights(), weights(sha256=sha(make()))):
        again = pull(known, settings=settings)
        assert again.cached
    assert pull(weights(), settings=replace(settings, offline=True)).cached
    assert hub.count() == 0


def test_the_lock_holds_against_a_moved_branch_and_update_lets_go(settings: Settings, hub: FakeHub, make: Make) -> None:
    hub.add(REPO, FILE, make(1))
    first = pull(weights(), settings=settings)
    hub.add(REPO, FILE, make(2))
    assert pull(weights(), settings=settings).sha256 == first.sha256
    second = pull(weights(), settings=settings, update=True)
    assert second.sha256 == sha(make(2))
    assert Lock.of(settings).entries["tiny.a"].sha256 == second.sha256


def test_locked_takes_what_the_lock_says_or_nothing(settings: Settings, hub: FakeHub, make: Make) -> None:
    hub.add(REPO, FILE, make())
    with pytest.raises(IntegrityError, match="not as pinned"):
        pull(weights(), settings=settings, locked=True)
    assert hub.count() == 0
    pull(weights(), settings=settings)
    assert pull(weights(), settings=settings, locked=True).cached
    with pytest.raises(IntegrityError, match="not as pinned"):
        pull(weights(sha256="0" * 64), settings=settings, locked=True)


def test_another_project_downloads_nothing_again(settings: Settings, hub: FakeHub, make: Make, tmp_path: Path) -> None:
    hub.add(REPO, FILE, make())
    pull(weights(), settings=settings)
    hub.forget()
    (tmp_path / "registry.toml").write_text("schema = 1\n")
    assert pull(weights(), settings=settings).cached
    assert hub.count("GET") == 0
    assert "tiny.a" in Lock(tmp_path / "zoo.lock").entries


def test_offline_fails_at_once_and_says_what_to_run(settings: Settings, hub: FakeHub) -> None:
    start = time.perf_counter()
    with pytest.raises(NotFoundError, match="offline") as caught:
        pull(weights(), settings=replace(settings, offline=True))
    assert time.perf_counter() - start < 0.5
    assert "zoo pull tiny.a" in caught.value.hint
    assert hub.count() == 0


def test_the_users_hub_cache_is_used_after_hashing(settings: Settings, make: Make, tmp_path: Path) -> None:
    blob = tmp_path / "hf-cache" / "models--timm--tiny.a" / "blobs" / sha(make())
    blob.parent.mkdir(parents=True)
    blob.write_bytes(make(2))
    pinned, offline = weights(sha256=sha(make())), replace(settings, offline=True)
    with pytest.raises(NotFoundError):
        pull(pinned, settings=offline)
    blob.write_bytes(make())
    assert pull(pinned, settings=offline).path.read_bytes() == make()


def test_the_token_goes_to_the_endpoint_alone(
    settings: Settings, hub: FakeHub, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.add(REPO, FILE, make())
    pull(weights(), settings=settings)
    assert {seen.header("Authorization") for seen in hub.requests} == {"Bearer hf_secret"}


def test_the_hubs_own_client_believes_in_it(hub: FakeHub, make: Make, tmp_path: Path) -> None:
    hub.add(REPO, FILE, make())
    code = (
        "import sys; from huggingface_hub import HfApi, hf_hub_download\n"
        f"print(HfApi().model_info({REPO!r}).sha, len(list(HfApi().list_repo_tree({REPO!r}))))\n"
        f"print(hf_hub_download({REPO!r}, {FILE!r}, cache_dir=sys.argv[1]))"
    )
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    environment.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    first, path = done.stdout.split("\n")[:2]
    assert first == f"{hub.commit(REPO)} 1"
    assert Path(path).read_bytes() == make()


# -- misbehaving; every mode of the server is in test_faults.py ------------------------------------------------------


def test_a_server_that_recovers_is_waited_for(settings: Settings, hub: FakeHub, make: Make) -> None:
    hub.add(REPO, FILE, make())
    hub.fault, hub.times = "broken-get", 2
    assert pull(weights(), settings=settings).sha256 == sha(make())
    assert hub.count("GET") == 3


def test_a_cut_connection_goes_on_where_it_was(settings: Settings, hub: FakeHub, make: Make) -> None:
    content = make(size=500_000)
    hub.add(REPO, FILE, content)
    hub.fault, hub.cut_every = "cut", 20_000
    assert pull(weights(), settings=settings).path.read_bytes() == content
    assert hub.sent == len(content)
    assert hub.count("GET") == 26


def test_a_server_without_ranges_that_cuts_is_given_up(settings: Settings, hub: FakeHub, make: Make) -> None:
    hub.add(REPO, FILE, make(size=200_000))
    hub.fault, hub.cut_every = "no-range", 1000
    with pytest.raises(DownloadError, match="cannot download"):
        pull(weights(), settings=settings)
    assert hub.count("GET") <= QUICK.attempts + 1


def test_an_etag_that_is_no_hash_is_not_believed(settings: Settings, hub: FakeHub, make: Make) -> None:
    hub.add(REPO, FILE, make())
    hub.fault = "bad-etag"
    got = pull(weights(), settings=settings)
    assert got.sha256 == sha(make())
    assert Store(settings).ls() == [got.sha256]


def test_other_bytes_than_pinned_are_refused_before_they_are_fetched(
    settings: Settings, hub: FakeHub, make: Make
) -> None:
    hub.add(REPO, FILE, make())
    for pinned in (weights(sha256="0" * 64), weights(bytes=7)):
        with pytest.raises(IntegrityError, match="Hub"):
            pull(pinned, settings=settings)
    with pytest.raises(IntegrityError, match="promised"):
        pull(weights(sha256_prefix="00000000"), settings=settings)
    with pytest.raises(RegistryError, match="sha256_prefix"):
        pull(weights(sha256_prefix="xyz"), settings=settings)
    assert leftovers(settings) == []


def test_a_file_that_is_no_safetensors_is_not_kept(settings: Settings, hub: FakeHub) -> None:
    hub.add(REPO, FILE, b"\x80\x04 a pickle under another name")
    with pytest.raises(IntegrityError, match="not a sound safetensors file"):
        pull(weights(), settings=settings)
    assert leftovers(settings) == []


def test_a_full_disk_is_found_before_the_download(
    settings: Settings, hub: FakeHub, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(REPO, FILE, make())
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DiskError, match="needs"):
        pull(weights(), settings=settings)


def test_a_home_that_is_a_file_is_a_disk_error(settings: Settings, hub: FakeHub, make: Make, tmp_path: Path) -> None:
    hub.add(REPO, FILE, make())
    (tmp_path / "home").write_text("")
    with pytest.raises(DiskError):
        pull(weights(), settings=replace(settings, home=tmp_path / "home"))


# -- killed, and many at once ----------------------------------------------------------------------------------------

PULL = """
import os, sys
from zoo.catalog.spec import Weights
from zoo.settings import Settings
from zoo.weights.pull import pull
got = pull(Weights(name="tiny.a", backbone="tiny", source=sys.argv[1]), settings=Settings())
print(got.sha256)
"""


def start(settings: Settings, hub: FakeHub, code: str = PULL) -> subprocess.Popen[str]:
    environment = {**os.environ, "ZOO_HOME": str(settings.home), "HF_ENDPOINT": hub.url}
    return subprocess.Popen(
        [sys.executable, "-c", code, f"hf://{REPO}@main/{FILE}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_killed_download_goes_on(share: float, settings: Settings, hub: FakeHub, make: Make) -> None:
    content = make(size=4_000_000)
    hub.add(REPO, FILE, content)
    killing = PULL.replace("settings=Settings()", "settings=Settings(), progress=die").replace(
        "got = ",
        f"def die(have, total):\n    if have >= {share} * total: os.kill(os.getpid(), {int(signal.SIGKILL)})\ngot = ",
    )
    dead = start(settings, hub, killing)
    dead.communicate(timeout=60)
    assert dead.returncode == -signal.SIGKILL
    assert [name for name in leftovers(settings) if name.endswith(".safetensors")] == []
    hub.forget()
    assert pull(weights(), settings=settings).path.read_bytes() == content
    # What was written but not flushed may be lost: at most one chunk.
    assert hub.sent <= (1 - share) * len(content) + 2**20
    assert len(leftovers(settings)) == 1


@pytest.mark.parametrize("point", ["publish", "lock"])
def test_a_kill_before_the_last_step_is_repaired(point: str, settings: Settings, hub: FakeHub, make: Make) -> None:
    hub.add(REPO, FILE, make())
    patch = {
        "publish": "from zoo.weights.store import Store\nStore.publish = lambda *_: os.kill(os.getpid(), 9)\n",
        "lock": "from zoo.weights import lock\nlock.write_atomically = lambda *_: os.kill(os.getpid(), 9)\n",
    }[point]
    dead = start(settings, hub, PULL.replace("got = ", patch + "got = "))
    dead.communicate(timeout=60)
    assert dead.returncode == -signal.SIGKILL
    hub.forget()
    assert pull(weights(), settings=settings).path.read_bytes() == make()
    assert hub.count("GET") <= 1
    assert len(leftovers(settings)) == 1
    assert "tiny.a" in Lock.of(settings).entries


def test_many_processes_make_one_download(settings: Settings, hub: FakeHub, make: Make) -> None:
    content = make(size=2_000_000)
    hub.add(REPO, FILE, content)
    running = [start(settings, hub) for _ in range(8)]
    for process in running:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert out.strip() == sha(content)
    assert hub.count("GET") == 1
    assert len(leftovers(settings)) == 1


def test_a_killed_owner_hands_over(settings: Settings, hub: FakeHub, make: Make) -> None:
    """Of four processes the one that downloads is killed half-way; another goes on where it was."""
    content = make(size=400_000)
    hub.add(REPO, FILE, content)
    hub.fault, hub.rate = "slow", 20_000
    owner = start(settings, hub)
    part = Store(settings).parts / f"{sha(content)}.part"
    others: list[subprocess.Popen[str]] = []
    for _ in range(1500):  # half a minute at most; the whole file would take 20 s
        if part.is_file() and part.stat().st_size and not others:
            others = [start(settings, hub) for _ in range(3)]
        if hub.count("HEAD") == 4:
            break
        time.sleep(0.02)
    owner.kill()
    owner.communicate()
    hub.fault = None
    for process in others:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert out.strip() == sha(content)
    assert hub.count("GET") == 2
    assert next(seen for seen in hub.requests[::-1] if seen.method == "GET").header("Range") is not None


@pytest.mark.parametrize("known", [True, False], ids=["hash-known", "hash-unknown"])
def test_threads_too(known: bool, settings: Settings, web: FakeHub, make: Make) -> None:
    content = make(size=300_000)
    web.add("x/y", "a.safetensors", content)
    web.fault, web.rate = "slow", 1_000_000
    wanted = weights(f"{web.url}/raw/a.safetensors", sha256=sha(content) if known else None)
    found: list[str] = []
    said: list[str] = []

    def one() -> None:
        found.append(pull(wanted, settings=settings, note=said.append).sha256)

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [sha(content)] * 8
    assert web.count("GET") == 1
    assert any("another process fetches" in one for one in said), "who waits is told"


# -- other sources ---------------------------------------------------------------------------------------------------


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """An https server."""
    certificate = Path(__file__).with_name("localhost.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with FakeHub(certificate) as server:
        yield server


def test_https(settings: Settings, web: FakeHub, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    web.add("x/y", "a.safetensors", make())
    source = f"{web.url}/raw/a.safetensors"
    got = pull(weights(source, sha256_prefix=sha(make())[:8]), settings=settings)
    assert (got.sha256, got.source, got.revision) == (sha(make()), source, None)
    assert all(seen.header("Authorization") is None for seen in web.requests)
    web.forget()
    assert pull(weights(source), settings=settings).cached
    assert web.count() == 0


def test_https_that_is_not_trusted(settings: Settings, web: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(DownloadError, match="cannot download"):
        pull(weights(f"{web.url}/raw/a.safetensors"), settings=settings)


@pytest.mark.parametrize("target", ["http://127.0.0.1:9/x", "file:///etc/passwd", "ftp://x/y", "//user@host/x"])
def test_https_never_leads_elsewhere(target: str, settings: Settings, web: FakeHub) -> None:
    web.fault, web.redirect_to = "redirect", target
    with pytest.raises(DownloadError, match="redirects"):
        pull(weights(f"{web.url}/raw/a.safetensors"), settings=settings)


def test_a_redirect_to_another_origin_sees_no_token(
    settings: Settings, hub: FakeHub, web: FakeHub, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.add(REPO, FILE, make())
    web.add("x/y", "a.safetensors", make())
    hub.fault, hub.redirect_to = "redirect", f"{web.url}/raw/a.safetensors"
    assert pull(weights(), settings=settings).sha256 == sha(make())
    assert web.count("GET") == 1
    assert all(seen.header("Authorization") is None for seen in web.requests)


class Plugins:
    """A registry whose plugins fetch `mem:` sources."""

    def __init__(self, fetch: Callable[..., bool | None]) -> None:
        self.fetch = fetch

    def fetchers(self) -> list[tuple[str, Callable[..., bool | None]]]:
        return [("other", lambda weights, target: None), ("mem", self.fetch)]

    def absent(self) -> list[str]:
        return ["The plugin 'gone' failed."]


def test_a_plugins_scheme(settings: Settings, make: Make) -> None:
    def fetch(weights: Weights, target: Path) -> bool:
        target.write_bytes(make())
        return True

    got = pull(weights("mem:tiny"), settings=settings, registry=Plugins(fetch))
    assert got.sha256 == sha(make())
    assert pull(weights("mem:tiny"), settings=settings, registry=Plugins(lambda **_: None)).cached
    with pytest.raises(IntegrityError):
        pull(weights("mem:other", sha256="0" * 64), settings=settings, registry=Plugins(fetch))


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_plugin_may_not_link_a_file_into_the_store(
    link: Callable[..., None], settings: Settings, make: Make, tmp_path: Path
) -> None:
    (tmp_path / "mine").write_bytes(make())

    def fetch(weights: Weights, target: Path) -> bool:
        link(tmp_path / "mine", target)
        return True

    with pytest.raises(PluginError, match="made a link"):
        pull(weights("mem:tiny"), settings=settings, registry=Plugins(fetch))
    assert leftovers(settings) == []
    assert (tmp_path / "mine").read_bytes() == make()


def test_what_a_plugin_leaves_beside_its_file_is_swept(settings: Settings, make: Make) -> None:
    def fetch(weights: Weights, target: Path) -> bool:
        target.with_suffix(".tmp").write_bytes(b"half")
        target.write_bytes(make())
        return True

    pull(weights("mem:tiny"), settings=settings, registry=Plugins(fetch))
    assert leftovers(settings) == [f"{sha(make())}.safetensors"]


def test_a_plugin_that_fails_is_named(settings: Settings) -> None:
    def fetch(weights: Weights, target: Path) -> bool:
        raise KeyError("bucket")

    with pytest.raises(PluginError, match="'mem'"):
        pull(weights("mem:tiny"), settings=settings, registry=Plugins(fetch))
    with pytest.raises(PluginError, match="wrote nothing"):
        pull(weights("mem:tiny"), settings=settings, registry=Plugins(lambda weights, target: True))
    with pytest.raises(
        NotFoundError, match=r"no plugin fetches mem:(.|\n)*asked: other, mem\nThe plugin 'gone' failed"
    ):
        pull(weights("mem:tiny"), settings=settings, registry=Plugins(lambda weights, target: None))


def test_a_file_is_used_in_place(settings: Settings, make: Make, tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    with pytest.raises(NotFoundError):
        pull(weights(f"file:{file}"), settings=settings)
    file.write_bytes(make())
    got = pull(weights(f"file:{file}", sha256=sha(make())), settings=replace(settings, offline=True))
    assert (got.path, got.sha256, got.cached) == (file, sha(make()), True)
    assert not settings.blobs.exists()
    assert not (settings.home / "zoo.lock").exists()
    for wrong in (weights(f"file:{file}", sha256="0" * 64), weights(f"file:{file}", bytes=3)):
        with pytest.raises(IntegrityError):
            pull(wrong, settings=settings)
    with pytest.raises(IntegrityError, match="pickle"):
        pull(weights(f"file:{tmp_path / 'x.pth'}"), settings=settings)


def test_one_file_of_several(settings: Settings, make: Make, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(make())
    (tmp_path / "words.txt").write_bytes(b"a b")
    words = {"source": f"file:{tmp_path / 'words.txt'}", "role": "vocabulary", "sha256": sha(b"a b")}
    files = (words, {"source": f"file:{tmp_path / 'x.safetensors'}"})
    got = pull(weights("file:none", files=files), settings=settings)
    assert got.sha256 == sha(make())
    assert [(one.name, one.role) for one in got.assets] == [("words.txt", "vocabulary")]


def test_shards_are_refused_before_a_request(settings: Settings, hub: FakeHub, make: Make) -> None:
    hub.add(REPO, "model.safetensors.index.json", b'{"weight_map": {"a": "../../x"}}')
    hub.fault = "bad-index"
    two = ({"source": "file:a.safetensors"}, {"source": "file:b.safetensors", "role": "weights"})
    index = f"hf://{REPO}@main/model.safetensors.index.json"
    for wanted in (weights(files=two), weights(index), weights("file:none", files=({"source": index},))):
        with pytest.raises(UsageError, match=r"index of shards|2 files") as caught:
            pull(wanted, settings=settings)
        assert "Join the shards" in caught.value.hint
    assert hub.count() == 0
    assert leftovers(settings) == []


def test_the_wait_has_an_end(settings: Settings, hub: FakeHub, make: Make) -> None:
    hub.add(REPO, FILE, make())
    hub.fault, hub.retry_after = "busy", 3600
    wanted = Request(weights(), parse(f"hf://{REPO}@main/{FILE}"), None, None, None)
    start = time.perf_counter()
    with pytest.raises(DownloadError, match="cannot download") as caught:
        download(wanted, Store(settings), patience=Patience())
    assert time.perf_counter() - start < 1
    assert "3600 s" in caught.value.why

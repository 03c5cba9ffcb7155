"""The fake Hub answers huggingface_hub's own client, and each of its faults does what it says."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from zoo.testing.hub import FAULTS, FakeHub

REPO = "timm/tiny.a"
CONTENT = bytes(range(256)) * 1000

CLIENT = """
import json, sys
from pathlib import Path
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
api, repo = HfApi(), "timm/tiny.a"
info = api.model_info(repo, files_metadata=True)
old, folder = json.loads(sys.argv[1]), Path(snapshot_download(repo))
found = {
    "sha": info.sha,
    "files": {s.rfilename: [s.size, s.lfs.sha256 if s.lfs else None] for s in info.siblings},
    "tree": sorted(entry.path for entry in api.list_repo_tree(repo)),
    "all": sorted(entry.path for entry in api.list_repo_tree(repo, recursive=True)),
    "exists": [api.file_exists(repo, "config.json"), api.file_exists(repo, "absent")],
    "old": Path(hf_hub_download(repo, "config.json", revision=old)).read_text(),
    "new": Path(hf_hub_download(repo, "config.json")).read_text(),
    "snapshot": sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()),
    "errors": [],
}
for name, where in (("absent", {}), ("config.json", {"revision": "absent"})):
    try:
        hf_hub_download(repo, name, **where)
    except (EntryNotFoundError, RevisionNotFoundError) as error:
        found["errors"].append(type(error).__name__)
try:
    hf_hub_download("timm/absent", "x")
except RepositoryNotFoundError as error:
    found["errors"].append(type(error).__name__)
print(json.dumps(found))
"""


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub(lfs_from=1000) as server:
        server.silence = 0.5
        server.add(REPO, "model.safetensors", CONTENT)
        yield server


def get(hub: FakeHub, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    opener = urllib.request.OpenerDirector()
    opener.add_handler(urllib.request.HTTPHandler())
    reply = opener.open(urllib.request.Request(f"{hub.url}{path}", method=method, headers=headers), timeout=5)
    with reply:
        return reply.status, {name.lower(): value for name, value in reply.headers.items()}, reply.read()


def test_huggingface_hubs_own_client(hub: FakeHub, tmp_path: Path) -> None:
    first = hub.add(REPO, "config.json", b'{"a": 1}')
    hub.add(REPO, "config.json", b'{"a": 2}')
    last = hub.add(REPO, "sub/deep/words.txt", b"words")
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_XET": "1",
    }
    command = [sys.executable, "-W", "ignore", "-c", CLIENT, json.dumps(first)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "sha": last,
        "files": {
            "config.json": [8, None],
            "model.safetensors": [len(CONTENT), hashlib.sha256(CONTENT).hexdigest()],
            "sub/deep/words.txt": [5, None],
        },
        "tree": ["config.json", "model.safetensors", "sub"],
        "all": ["config.json", "model.safetensors", "sub", "sub/deep", "sub/deep/words.txt"],
        "exists": [True, False],
        "old": '{"a": 1}',
        "new": '{"a": 2}',
        "snapshot": ["config.json", "model.safetensors", "sub/deep/words.txt"],
        "errors": ["RemoteEntryNotFoundError", "RevisionNotFoundError", "RepositoryNotFoundError"],
    }


def test_ranges(hub: FakeHub) -> None:
    path = "/raw/model.safetensors"
    status, headers, body = get(hub, path)
    assert (status, body) == (200, CONTENT)
    etag = headers["etag"]
    assert get(hub, path, Range="bytes=10-")[2] == CONTENT[10:]
    status, headers, body = get(hub, path, Range="bytes=10-19")
    assert (status, headers["content-range"], body) == (206, f"bytes 10-19/{len(CONTENT)}", CONTENT[10:20])
    assert get(hub, path, Range="bytes=10-", **{"If-Range": etag})[0] == 206
    assert get(hub, path, Range="bytes=10-", **{"If-Range": '"other"'})[2] == CONTENT
    assert get(hub, path, Range=f"bytes={len(CONTENT)}-")[0] == 416
    assert hub.count() == 6


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "slow"])
def test_a_fault_changes_something(fault: str, hub: FakeHub) -> None:
    """What a client sees of HEAD and three GETs differs from what it sees of a hub that behaves."""
    hub.add(REPO, "model.index.json", json.dumps({"weight_map": {"a": "model.safetensors"}}).encode())
    path = f"/{REPO}/resolve/main/model.{'index.json' if fault == 'bad-index' else 'safetensors'}"
    hub.redirect_to, hub.cut_every = "/elsewhere", 1000

    def see() -> list[object]:
        hub.forget()
        seen: list[object] = []
        piece = {"Range": "bytes=1000-"}
        for method, headers in (("HEAD", {}), ("GET", {}), ("GET", piece), ("GET", {**piece, "If-Range": '"other"'})):
            try:
                with_timeout(hub, path, method, headers, seen)
            except Exception as error:
                seen.append(type(error).__name__)
        return seen

    good = see()
    hub.fault = fault
    assert see() != good


def with_timeout(hub: FakeHub, path: str, method: str, headers: dict[str, str], seen: list[object]) -> None:
    opener = urllib.request.OpenerDirector()
    opener.add_handler(urllib.request.HTTPHandler())
    wanted = urllib.request.Request(f"{hub.url}{path}", method=method, headers=headers)
    with opener.open(wanted, timeout=0.2) as reply:
        found = {name: value for name, value in reply.headers.items() if name not in ("Date", "Server")}
        seen.append((reply.status, found))
        seen.append(reply.read(2 * len(CONTENT)))


def test_slow_is_slow(hub: FakeHub) -> None:
    hub.fault, hub.rate = "slow", 1_000_000
    start = time.perf_counter()
    assert get_some(hub)[2] == CONTENT
    assert time.perf_counter() - start >= 0.2


def test_cut_is_cut_and_what_changes_midway_changes(hub: FakeHub) -> None:
    hub.fault, hub.cut_every = "cut", 1000
    _, headers, body = get_some(hub)
    assert (headers["content-length"], body) == (str(len(CONTENT)), CONTENT[:1000])
    hub.fault = "changed-midway"
    hub.forget()
    assert get_some(hub)[2] == CONTENT[:1000]
    later = get_some(hub)[2]
    assert len(later) == len(CONTENT)
    assert later != CONTENT


def get_some(hub: FakeHub) -> tuple[int, dict[str, str], bytes]:
    opener = urllib.request.OpenerDirector()
    opener.add_handler(urllib.request.HTTPHandler())
    with opener.open(urllib.request.Request(f"{hub.url}/{REPO}/resolve/main/model.safetensors"), timeout=5) as reply:
        body = b""
        while chunk := reply.read1(1 << 20):
            body += chunk
        return reply.status, {name.lower(): value for name, value in reply.headers.items()}, body

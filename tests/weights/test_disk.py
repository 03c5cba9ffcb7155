"""Real disks and no network: a full one, one that cannot be written, and a machine that is alone."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zoo.errors import IntegrityError
from zoo.settings import Settings
from zoo.testing.hub import FakeHub
from zoo.weights.lock import Entry, Lock
from zoo.weights.store import Store

Make = Callable[..., bytes]
REPO, FILE = "timm/tiny.a", "model.safetensors"
ENTRY = Entry(source="https://example.org/x.safetensors", file="x.safetensors", sha256="a" * 64, bytes=1)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a file system on a new folder."""
    mounted: list[Path] = []

    def one(name: str, *arguments: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        done = subprocess.run(["mount", *arguments, str(folder)], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"may not mount here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    if shutil.which("mount") is None or sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs Linux and the right to mount")
    yield one
    for folder in reversed(mounted):
        subprocess.run(["umount", "-l", str(folder)], check=True)


def zoo(home: Path, hub: FakeHub | None, *arguments: str, before: tuple[str, ...] = ()) -> tuple[int, str, str]:
    """Run the command; its exit code, output and errors."""
    environment = {**os.environ, "ZOO_HOME": str(home), "ZOO_OFFLINE": "0", "NO_COLOR": "1"}
    if hub is not None:
        environment["HF_ENDPOINT"] = hub.url
    command = [*before, sys.executable, "-m", "zoo", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def registry_file(folder: Path, source: str) -> str:
    """A registry file with weights of an architecture that is known everywhere."""
    path = folder / "weights.toml"
    path.write_text(f'schema = 1\n\n[weights."resnet18.mine"]\nbackbone = "resnet18"\nsource = "{source}"\n')
    return str(path)


def test_a_full_disk_loses_nothing(mount: Callable[..., Path], hub: FakeHub, make: Make, tmp_path: Path) -> None:
    home = mount("small", "-t", "tmpfs", "-o", "size=1m", "tmpfs")
    content = make(size=3_000_000)
    hub.add(REPO, FILE, content)
    given = ["--registry", registry_file(tmp_path, f"hf://{REPO}@main/{FILE}"), "pull", "resnet18.mine", "--json"]
    Lock(tmp_path / "zoo.lock").write("tiny.z", ENTRY)
    before = (tmp_path / "zoo.lock").read_bytes()
    code, out, err = zoo(home, hub, *given)
    assert code == 6, err
    assert json.loads(out)["error"]["code"] == "disk"
    assert "Free some space" in err
    assert (tmp_path / "zoo.lock").read_bytes() == before
    assert list(home.glob("blobs/sha256/*/*")) == []
    subprocess.run(["mount", "-o", "remount,size=16m", str(home)], check=True)
    code, out, err = zoo(home, hub, *given)
    assert code == 0, err
    assert json.loads(out)[0]["sha256"] == hashlib.sha256(content).hexdigest()
    assert [path.stem for path in home.glob("blobs/*/*/*")] == [hashlib.sha256(content).hexdigest()]
    assert not list(home.glob("blobs/parts/*"))


def test_a_disk_that_fills_while_bytes_arrive(
    mount: Callable[..., Path], hub: FakeHub, make: Make, tmp_path: Path
) -> None:
    """Another process takes the space that was free at the start; what arrived is kept, the rest comes later."""
    home = mount("small", "-t", "tmpfs", "-o", "size=2m", "tmpfs")
    content = make(size=1_500_000)
    hub.add(REPO, FILE, content)
    given = ["--registry", registry_file(tmp_path, f"hf://{REPO}@main/{FILE}"), "pull", "resnet18.mine", "--json"]
    (home / "other").write_bytes(b"\0" * 1_000_000)
    hidden = "import shutil; shutil.disk_usage = lambda _: type('U', (), {'free': 1 << 40})\n"
    run = [sys.executable, "-c", f"{hidden}import sys; from zoo.cli import main; sys.exit(main())", *given]
    environment = {**os.environ, "ZOO_HOME": str(home), "ZOO_OFFLINE": "0", "HF_ENDPOINT": hub.url}
    done = subprocess.run(run, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == 6, done.stderr
    assert "No space left" in done.stderr
    parts = list(home.glob("blobs/parts/*.part"))
    assert len(parts) == 1
    kept = parts[0].stat().st_size
    assert kept > 900_000
    (home / "other").unlink()
    hub.forget()
    code, _, err = zoo(home, hub, *given)
    assert code == 0, err
    assert hub.sent == len(content) - kept


def test_a_store_that_cannot_be_written_is_read(
    mount: Callable[..., Path], hub: FakeHub, make: Make, tmp_path: Path
) -> None:
    real = tmp_path / "real"
    real.mkdir()
    content = make(size=100_000)
    hub.add(REPO, FILE, content)
    given = ["--registry", registry_file(tmp_path, f"hf://{REPO}@main/{FILE}"), "pull", "--json"]
    code, _, err = zoo(real, hub, *given, "resnet18.mine")
    assert code == 0, err
    (real / "blobs" / "parts" / "add-0.part").write_bytes(b"an orphan that cannot be removed")
    home = mount("frozen", "--bind", str(real))
    subprocess.run(["mount", "-o", "remount,ro,bind", str(home)], check=True)
    with pytest.raises(OSError, match="Read-only"):
        (home / "x").write_bytes(b"")
    hub.forget()
    code, out, err = zoo(home, hub, *given, "resnet18.mine")
    assert code == 0, err
    assert Path(json.loads(out)[0]["path"]).read_bytes() == content
    assert hub.count() == 0
    code, out, err = zoo(home, hub, "list", "resnet18", "--json")
    assert code == 0, err
    # What is not there cannot come: the disk is named, at once.
    Path(given[1]).write_text(
        Path(given[1]).read_text().replace("mine", "other").replace("main", hub.add(REPO, FILE, make(2)))
    )
    start = time.perf_counter()
    code, _, err = zoo(home, hub, *given, "resnet18.other")
    assert (code, "Read-only" in err) == (6, True), err
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize("flag", [True, False], ids=["offline", "no-network"])
def test_a_machine_that_is_alone_hears_so_at_once(flag: bool, tmp_path: Path) -> None:
    """In a network name space of its own, where nothing can be reached: under a second beyond the start of Python."""
    alone = ("unshare", "-rn")
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs unshare and the right to use it")
    registry = registry_file(tmp_path, "hf://timm/resnet18.mine@main/model.safetensors")
    given = ["--registry", registry, *(["--offline"] if flag else []), "pull", "resnet18.mine"]
    environment = {**os.environ, "ZOO_HOME": str(tmp_path / "home"), "ZOO_OFFLINE": "0"}
    start = time.perf_counter()
    done = subprocess.run(
        [*alone, sys.executable, "-m", "zoo", *given],
        capture_output=True, text=True, env=environment, timeout=60, check=False,
    )  # fmt: skip
    assert time.perf_counter() - start < 10
    assert done.returncode == (3 if flag else 4), done.stderr
    assert "zoo pull resnet18.mine" in done.stderr
    assert "when connected" in done.stderr.lower()
    assert not (tmp_path / "home").exists() or not list((tmp_path / "home").glob("blobs/sha256/*/*"))


def test_a_tampered_blob_is_found(settings: Settings, make: Make, tmp_path: Path) -> None:
    store = Store(settings)
    (tmp_path / "x").write_bytes(make(size=5000))
    sha256 = store.add(tmp_path / "x")
    blob = store.path(sha256)
    for position in (0, 8, 100, 4999):
        good = blob.read_bytes()
        blob.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        with pytest.raises(IntegrityError, match="damaged"):
            store.verify(sha256)
        blob.write_bytes(good)
    store.verify(sha256)

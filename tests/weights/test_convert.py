"""The only door for pickles: tensors come through, code does not."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from zoo.catalog.spec import Weights
from zoo.errors import IntegrityError, ZooError
from zoo.settings import Settings
from zoo.testing.hub import FakeHub
from zoo.weights.convert import convert, main, tensors_of
from zoo.weights.lock import Lock
from zoo.weights.pull import pull
from zoo.weights.store import Store


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def test_tensors_come_through(tmp_path: Path) -> None:
    shared = torch.arange(6.0).reshape(2, 3)
    tensors = {"a.weight": shared.t(), "a.twin": shared, "n": torch.tensor(3), "half": torch.ones(2).half()}
    source = tmp_path / "x.pth"
    source.write_bytes(saved({"state_dict": tensors, "epoch": 3}))
    convert(source, tmp_path / "x.safetensors")
    found = load_file(tmp_path / "x.safetensors")
    assert found.keys() == tensors.keys()
    assert all(
        torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in tensors.items()
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.pth", "x.safetensors"]


def test_wrappers_are_taken_off() -> None:
    tensors = {"a": torch.ones(1), "b": torch.zeros(2)}
    for wrapped in (tensors, {"model": tensors}, {"state_dict": {f"module.{n}": t for n, t in tensors.items()}}):
        assert tensors_of(wrapped, 2**20).keys() == {"a", "b"}


class Calls:
    """Pickled, it asks for a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def legacy(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def packed(value: object, compression: int = zipfile.ZIP_STORED, extra: dict[str, bytes] | None = None) -> bytes:
    """An archive as torch writes it, made by hand, with a pickle of our own."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in {"data.pkl": pickle.dumps(value), "version": b"3\n", **(extra or {})}.items():
            archive.writestr(f"archive/{name}", content)
    return buffer.getvalue()


def tarred(value: object) -> bytes:
    """The form that torch wrote before version 0.1.10."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("storages", "tensors", "pickle", "sys_info"):
            content = pickle.dumps(value if name in ("pickle", "storages") else 0)
            archive.addfile(_member(name, len(content)), io.BytesIO(content))
    return buffer.getvalue()


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    return member


def hostile(trap: str) -> dict[str, bytes]:
    """Files that run code where they are opened as pickles, and files that grow beyond all measure."""
    evil: dict[str, object] = {
        "mkdir": Calls(os.mkdir, trap),
        "system": Calls(os.system, f"mkdir {trap}"),
        "popen": Calls(subprocess.Popen, ["mkdir", trap]),
        "eval": Calls(eval, f"__import__('os').mkdir({trap!r})"),
        "exec": Calls(exec, f"import os; os.mkdir({trap!r})"),
        "import": Calls(__import__, "antigravity"),
        "getattr": Calls(getattr, "text", "format"),
        "load": Calls(torch.load, f"{trap}.inner"),
        "open": Calls(open, trap, "w"),
    }
    tensor = torch.ones(2)
    found = {f"{name}-new": saved({"a": tensor, "b": one}) for name, one in evil.items()}
    found |= {f"{name}-legacy": legacy({"a": tensor, "state_dict": {"b": one}}) for name, one in evil.items()}
    found |= {f"{name}-bare": pickle.dumps(one) for name, one in evil.items()}
    for protocol in range(5):
        found[f"protocol-{protocol}"] = pickle.dumps(evil["mkdir"], protocol=protocol)
    found |= {
        "handmade": packed({"a": evil["mkdir"]}),
        "twice-zipped": packed({"a": 1}, extra={"inner.pth": saved({"b": evil["mkdir"]})}),
        "tar": tarred(evil["mkdir"]),
        "claims": saved({"a": torch.zeros(1).expand(10**13)}),
        "claims-often": saved({str(i): torch.zeros(1024).expand(2048, 1024) for i in range(64)}),
        "squeezed": packed({}, zipfile.ZIP_DEFLATED, {"data/0": b"\0" * (64 << 20)}),
        "no-text": saved({3: tensor}),
        "sparse": saved({"a": torch.eye(3).to_sparse()}),
        "deep": b"\x80\x04" + b"]" * 200_000 + b"a" * 199_999 + b".",
        "empty": b"",
        "cut": saved({"a": tensor})[:-40],
        "page": b"<html>Sign in</html>",
    }
    return found


#: Converts each file of a folder in a process of its own; torch is imported once.
DRIVER = """
import os, pathlib, sys, time
import torch, safetensors.torch
from zoo.weights.convert import main
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.pth")):
    child = os.fork()
    if child == 0:
        os._exit(main(str(path), str(path.with_suffix(".out"))))
    _, status, used = os.wait4(child, 0)
    print(path.stem, os.waitstatus_to_exitcode(status), used.ru_maxrss // 1024, flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_no_code_is_run_and_nothing_grows(tmp_path: Path) -> None:
    trap = tmp_path / "executed"
    folder = tmp_path / "files"
    folder.mkdir()
    files = hostile(str(trap))
    for name, content in files.items():
        (folder / f"{name}.pth").write_bytes(content)
    (folder / "sound.pth").write_bytes(saved({"a": torch.ones(2)}))
    command = [sys.executable, "-I", "-c", DRIVER, str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, env=environment, check=True)
    rows = {name: (int(code), int(peak)) for name, code, peak in map(str.split, done.stdout.splitlines())}
    assert rows.keys() == {*files, "sound"}
    assert rows.pop("sound")[0] == 0
    assert {name for name, (code, _) in rows.items() if code != 1} == set(), done.stderr
    assert max(peak for _, peak in rows.values()) < 1500  # torch alone takes some hundred
    assert not trap.exists()
    assert [path.name for path in folder.glob("*.out")] == ["sound.out"]


def test_the_door_says_why_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trap = tmp_path / "executed"
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # what a user may have set for other programs
    (tmp_path / "new.pth").write_bytes(saved({"a": torch.ones(1), "b": Calls(os.mkdir, str(trap))}))
    with pytest.raises(IntegrityError, match="cannot be converted") as caught:
        convert(tmp_path / "new.pth", tmp_path / "out.safetensors")
    assert caught.value.why == "it asks for posix.mkdir, which no checkpoint of tensors needs"
    assert [path.name for path in tmp_path.iterdir()] == ["new.pth"]


def test_a_converter_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.pth").write_bytes(saved({"a": torch.ones(1)}))
    monkeypatch.setattr("zoo.weights.convert._TIMEOUT_S", 0.01)
    with pytest.raises(IntegrityError, match="within"):
        convert(tmp_path / "x.pth", tmp_path / "out.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]


def test_what_is_no_checkpoint_is_refused() -> None:
    for value in ({}, {"a": 3}, torch.ones(2), [torch.ones(2)], {"state_dict": {}}):
        with pytest.raises(ZooError):
            tensors_of(value, 2**20)


def test_a_pulled_pickle_is_converted_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved({"a": torch.arange(4.0)})
    digest = hashlib.sha256(content).hexdigest()
    certificate = Path(__file__).with_name("localhost.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with FakeHub(certificate) as web:
        web.add("x/y", f"alex-{digest[:8]}.pth", content)
        source = f"{web.url}/raw/alex-{digest[:8]}.pth"
        weights = Weights(name="alex.tv", backbone="alex", source=source, sha256_prefix=digest[:8])
        got = pull(weights, settings=settings)
        web.forget()
        again = pull(weights, settings=replace(settings, offline=True))
        locked = pull(weights, settings=settings, locked=True)
        (settings.home / "zoo.lock").unlink()
        without = pull(weights, settings=settings)
        assert web.count() == 0
    assert got.sha256 == again.sha256 == locked.sha256 == without.sha256 != digest
    assert torch.equal(load_file(got.path)["a"], torch.arange(4.0))
    assert Store(settings).ls() == [got.sha256]
    assert Store(settings).is_pulled(weights)


def test_the_lock_keeps_both_hashes(settings: Settings, hub: FakeHub) -> None:
    content = saved({"a": torch.arange(4.0)})
    hub.add("x/y", "pytorch_model.bin", content)
    got = pull(Weights(name="t.a", backbone="t", source="hf://x/y/pytorch_model.bin"), settings=settings)
    entry = Lock.of(settings).entries["t.a"]
    assert (entry.sha256, entry.converted_sha256) == (hashlib.sha256(content).hexdigest(), got.sha256)
    assert (entry.format, entry.bytes) == ("pickle", len(content))


def test_a_converted_hash_that_was_tampered_with(settings: Settings, hub: FakeHub) -> None:
    hub.add("x/y", "pytorch_model.bin", saved({"a": torch.arange(4.0)}))
    weights = Weights(name="t.a", backbone="t", source="hf://x/y/pytorch_model.bin")
    got = pull(weights, settings=settings)
    path = settings.home / "zoo.lock"
    path.write_text(path.read_text().replace(got.sha256, "0" * 64))
    before = path.read_bytes()
    with pytest.raises(IntegrityError, match="other bytes than"):
        pull(weights, settings=settings)
    assert path.read_bytes() == before


def test_a_full_disk_is_the_disks_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensors: dict[str, torch.Tensor], path: str, metadata: object = None) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    (tmp_path / "x.pth").write_bytes(saved({"a": torch.ones(1)}))
    monkeypatch.setattr("safetensors.torch.save_file", full)
    monkeypatch.setattr("zoo.weights.convert._limit", lambda _: None)  # this is the tests' own process
    assert main(str(tmp_path / "x.pth"), str(tmp_path / "y")) == 6

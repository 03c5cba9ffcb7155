"""The only door for pickles: tensors come through, code does not."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from zoo.catalog.spec import Weights
from zoo.errors import IntegrityError
from zoo.settings import Settings
from zoo.testing.hub import FakeHub
from zoo.weights.convert import convert
from zoo.weights.lock import Lock
from zoo.weights.pull import pull
from zoo.weights.store import Store


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: {"state_dict": t, "epoch": 3}, lambda t: {"model": t}])
def test_tensors_come_through(wrap: object, tmp_path: Path) -> None:
    shared = torch.arange(6.0).reshape(2, 3)
    tensors = {"a.weight": shared.t(), "a.twin": shared, "n": torch.tensor(3), "half": torch.ones(2).half()}
    source = tmp_path / "x.pth"
    source.write_bytes(saved(wrap(tensors)))
    convert(source, tmp_path / "x.safetensors")
    found = load_file(tmp_path / "x.safetensors")
    assert found.keys() == tensors.keys()
    assert all(
        torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in tensors.items()
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.pth", "x.safetensors"]


def test_a_parallel_wrapper_is_taken_off(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(saved({"module.a": torch.ones(1), "module.b": torch.ones(1)}))
    convert(tmp_path / "x.pth", tmp_path / "y")
    assert load_file(tmp_path / "y").keys() == {"a", "b"}


class Evil:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


def test_code_is_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "executed"
    (tmp_path / "new.pth").write_bytes(saved({"a": torch.ones(1), "b": Evil(str(trap))}))
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Evil(str(trap))))
    for source in (tmp_path / "new.pth", tmp_path / "bare.pth"):
        with pytest.raises(IntegrityError, match="cannot be converted"):
            convert(source, tmp_path / "out.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bare.pth", "new.pth"]


@pytest.mark.parametrize("value", [{}, {"a": 3}, torch.ones(2), [torch.ones(2)]])
def test_what_is_no_checkpoint_is_refused(value: object, tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(saved(value))
    with pytest.raises(IntegrityError, match="cannot be converted"):
        convert(tmp_path / "x.pth", tmp_path / "out.safetensors")


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

"""Hostile weight files: refused, without running code and without taking memory; a changed file loads right or not."""

from __future__ import annotations

import importlib.util
import json
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from zoo.cli import main
from zoo.errors import IntegrityError
from zoo.models.load import load_network
from zoo.settings import Settings

TOOL = Path(__file__).parents[2] / "tools" / "hostile_files.py"


def load_tool() -> ModuleType:
    found = importlib.util.spec_from_file_location("zoo_tools_hostile_files", TOOL)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


hostile = load_tool()


def test_every_kind_of_hostile_file_is_refused() -> None:
    pytest.importorskip("resource")
    done = subprocess.run([sys.executable, str(TOOL), "--json"], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["files"] >= 180
    assert found["wrong"] == {}
    assert found["executed"] == []
    assert found["memory_mb"] < 200


def test_the_command_line_ends_with_5(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lies = hostile.corpus()
    for name in ("a pickle", "an overlap", "a tensor twice", "name '../../a'", "nested lists"):
        lie = lies.get(name) or lies[f"header: {name}"]
        hostile.write(tmp_path / "x.safetensors", lie)
        words = ["register", str(tmp_path / "x.safetensors"), "--backbone", "resnet18", "--name", "resnet18.mine"]
        monkeypatch.setattr(sys, "argv", ["zoo", *words])
        with pytest.raises(SystemExit) as ended:
            sys.exit(main())
        assert ended.value.code == 5, name
        assert "Traceback" not in capsys.readouterr().err


#: A sound file, and one whose names have to be translated.
SOUND = hostile.save(hostile.state())
OLD = hostile.save({f"old.{name}": tensor for name, tensor in hostile.state().items()})


def oracle(path: Path) -> dict[str, torch.Tensor]:
    """What the file holds, read by safetensors, loaded strictly by torch."""
    with safe_open(path, "pt") as file:
        tensors = {name.removeprefix("old."): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    module = hostile.Small(num_classes=len(tensors["fc.bias"]))
    tensors.setdefault("bn.num_batches_tracked", torch.tensor(0))
    module.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, strict=True)
    return module.state_dict()


def edit(data: st.DataObject, content: bytearray) -> bytes:
    """One change: bytes flipped, cut out, doubled or moved, or the header's JSON edited and its length mended."""
    kind = data.draw(st.sampled_from(["flip", "cut", "truncate", "double", "header", "header", "insert"]))
    at = data.draw(st.integers(0, len(content) - 1))
    more = data.draw(st.integers(1, 64))
    if kind == "flip":
        content[at] ^= data.draw(st.integers(1, 255))
    elif kind == "cut":
        del content[at : at + more]
    elif kind == "truncate":
        del content[at:]
    elif kind == "double":
        content[at:at] = content[at : at + more]
    elif kind == "insert":
        content[at:at] = data.draw(st.binary(min_size=1, max_size=16))
    else:
        length = int.from_bytes(content[:8], "little")
        header: dict[str, Any] = json.loads(content[8 : 8 + length])
        name = data.draw(st.sampled_from(sorted(header)))
        odd = st.one_of(
            st.none(), st.booleans(), st.integers(-3, 2**65), st.floats(), st.text(max_size=5),
            st.lists(st.integers(-2, 120), max_size=4),
        )  # fmt: skip
        what = data.draw(st.sampled_from(["dtype", "shape", "data_offsets", "rename", "drop", "swap"]))
        if what == "rename":
            header[data.draw(st.text(max_size=8))] = header.pop(name)
        elif what == "drop":
            del header[name]
        elif what == "swap":
            other = data.draw(st.sampled_from(sorted(header)))
            header[name], header[other] = header[other], header[name]
        elif what == "dtype":
            header[name]["dtype"] = data.draw(st.sampled_from(["F16", "BF16", "I32", "U32", "F32", "F64", "I64", "?"]))
        else:
            header[name][what] = data.draw(odd)
        raw = json.dumps(header).encode()
        content[: 8 + length] = struct.pack("<Q", len(raw)) + raw
    return bytes(content)


@pytest.mark.parametrize("sound", [SOUND, OLD], ids=["sound", "translated"])
@settings(max_examples=150)
@given(data=st.data())
def test_a_changed_file_loads_right_or_not_at_all(
    sound: bytes, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("changed") / "x.safetensors"
    path.write_bytes(edit(data, bytearray(sound)))
    try:
        network = load_network(hostile.spec(hostile.stretched), None, path, settings=Settings())
    except IntegrityError:
        return
    expected = oracle(path)
    found = network.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert all(torch.isfinite(tensor).all() for tensor in found.values())

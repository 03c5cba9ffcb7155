"""A safetensors header: every kind of lie is refused, with its reason, before anything is opened."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from zoo.errors import IntegrityError, NotFoundError
from zoo.weights.header import MAX_HEADER, MAX_TENSORS, TensorInfo, read_header

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def write(path: Path, header: Any, data: bytes = b"\0" * 8, length: int | None = None) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + data)
    return path


def changed(**changes: Any) -> dict[str, Any]:
    return {"a": {**F32, **changes}}


HOSTILE: dict[str, tuple[Any, bytes, str]] = {
    "not json": (b"{nonsense", b"", "not JSON"),
    "a list": (b"[1]", b"", "start with"),
    "leading space": (b" {}", b"", "start with"),
    "not utf-8": (b'{"\xff": 1}', b"", "UTF-8"),
    "NaN": (b'{"a": NaN}', b"", "NaN"),
    "nested": (b'{"a":' + b"[" * 50_000, b"", "nested"),
    "many lists": (b'{"a":' + b"[" * (3 * MAX_TENSORS + 1), b"", "tensors"),
    "huge number": (b'{"a":' + b"9" * 5000 + b"}", b"", "not JSON"),
    "duplicate tensor": (b'{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"a":{}}', b"\0" * 4, "twice"),
    "duplicate key inside": (b'{"a":{"dtype":"F32","dtype":"F32","shape":[],"data_offsets":[0,4]}}', b"", "twice"),
    "duplicate metadata": (b'{"__metadata__":{"x":"1","x":"2"}}', b"", "twice"),
    "metadata no text": ({"__metadata__": {"x": 1}}, b"", "__metadata__"),
    "metadata a list": ({"__metadata__": []}, b"", "__metadata__"),
    "too many tensors": (
        b"{" + b",".join(b'"%x":{}' % i for i in range(MAX_TENSORS + 10)) + b"}",
        b"",
        "more than",
    ),
    "entry a number": ({"a": 1}, b"", "dtype, shape"),
    "entry lacks a key": ({"a": {"dtype": "F32", "shape": []}}, b"", "dtype, shape"),
    "entry with more": (changed(extra=1), b"\0" * 8, "nothing else"),
    "unknown dtype": (changed(dtype="F33"), b"\0" * 8, "unknown type"),
    "dtype a list": (changed(dtype=["F32"]), b"\0" * 8, "unknown type"),
    "negative size": (changed(shape=[-2]), b"\0" * 8, "shape"),
    "a fraction": (changed(shape=[2.0]), b"\0" * 8, "shape"),
    "a truth value": (changed(shape=[True, 2]), b"\0" * 8, "shape"),
    "shape text": (changed(shape="2"), b"\0" * 8, "shape"),
    "overflowing": (changed(shape=[2**63]), b"\0" * 8, "shape"),
    "wrapping": (changed(shape=[2**33, 2**33], data_offsets=[0, 0]), b"\0" * 8, "needs"),
    "rank": (changed(shape=[1] * 16 + [2]), b"\0" * 8, "dimensions"),
    "one offset": (changed(data_offsets=[0]), b"\0" * 8, "offsets"),
    "negative offset": (changed(data_offsets=[-8, 0]), b"\0" * 8, "offsets"),
    "offset a float": (changed(data_offsets=[0.0, 8.0]), b"\0" * 8, "offsets"),
    "backwards": (changed(data_offsets=[8, 0]), b"\0" * 8, "needs"),
    "shape too large": (changed(shape=[3]), b"\0" * 8, "needs"),
    "gap at the start": (changed(data_offsets=[8, 16]), b"\0" * 16, "gap"),
    "gap between": ({"a": F32, "b": {**F32, "data_offsets": [16, 24]}}, b"\0" * 24, "gap"),
    "overlap": ({"a": F32, "b": {**F32, "data_offsets": [4, 12]}}, b"\0" * 12, "overlaps"),
    "same bytes twice": ({"a": F32, "b": F32}, b"\0" * 8, "overlaps"),
    "truncated": (changed(), b"\0" * 7, "truncated"),
    "data left over": (changed(), b"\0" * 9, "no tensor"),
    "empty name": ({"": F32}, b"\0" * 8, "name"),
    "long name": ({"a" * 513: F32}, b"\0" * 8, "513"),
    "escape in a name": ({"a\x1b[2J": F32}, b"\0" * 8, "control"),
    "newline in a name": ({"a\n": F32}, b"\0" * 8, "control"),
    "zero in a name": ({"a\0b": F32}, b"\0" * 8, "control"),
    "half a surrogate": (b'{"\\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', b"\0" * 8, "control"),
    "right to left": ({"a\u202eb": F32}, b"\0" * 8, "control"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_lie_is_refused_with_its_reason(kind: str, tmp_path: Path) -> None:
    header, data, reason = HOSTILE[kind]
    with pytest.raises(IntegrityError) as caught:
        read_header(write(tmp_path / "x.safetensors", header, data))
    assert reason in caught.value.why
    assert caught.value.why.isascii()
    assert caught.value.why.isprintable()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"\x01\0\0", "3 bytes"),
        (struct.pack("<Q", 100) + b"{}", "truncated"),
        (struct.pack("<Q", MAX_HEADER + 1) + b"{}", "at most"),
        (struct.pack("<Q", 2**64 - 1) + b"{}", "at most"),
        (struct.pack("<Q", 0), "start with"),
        (b"\x80\x04\x95" + b"\0" * 20, "at most"),
        (b"PK\x03\x04" + b"\0" * 20, "at most"),
        (b"<html><body>Sign in</body></html>", "at most"),
    ],
)
def test_other_files_are_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="not a sound safetensors file") as caught:
        read_header(path)
    assert reason in caught.value.why


def test_a_sound_file(tmp_path: Path) -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "b": {"dtype": "I64", "shape": [], "data_offsets": [8, 16]},
        "a": F32,
        "none": {"dtype": "BF16", "shape": [0, 3], "data_offsets": [16, 16]},
    }
    found = read_header(write(tmp_path / "x.safetensors", header, b"\0" * 16))
    assert found.metadata == {"format": "pt"}
    assert list(found.tensors) == ["a", "b", "none"]
    assert found.tensors["b"] == TensorInfo("I64", (), 8, 16)
    assert [info.kind for info in found.tensors.values()] == ["float", "int", "float"]
    assert found.parameters == 3
    assert found.size == (tmp_path / "x.safetensors").stat().st_size


def test_a_padded_header_without_tensors(tmp_path: Path) -> None:
    assert read_header(write(tmp_path / "x.safetensors", b"{}      ", b"")).tensors == {}


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_header(tmp_path / "none.safetensors")
    with pytest.raises(IntegrityError, match="regular"):
        read_header(tmp_path)


def test_a_named_pipe_does_not_block(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):  # Windows has no named pipes among its files
        return
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(IntegrityError, match="regular"):
        read_header(tmp_path / "pipe.safetensors")


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_what_passes_safetensors_can_open(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    raw = json.dumps({"a": F32, "b": {"dtype": "U8", "shape": [3], "data_offsets": [8, 11]}}).encode()
    content = bytearray(struct.pack("<Q", len(raw)) + raw + b"\0" * 11)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    path = tmp_path_factory.mktemp("mutated") / "x.safetensors"
    path.write_bytes(content)
    try:
        found = read_header(path)
    except IntegrityError:
        return
    with safe_open(path, "np") as opened:
        assert set(opened.keys()) == set(found.tensors)
        for name, info in found.tensors.items():
            assert tuple(opened.get_slice(name).get_shape()) == info.shape


def test_the_worst_header_stays_small_in_memory(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    body = b",".join(b'"%x":""' % i for i in range(300_000))
    path = write(tmp_path / "x.safetensors", b'{"__metadata__":{' + body + b"}}", b"")
    code = (
        "import resource, sys; from zoo.weights.header import read_header\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "read_header(sys.argv[1])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout) * unit < 150e6


def test_importing_the_room_brings_no_torch() -> None:
    code = (
        "import sys, zoo.weights.pull, zoo.weights.download, zoo.weights.convert\n"
        "heavy = {'torch', 'numpy', 'timm', 'torchvision', 'huggingface_hub', 'rich', 'safetensors'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

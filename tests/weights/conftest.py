"""Small safetensors files, a Hub on this machine, and settings that may use it."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from zoo.settings import Settings
from zoo.testing.hub import FakeHub


def safetensors(seed: int = 0, size: int = 1000) -> bytes:
    """A sound file with one tensor of `size` bytes, different for each seed."""
    header = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    header += b" " * (-len(header) % 8)
    body = bytes((seed * 31 + i * (i >> 8 | 1)) % 251 for i in range(min(size, 65536)))
    return struct.pack("<Q", len(header)) + header + (body * (size // max(len(body), 1) + 1))[:size]


@pytest.fixture
def make() -> Callable[..., bytes]:
    return safetensors


@pytest.fixture
def settings(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ZOO_OFFLINE", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf-cache"))
    return replace(Settings(), home=home, offline=False)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with FakeHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server

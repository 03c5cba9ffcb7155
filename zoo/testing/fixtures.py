"""pytest fixtures for the tests of plugins. In your conftest.py: `pytest_plugins = ["zoo.testing.fixtures"]`."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry
    from zoo.testing.hub import FakeHub


@pytest.fixture
def zoo_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty `ZOO_HOME`, none of the caller's `ZOO_*` and `HF_*` settings, no network."""
    from zoo.catalog.registry import reset_default

    for name in [name for name in os.environ if name.startswith(("ZOO_", "HF_"))]:
        monkeypatch.delenv(name)
    folder = tmp_path_factory.mktemp("zoo-home")
    monkeypatch.setenv("ZOO_HOME", str(folder))
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    reset_default()
    yield folder
    reset_default()


@pytest.fixture
def registry(zoo_home: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Registry:
    """A registry of the zoo's own plugins and the tiny backbones (`zoo.testing.tiny`), whatever else is installed.

    `registry.register(...)` adds yours. `zoo.compose`, `zoo.load`, `zoo.register` and their kin use it in this test.
    """
    from zoo.catalog import registry as module
    from zoo.testing import tiny

    if "hub" in request.fixturenames:
        request.getfixturevalue("hub")  # it says that this test is online
    made = module.Registry({"tiny": tiny}, entry_points=False, files=())
    monkeypatch.setattr(module, "default", functools.cache(lambda: made))
    return made


@pytest.fixture
def hub(zoo_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub on this machine, to which `HF_ENDPOINT` points; see `zoo.testing.hub`."""
    from zoo.testing.hub import FakeHub

    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("ZOO_OFFLINE")
    with FakeHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server

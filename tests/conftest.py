"""Every test has a home of its own, no network, and none of the caller's `ZOO_*` settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

REAL_DATA = os.environ.get("ZOO_REAL_DATA")


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh `ZOO_HOME`; the default registry is made anew."""
    for name in [name for name in os.environ if name.startswith(("ZOO_", "HF_"))]:
        monkeypatch.delenv(name)
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("ZOO_HOME", str(folder))
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    from zoo.catalog.registry import reset_default

    reset_default()
    yield folder
    reset_default()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real weights and data, where this machine has it."""
    if not REAL_DATA:
        pytest.skip("ZOO_REAL_DATA is not set")
    return Path(REAL_DATA)

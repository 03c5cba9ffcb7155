"""Every test has a home of its own, no network, and none of the caller's `ZOO_*` settings."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# A slow machine is no fault of the code, and a test that failed must fail again.
hypothesis.settings.register_profile("zoo", deadline=None, derandomize=True)
hypothesis.settings.load_profile("zoo")

# A job in the background ignores Ctrl-C, and would hand that on to the processes whose Ctrl-C is tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

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


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of two classes, 12 small pictures each, told apart by colour."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for name, colour in (("blue", (40, 60, 200)), ("red", (200, 60, 40))):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for i in range(12):
            noise = random.integers(-40, 40, (12, 12, 3))
            pixels = np.clip(np.asarray(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i:02}.png")
    return tmp_path / "photos"


@pytest.fixture
def tiny_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Makes the tiny backbones of `zoo.testing.tiny` known to every registry of this test, as a plugin file."""
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755)
    (folder / "tiny.py").write_text("from zoo.testing.tiny import zoo_backbones\n")
    monkeypatch.setenv("ZOO_PLUGINS_DIR", str(folder))
    from zoo.catalog.registry import reset_default

    reset_default()
    return "tiny"

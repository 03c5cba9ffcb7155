"""Real installed distributions; and `catalog_kit`, which the tests of this folder share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """`install("zoo-tiny", "1.0", {"tiny": "zoo_tiny"}, zoo_tiny="...source...")`: a real dist-info on `sys.path`."""
    before = set(sys.modules)

    def install(dist: str, version: str, points: dict[str, str], *, site: str | None = None, **modules: str) -> Path:
        folder = tmp_path / (site or f"site-{dist}")
        info = folder / f"{dist.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n")
        lines = "".join(f"{name} = {target}\n" for name, target in points.items())
        (info / "entry_points.txt").write_text(f"[console_scripts]\nx = y:z\n\n[zoo]\n{lines}")
        for name, source in modules.items():
            (folder / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(folder)
        return folder

    yield install
    for name in set(sys.modules) - before:
        if name.startswith(("zoo_t_", "zoo_plugin_file_")):
            del sys.modules[name]

"""Wheels made here and installed by pip: real distributions for tests."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path


def build_wheel(
    folder: Path, dist: str, version: str, points: dict[str, str], *, requires: Iterable[str] = (), **modules: str
) -> Path:
    """A wheel with these entry points of the group `zoo` and modules (name -> source)."""
    stem = f"{dist.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    lines = "".join(f"{name} = {target}\n" for name, target in points.items())
    needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
    files = {f"{name}.py": source for name, source in modules.items()}
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n{needs}"
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{dist}-says = x:y\n\n[zoo]\n{lines}"
    record = "".join(f"{name},sha256={_digest(text)},{len(text.encode())}\n" for name, text in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def pip_install(target: Path, wheels: Iterable[Path | str], *, links: Path | None = None) -> None:
    """Install wheels, or what is called so in the folder `links`, into a folder of their own, without any index."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    options = ["--disable-pip-version-check", "--no-warn-script-location", "--target", str(target)]
    options += ["--find-links", str(links)] if links is not None else []
    done = subprocess.run([*command, *options, *map(str, wheels)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def zoo(
    *args: str, site: Iterable[Path], code: str = "from zoo.cli import main; main()", **environment: str
) -> subprocess.CompletedProcess[str]:
    """`zoo ARGS` in a process of its own that has these folders on its path."""
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, site)), **environment},
    )


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()

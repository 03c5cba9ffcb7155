"""Small folders of pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def picture() -> Callable[..., Path]:
    """Write a random picture."""

    def write(path: Path, seed: int = 0, size: tuple[int, int] = (24, 20), mode: str = "RGB") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
        pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return write


@pytest.fixture
def folder(tmp_path: Path, picture) -> Path:
    """Class folders: 3 ants, 3 bees."""
    root = tmp_path / "insects"
    for seed in range(6):
        picture(root / ("ants" if seed < 3 else "bees") / f"{seed}.jpg", seed)
    return root

"""Pickles: known by their names, refused everywhere, let in by `zoo convert` alone."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from zoo.errors import IntegrityError

#: How the names of files end that are pickles.
PICKLES: Final = (".pth", ".pt", ".bin", ".ckpt", ".th", ".pkl", ".pickle")


def is_pickle(name: str) -> bool:
    """Whether a file of this name is taken for a pickle."""
    return name.endswith(PICKLES)


def refusal(path: Path) -> IntegrityError:
    """The error for a pickle where weights, or a run, are wanted."""
    return IntegrityError(
        f"{path} may be a pickle, which can run code when it is opened",
        hint=f"Run `zoo convert {path} {path.with_suffix('.safetensors').name}` and name its output.",
    )

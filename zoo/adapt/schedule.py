"""How many epochs, and how large a step is at each of them."""

from __future__ import annotations

import math
from typing import Final

#: Share of the steps that warm up.
WARM_UP: Final = 0.05


def resolve_epochs(epochs: int | None, min_epochs: int, min_steps: int, steps_per_epoch: int) -> int:
    """The epochs asked for; None = enough for `min_epochs` and for `min_steps` steps."""
    return epochs if epochs is not None else max(min_epochs, math.ceil(min_steps / steps_per_epoch))


def rate_factor(step: int, total: int, schedule: str) -> float:
    """Factor of the learning rate at a step counted from 0.

    "constant": 1. "cosine", with w = max(1, round(0.05 total)) steps of warm-up: (step + 1) / w while step < w, then
    (1 + cos(pi (step - w + 1) / (total - w + 1))) / 2, which ends just above 0 (Loshchilov & Hutter 2017,
    arXiv:1608.03983, without restarts).
    """
    if schedule == "constant":
        return 1.0
    warm = max(1, round(WARM_UP * total))
    if step < warm:
        return (step + 1) / warm
    return (1 + math.cos(math.pi * (step - warm + 1) / (total - warm + 1))) / 2

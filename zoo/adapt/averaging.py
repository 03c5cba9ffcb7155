"""An exponential moving average of the weights (Polyak & Juditsky 1992; the warm-up is TensorFlow's)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor


class Averaged:
    """a <- d a + (1 - d) w after step t, with d = min(decay, (1 + t) / (10 + t)); whole numbers are copied.

    Args:
        changing: the tensors w that a fit may change; a starts as they are.
        decay: in [0, 1).
    """

    def __init__(self, changing: Mapping[str, Tensor], decay: float) -> None:
        self._weights: Final = dict(changing)
        self.decay: Final = decay
        #: a, by name.
        self.values: Final = {name: tensor.detach().clone() for name, tensor in changing.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take step t (the first is 1) into the average."""
        kept = min(self.decay, (1 + step) / (10 + step))
        for name, value in self.values.items():
            if value.is_floating_point():
                value.lerp_(self._weights[name], 1 - kept)
            else:
                value.copy_(self._weights[name])

    @torch.no_grad()
    def end(self) -> None:
        """Give the model the average."""
        for name, value in self.values.items():
            self._weights[name].copy_(value)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the average for a while."""
        kept = {name: tensor.detach().clone() for name, tensor in self._weights.items()}
        self.end()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in kept.items():
                    self._weights[name].copy_(value)

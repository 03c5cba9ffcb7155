"""A change of one tensor that is told by two small ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LowRank:
    """The product `up @ down`, group by group; seen as (rows, columns), a tensor's first dimension is the rows.

    A grouped convolution's filters (out, in / G, k, k) are G matrices (out / G, in / G * k * k).

    Attributes:
        up: (G, rows / G, R), on the CPU.
        down: (G, R, columns), on the CPU.
    """

    up: Tensor
    down: Tensor

    def fits(self, tensor: Tensor) -> bool:
        """Whether this is a change of such a tensor."""
        up, down = self.up, self.down
        return (
            up.ndim == down.ndim == 3
            and up.is_floating_point()
            and down.is_floating_point()
            and up.shape[0] == down.shape[0]
            and up.shape[2] == down.shape[1]
            and tensor.ndim > 0
            and tensor.shape[0] == up.shape[0] * up.shape[1]
            and tensor.numel() == tensor.shape[0] * down.shape[2]
        )

    def added_to(self, tensor: Tensor) -> Tensor:
        """The changed tensor, on the CPU. Summed in float64, so that every machine rounds to the same tensor."""
        product = torch.bmm(self.up.double(), self.down.double()).reshape(tensor.shape)
        return (tensor.detach().cpu().double() + product).to(tensor.dtype)

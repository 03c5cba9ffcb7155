"""SCARF (Bahri et al. 2022, arXiv:2106.15147): representations of rows from the rows alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from zoo_plugins.strategies.linear_probe.start import start_at_probe

from zoo.adapt.strategy import Batch, Context, Gradient, Model, full_precision, positive
from zoo.errors import UsageError
from zoo.models.stages import HEAD

#: The extra module, and so its stage.
VIEWS: Final = "views"


@dataclass(frozen=True, kw_only=True)
class Scarf(Gradient):
    """Train the backbone to tell a row with changed cells from all other rows, then solve for a head as the probe does.

    Labels play no part in what the backbone learns, and rows without a label take part: those of a target, and data
    that has no labels at all. In a part of the columns of a row the cells are replaced by those of other rows of its
    batch, each column by another row's, which draws from the column's own distribution. Row and changed row go through
    the backbone and a projection of two layers; the loss (InfoNCE) asks which of the batch the changed one was:

        loss = mean over i of -log( exp(s_ii / t) / sum over k of exp(s_ik / t) ),

    s_ik the cosine of the projections of row i and changed row k. Where the input has no columns, every number of it is
    one. Parts of a batch (`accumulate`, several processes) are told apart each within itself.

    Args:
        batch_size: rows among which a row is to be told.
        corruption: part of the columns that are replaced, in (0, 1]; at least one is, and the number is rounded down.
        temperature: t.
    """

    batch_size: int | Literal["auto"] = 128
    corruption: float = 0.6
    temperature: float = 1.0

    needs: ClassVar[frozenset[str]] = frozenset({"unlabelled"})
    min_epochs: ClassVar[int] = 20
    min_steps: ClassVar[int] = 1000
    self_supervised: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "corruption", "temperature")
        if self.corruption > 1:
            raise UsageError(f"corruption must be at most 1, not {self.corruption!r}", hint="0.6 is the paper's.")
        if self.early_stop is not None:
            raise UsageError("scarf solves for its head at the end, so that no epoch can be judged by it",
                             hint="Leave early_stop out, and give epochs.")  # fmt: skip
        if not isinstance(self.head, str):
            raise UsageError("scarf solves for its head, which is linear or mlp(N)", hint="Leave `head` out.")

    def prepare(self, model: Model, context: Context) -> dict[str, nn.Module]:
        """The projection, and which numbers of the input are one column."""
        cells = getattr(model.backbone.reader(), "cells", None)
        return {VIEWS: Views(model.backbone.num_features, cells)}

    def trainable(self, epoch: int, stages: tuple[str, ...]) -> Mapping[str, float]:
        """All but the head, which is solved for at the end."""
        return {stage: float(stage != HEAD) for stage in stages}

    def freezes_batchnorm(self, context: Context) -> bool:
        """Other rows have other statistics."""
        return False

    def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
        """InfoNCE of the batch; `found`, the part of the rows whose changed one is the nearest."""
        x, views = batch.x, model.extras[VIEWS]
        assert isinstance(views, Views)
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise UsageError("scarf is for input of one floating tensor", hint="Choose another strategy.")
        changed = corrupted(x, views.cells, self.corruption)
        projected = views(model.features(torch.cat([x, changed])))
        one, other = projected[: len(x)], projected[len(x) :]
        found = (one @ other.T).argmax(dim=1) == torch.arange(len(x), device=x.device)
        return {"loss": info_nce(one, other, self.temperature), "found": found.float().mean()}

    def finish(self, model: Model, context: Context) -> None:
        """Give the head the probe's solution on what was learned."""
        start_at_probe(model, self.head, context)


class Views(nn.Module):
    """(N, D) features -> (N, D) projections of length 1; no part of what is saved.

    Args:
        width: D.
        cells: the column of each number of the input; None = each is a column of its own.
    """

    cells: Tensor | None

    def __init__(self, width: int, cells: tuple[int, ...] | None) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.register_buffer("cells", None if cells is None else torch.tensor(cells))

    def forward(self, features: Tensor) -> Tensor:
        return normalize(full_precision(self.project(features)), dim=1)


def corrupted(x: Tensor, cells: Tensor | None, part: float) -> Tensor:
    """Rows in which a part of the columns is that of other rows of the batch, drawn column by column.

    Args:
        x: (N, ...).
        cells: (numbers,) the column that each number of a row comes from; None = its own.
        part: of the columns, in (0, 1]; rounded down, but at least one.
    """
    flat = x.flatten(1)
    cells = torch.arange(flat.shape[1], device=x.device) if cells is None else cells
    rows, columns = len(flat), int(cells.max()) + 1
    chosen = torch.rand(rows, columns, device=x.device).argsort(dim=1) < max(1, int(part * columns))
    others = torch.randint(rows, (rows, columns), device=x.device)
    drawn = flat.gather(0, others[:, cells])
    return torch.where(chosen[:, cells], drawn, flat).view_as(x)


def info_nce(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding, for each row of `one` (N, D), the row of `other` at the same place, by cosine.

    Both are of length 1 already (van den Oord et al. 2018, arXiv:1807.03748).
    """
    return cross_entropy(one @ other.T / temperature, torch.arange(len(one), device=one.device))

"""A head that remembers the training rows."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from zoo.adapt.neighbours import EQUAL, vote
from zoo.data.task import CLASSES, MULTI_LABEL, REGRESSION

#: What the votes of each kind of task are saved as: a file tells by it what its numbers mean.
VOTES: Final = {CLASSES: "classes", MULTI_LABEL: "labels", REGRESSION: "numbers"}
#: Least probability, so that its logarithm is finite.
LEAST: Final = 1e-12
#: Similarities held at once.
AT_ONCE: Final = 1 << 24


class Neighbours(nn.Module):
    """The vote of the k rows of the bank that are most similar to a feature by cosine; see `zoo.adapt.neighbours`.

    Args:
        rows: size N of the bank.
        num_features: width D of the features.
        outputs: width C of the outputs.
        kind: of the task. Outputs are log-probabilities of the classes, logits of each label's share of the vote,
            or weighted means of numbers.
        k: neighbours; all where the bank has fewer rows.
        temperature: T.
    """

    def __init__(self, rows: int, num_features: int, outputs: int, kind: str, k: int, temperature: float) -> None:
        super().__init__()
        self.register_buffer("bank", torch.zeros(rows, num_features))
        self.register_buffer(VOTES[kind], torch.zeros(rows, outputs))
        self.kind = kind
        self.k = min(k, rows)
        self.temperature = temperature

    @property
    def votes(self) -> Tensor:
        """(N, C) what each row of the bank votes for: its class as one of C, its labels, or its numbers."""
        return self.get_buffer(VOTES[self.kind])

    def forward(self, x: Tensor) -> Tensor:
        """(N, C) outputs of features (N, D)."""
        queries = normalize(x.to(self.bank.dtype), dim=1)
        if torch.jit.is_tracing() or torch.compiler.is_compiling():  # one graph for any number of rows
            return self._outputs(queries @ self.bank.T, self.k)
        return torch.cat([self._outputs(part @ self.bank.T, self.k) for part in queries.split(self._chunk)])

    def leave_one_out(self) -> Tensor:
        """(N, C) outputs of the bank's own rows, each with itself left out.

        Needs a bank of two rows or more.
        """
        found = []
        for start in range(0, len(self.bank), self._chunk):
            similar = self.bank[start : start + self._chunk] @ self.bank.T
            similar[torch.arange(len(similar)), torch.arange(start, start + len(similar))] = -torch.inf
            found.append(self._outputs(similar, min(self.k, len(self.bank) - 1)))
        return torch.cat(found)

    @property
    def _chunk(self) -> int:
        return max(1, AT_ONCE // max(1, len(self.bank)))

    def _outputs(self, similar: Tensor, k: int) -> Tensor:
        share = vote(similar, self.votes, k, self.temperature)
        if self.kind == CLASSES:
            return share.clamp_min(LEAST).log()
        return share.clamp(LEAST, 1 - EQUAL).logit() if self.kind == MULTI_LABEL else share

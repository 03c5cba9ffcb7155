"""k nearest neighbours on frozen features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot
from zoo_plugins.strategies.knn.head import VOTES, Neighbours

from zoo.adapt.spectrum import check_features
from zoo.adapt.strategy import ClosedForm, Context, positive
from zoo.adapt.streamed import sample_rows
from zoo.adapt.targets import check_targets
from zoo.data.task import CLASSES, Task
from zoo.errors import UsageError

#: Numbers in the bank at most (512 MB); of more rows a sample is kept.
LIMIT: Final = 1 << 27
#: Rows that are normalised at once.
_CHUNK: Final = 4096


@dataclass(frozen=True, kw_only=True)
class KNearest(ClosedForm):
    """The `k` most similar training rows vote, by cosine similarity.

    The head keeps the normalised features of the training rows, up to `LIMIT` numbers (65,536 rows of 2,048
    features); of more rows it keeps a seeded sample, each class in proportion, and the notes say so. Classes and
    labels get shares of the vote as probabilities, numbers the weighted mean.

    Args:
        k: neighbours; all rows where there are fewer.
        temperature: T of a neighbour's weight exp(similarity / T): near 0 only the nearest counts, far above 1 all k
            count alike.
    """

    k: int = 20
    temperature: float = 0.07

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "k", "temperature")

    def solve(self, features: Tensor, targets: np.ndarray, context: Context) -> nn.Module:
        """The head that remembers these rows."""
        task, targets = context.task, np.asarray(targets)
        check_targets(features, targets, task)
        check_features(features)
        most = max(1, LIMIT // features.shape[1])
        kept: np.ndarray | None = None
        if len(features) > most:
            codes = targets if task.kind == CLASSES else np.zeros(len(targets), dtype=np.int64)
            kept = sample_rows(codes, most / len(features), context.seed)
            targets = targets[kept]
            context.notes.append(f"knn keeps {len(kept):,} of {len(features):,} training rows, a seeded sample")
        count = len(targets)
        if count < self.k:
            context.notes.append(f"there are only {count} training rows, so k is {count}, not {self.k}")
        head = Neighbours(count, features.shape[1], task.outputs, task.kind, self.k, self.temperature)
        for start in range(0, count, _CHUNK):
            rows = slice(start, start + _CHUNK)
            part = features[rows] if kept is None else features[torch.from_numpy(kept[rows])]
            head.bank[rows] = normalize(part.detach().cpu().double(), dim=1).float()
        head.votes.copy_(votes(targets, task))
        return head

    def rebuild(self, num_features: int, outputs: int, tensors: Mapping[str, tuple[int, ...]]) -> nn.Module:
        """The empty head; the saved tensors say how many rows it has, and what they vote for."""
        rows = (*tensors.get("bank", ()), 0)[0]
        kind = next((kind for kind, name in VOTES.items() if name in tensors), None)
        if not rows or kind is None:
            raise UsageError("the saved head has no rows that vote")
        return Neighbours(rows, num_features, outputs, kind, self.k, self.temperature)


def votes(targets: np.ndarray, task: Task) -> Tensor:
    """(N, C) what each row votes for: its class, its labels, or its numbers."""
    if task.kind == CLASSES:
        return one_hot(torch.from_numpy(targets.astype(np.int64)), task.outputs).float()
    return torch.from_numpy(targets.astype(np.float32)).reshape(len(targets), task.outputs)

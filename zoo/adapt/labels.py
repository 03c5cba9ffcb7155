"""What the rows of a logistic regression are, and what their scores cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, one_hot

from zoo.adapt.targets import ClassWeight
from zoo.data.task import CLASSES, Task


@dataclass(frozen=True)
class Labels:
    """What the rows are, and how much they count.

    Attributes:
        codes: (N,) class indices for the softmax; else (N, C) of 0 and 1.
        present, absent: (C,) float64 weight of a row that has the class (the label), and of one that has it not (not
            for the softmax); scaled so that all rows weigh 1 together.
        softmax: classes exclude each other.
    """

    codes: Tensor
    present: Tensor
    absent: Tensor
    softmax: bool

    @classmethod
    def of(cls, targets: np.ndarray, task: Task, class_weight: ClassWeight) -> Labels:
        """From targets as `zoo.adapt.solve.solve` takes them; two classes are one column."""
        given = torch.ones(task.outputs, dtype=torch.float64)
        if isinstance(class_weight, Mapping):
            named = {str(name): float(weight) for name, weight in class_weight.items()}
            given = torch.tensor([named.get(name, 1.0) for name in task.classes], dtype=torch.float64)
        if task.kind == CLASSES and task.outputs > 2:
            codes = torch.from_numpy(targets.astype(np.int64))
            counts = torch.bincount(codes, minlength=task.outputs).double()
            present = 1 / counts if class_weight == "balanced" else given
            return cls(codes, present, torch.zeros_like(present), True)._normalised(counts)
        absent = torch.ones_like(given)
        if task.kind == CLASSES:
            targets, absent, given = targets.reshape(-1, 1), given[:1], given[1:]
        codes = torch.from_numpy(targets)
        counts = codes.sum(dim=0, dtype=torch.float64)
        present = 1 / counts if class_weight == "balanced" else given
        absent = 1 / (len(codes) - counts) if class_weight == "balanced" else absent
        return cls(codes, present, absent, False)._normalised(counts)

    def _normalised(self, counts: Tensor) -> Labels:
        total = self.present * counts
        total = total.sum() if self.softmax else total + self.absent * (len(self.codes) - counts)
        # A column without any weight is one that nothing can be learned of.
        total = total.clamp_min(torch.finfo(total.dtype).tiny)
        return replace(self, present=self.present / total, absent=self.absent / total)

    def sample(self, rows: Tensor) -> Labels:
        """The same of some of the rows (their numbers), which then weigh 1 together."""
        codes = self.codes[rows]
        if self.softmax:
            counts = torch.bincount(codes, minlength=len(self.present)).double()
        else:
            counts = codes.sum(dim=0, dtype=torch.float64)
        return replace(self, codes=codes)._normalised(counts)

    def columns(self) -> tuple[Tensor, Tensor]:
        """Labels (N, C) of 0 and 1, and weights (N, 1) or (N, C), both float64."""
        if self.softmax:
            return one_hot(self.codes, len(self.present)).double(), self.present[self.codes][:, None]
        return self.codes.double(), torch.where(self.codes > 0, self.present, self.absent)

    def loss(self, scores: Tensor, rows: slice) -> tuple[float, Tensor]:
        """Weighted sum of the negative log-likelihoods of some rows, and its derivative by their scores (n, C)."""
        codes, weights = self.codes[rows], self._weights(rows, scores)
        if self.softmax:
            logs = scores.log_softmax(dim=1)
            total = -(logs.gather(1, codes[:, None]) * weights).sum(dtype=torch.float64)
            slope = logs.exp_()
            slope[torch.arange(len(codes)), codes] -= 1
            return float(total), slope.mul_(weights)
        given = codes.to(scores.dtype)
        losses = -(given * scores + logsigmoid(-scores))
        return float((losses * weights).sum(dtype=torch.float64)), (scores.sigmoid() - given) * weights

    def bend(self, scores: Tensor, moved: Tensor, rows: slice) -> Tensor:
        """Second derivative of the losses of some rows by their scores, times a direction (n, C) of the scores."""
        weights = self._weights(rows, scores)
        if self.softmax:
            p = scores.softmax(dim=1)
            return p * (moved - (p * moved).sum(dim=1, keepdim=True)) * weights
        return scores.sigmoid() * scores.neg().sigmoid() * moved * weights

    def curvature(self, scores: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """Second derivatives by the scores of some rows: for each row summed over its classes (n,), and summed over
        the rows between the classes (C, C)."""
        weights = self._weights(rows, scores)
        if self.softmax:
            p = scores.softmax(dim=1)
            shared = p * weights
            return (shared * (1 - p)).sum(dim=1), shared.sum(dim=0).diag() - shared.T @ p
        bends = scores.sigmoid() * scores.neg().sigmoid() * weights
        return bends.sum(dim=1), bends.sum(dim=0).diag()

    def _weights(self, rows: slice, like: Tensor) -> Tensor:
        """(n, 1) for the softmax, else (n, C)."""
        codes, present = self.codes[rows], self.present.to(like.dtype)
        if self.softmax:
            return present[codes][:, None]
        return torch.where(codes > 0, present, self.absent.to(like.dtype))

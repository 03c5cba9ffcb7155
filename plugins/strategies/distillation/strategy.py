"""Knowledge distillation (Hinton, Vinyals and Dean 2015, arXiv:1503.02531)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from zoo_plugins.strategies.fine_tune.strategy import start_head

from zoo.adapt.strategy import Batch, Context, Gradient, Model, one_of, positive, task_loss
from zoo.data.task import CLASSES, REGRESSION, Task
from zoo.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Distillation(Gradient):
    """(1 - alpha) * task loss on labelled rows + alpha * distance to the teacher on all rows.

    Args:
        teacher: a saved run's folder, a learner, the name of a backbone with its own classifier, or a module.
        alpha: weight of the teacher, in [0, 1].
        temperature: T of the softened answers; the distance is multiplied by T^2, so that alpha means the same at
            every T.
        match: "logits" = T^2 KL(teacher || student) of the softened classes (binary ones for several labels, squared
            error for regression); "features" = squared error between a trained linear projection of the student's
            features and the teacher's features, standardised per dimension (after FitNets, Romero et al. 2015). The
            projection is dropped when the run is saved.
        init: where the head starts; as in fine-tune.
        batchnorm: "frozen", "train", or "auto" = frozen where the student is pretrained.
    """

    teacher: Any = None
    alpha: float = 0.9
    temperature: float = 4.0
    match: str = "logits"
    init: str = "auto"
    batchnorm: str = "auto"

    needs: ClassVar[frozenset[str]] = frozenset({"teacher", "unlabelled"})
    min_epochs: ClassVar[int] = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "temperature")
        one_of(self, "match", "logits", "features")
        one_of(self, "init", "auto", "probe", "random")
        one_of(self, "batchnorm", "auto", "frozen", "train")
        if not 0 <= self.alpha <= 1:
            raise UsageError(f"alpha must be between 0 and 1, not {self.alpha}")

    def prepare(self, model: Model, context: Context) -> dict[str, nn.Module]:
        """Ask the teacher once, and make the projection that matching features needs."""
        assert context.teacher is not None
        start_head(model, context, self.init)
        if self.match == "logits":
            context.teacher.logits  # noqa: B018  (a teacher of other classes is refused now, not in the first step)
            return {}
        return {"projection": Projection(model.backbone.num_features, context.teacher.features)}

    def freezes_batchnorm(self, context: Context) -> bool:
        """See `batchnorm`."""
        return context.pretrained if self.batchnorm == "auto" else self.batchnorm == "frozen"

    def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
        """The weighted sum, and both parts."""
        assert context.teacher is not None
        features = model.features(batch.x)
        outputs = model.head(features).float()
        rows = batch.index.cpu()
        if self.match == "logits":
            said = context.teacher.logits[rows].to(outputs.device)
            distance = soften(outputs, said, self.temperature, context.task)
        else:
            wanted = context.teacher.features[rows].to(outputs.device)
            distance = model.extras["projection"].distance(features.float(), wanted)
        known = batch.labelled
        task = task_loss(outputs[known], batch.y[known], context.task) if known.any() else outputs.sum() * 0
        return {"loss": (1 - self.alpha) * task + self.alpha * distance, "task": task, "teacher": distance}


def soften(student: Tensor, teacher: Tensor, temperature: float, task: Task) -> Tensor:
    """Mean distance of the student's answers to the teacher's, over rows.

    Classes: T^2 KL(softmax(teacher / T) || softmax(student / T)). Several labels: T^2 times the binary KL, averaged
    over labels. Regression: squared error.

    Args:
        student: (N, C) logits.
        teacher: (N, C) logits.
        temperature: T > 0.
        task: its kind decides.
    """
    if task.kind == REGRESSION:
        return F.mse_loss(student, teacher)
    if task.kind == CLASSES:
        one, other = F.log_softmax(student / temperature, dim=1), F.log_softmax(teacher / temperature, dim=1)
        return temperature**2 * F.kl_div(one, other, reduction="batchmean", log_target=True)
    wanted = torch.sigmoid(teacher / temperature)
    cross = F.binary_cross_entropy_with_logits(student / temperature, wanted)
    entropy = F.binary_cross_entropy_with_logits(teacher / temperature, wanted)
    return temperature**2 * (cross - entropy)


class Projection(nn.Module):
    """A linear map from the student's features (N, D) to the teacher's (N, E), standardised per dimension."""

    def __init__(self, num_features: int, teacher: Tensor) -> None:
        super().__init__()
        self.map = nn.Linear(num_features, teacher.shape[1])
        self.register_buffer("mean", teacher.mean(dim=0))
        self.register_buffer("scale", teacher.std(dim=0, correction=0).clamp(min=1e-6))

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Mean squared error in the standardised space."""
        return F.mse_loss(self.map(student), (teacher - self.mean) / self.scale)

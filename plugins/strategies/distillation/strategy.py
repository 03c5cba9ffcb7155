"""Knowledge distillation (Hinton, Vinyals & Dean 2015, arXiv:1503.02531)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from zoo_plugins.strategies.fine_tune.strategy import Tuning

from zoo.adapt.strategy import Batch, Context, Model, TeacherOutputs, full_precision, one_of, positive, task_loss
from zoo.data.task import CLASSES, REGRESSION, Task
from zoo.errors import UsageError

#: The extra module of `match="features"`.
PROJECTION = "projection"


@dataclass(frozen=True, kw_only=True)
class Distillation(Tuning):
    """(1 - alpha) task loss of the labelled rows + alpha distance to the teacher of all rows.

    A batch without labelled rows has the second term alone.

    Args:
        teacher: a saved run's folder, a learner, the name of a backbone with its own classifier, or a module.
        alpha: weight of the teacher, in [0, 1].
        temperature: T of the softened answers; the distance is multiplied by T^2, so that alpha means the same at
            every T. Neither regression nor features use it.
        match: "logits" = T^2 KL(teacher || student) of the softened classes (binary ones for several labels, squared
            error for regression); the teacher's classes must be the task's. "features" = squared error between a
            trained linear projection of the student's features and the teacher's features, standardised per dimension
            (after FitNets, Romero et al. 2015, arXiv:1412.6550); any teacher will do. The projection is dropped when
            the run is saved.
    """

    teacher: Any = None
    alpha: float = 0.9
    temperature: float = 4.0
    match: str = "logits"

    needs: ClassVar[frozenset[str]] = frozenset({"teacher", "unlabelled"})
    min_epochs: ClassVar[int] = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "temperature")
        one_of(self, "match", "logits", "features")
        if not 0 <= self.alpha <= 1:
            raise UsageError(f"alpha must be between 0 and 1, not {self.alpha!r}")

    def prepare(self, model: Model, context: Context) -> dict[str, nn.Module]:
        """Ask the teacher once, start the head, and make the projection that matching features needs.

        Raises:
            UsageError: no teacher, or one of other classes where logits are to be matched.
        """
        answers = _answers(context)
        wanted = answers.logits if self.match == "logits" else answers.features
        extras = super().prepare(model, context)
        if self.match == "features":
            extras[PROJECTION] = Projection(model.backbone.num_features, wanted)
        return extras

    def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
        """The weighted sum, and both parts: "task" and "teacher"."""
        answers = _answers(context)
        features = model.features(batch.x)
        outputs = full_precision(model.head(features))
        if self.match == "logits":
            wanted = answers.logits[batch.index].to(outputs)
            distance = soft_distance(outputs, wanted, self.temperature, context.task)
        else:
            wanted = answers.features[batch.index].to(outputs)
            distance = model.extras[PROJECTION].distance(features, wanted)
        known = batch.labelled
        task = task_loss(outputs[known], batch.y[known], context.task) * batch.labelled_share
        return {"loss": (1 - self.alpha) * task + self.alpha * distance, "task": task, "teacher": distance}


def _answers(context: Context) -> TeacherOutputs:
    if context.teacher is None:
        raise UsageError("distillation needs a teacher", hint="Give teacher=RUN, BACKBONE, a learner or a module.")
    return context.teacher


def soft_distance(student: Tensor, teacher: Tensor, temperature: float, task: Task) -> Tensor:
    """Mean distance of the student's answers to the teacher's, over rows.

    Classes: T^2 KL(softmax(teacher / T) || softmax(student / T)). Several labels: T^2 times the binary KL, averaged
    over labels. Regression: squared error.

    Args:
        student: (N, C) logits, or numbers.
        teacher: (N, C), the same.
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
    """A linear map from the student's features (N, D) to the teacher's (N, E), standardised per dimension.

    Args:
        num_features: D.
        teacher: (rows, E), what it is standardised by. A dimension that does not vary is 0.
    """

    def __init__(self, num_features: int, teacher: Tensor) -> None:
        super().__init__()
        self.map = nn.Linear(num_features, teacher.shape[1])
        spread, mean = torch.std_mean(teacher.double(), dim=0, correction=0)
        varies = spread > 1e-6 * mean.abs().clamp_min(1e-6)
        self.register_buffer("mean", mean.float())
        self.register_buffer("scale", torch.where(varies, spread, torch.inf).float())

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Mean squared error in the standardised space."""
        return F.mse_loss(full_precision(self.map(student)), (teacher - self.mean) / self.scale)

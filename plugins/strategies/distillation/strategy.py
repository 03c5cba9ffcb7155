"""Knowledge distillation (Hinton, Vinyals & Dean 2015, arXiv:1503.02531)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from zoo_plugins.strategies.fine_tune.strategy import Tuning

from zoo.adapt.strategy import (
    Batch,
    Context,
    Model,
    TeacherOutputs,
    at_least_zero,
    full_precision,
    one_of,
    positive,
    task_loss,
)
from zoo.data.augment import Policy, parse
from zoo.data.task import CLASSES, REGRESSION, Task
from zoo.errors import UsageError

#: The extra module of `match="features"` and `features`.
PROJECTION: Final = "projection"
#: Changed forms of each picture where the teacher is cached and nobody says how many.
VIEWS: Final = 4


@dataclass(frozen=True, kw_only=True)
class Distillation(Tuning):
    """(1 - alpha) task loss of the labelled rows + alpha distance to the teacher of all rows.

    A batch without labelled rows has the second term alone.

    Args:
        teacher: a saved run's folder, a learner, the name of a backbone with its own classifier, or a module; or a list
            of such: their softened answers are averaged, their features put side by side.
        alpha: weight of the teacher, in [0, 1].
        temperature: T of the softened answers; the distance is multiplied by T^2, so that alpha means the same at
            every T. Neither regression nor features use it.
        match: "logits" = T^2 KL(teacher || student) of the softened classes (binary ones for several labels, squared
            error for regression); the teacher's classes must be the task's, by name. "features" = squared error between
            a trained linear projection of the student's features and the teacher's features, standardised per dimension
            (after FitNets, Romero et al. 2015, arXiv:1412.6550); any teacher will do. The projection is dropped when
            the run is saved.
        features: weight of the distance of features, added to the distance of logits. 0 = none.
        augment: how pictures are changed, for student and teacher alike; see `zoo.data.augment`. None = not at all.
        views: with `augment`: each picture has so many changed forms, which the epochs go through again and again, so
            that the teacher sees each once. None = 4 where the teacher is cached, else new ones in each epoch.
        cache: ask the teacher once for each view, and remember what it said; False = in each step, which costs its
            forward pass every time.
    """

    teacher: Any = None
    alpha: float = 0.9
    temperature: float = 4.0
    match: str = "logits"
    features: float = 0.0
    augment: str | None = None
    views: int | None = None
    cache: bool = True

    needs: ClassVar[frozenset[str]] = frozenset({"teacher", "unlabelled"})
    min_epochs: ClassVar[int] = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "temperature", "views")
        at_least_zero(self, "features")
        one_of(self, "match", "logits", "features")
        if not 0 <= self.alpha <= 1:
            raise UsageError(f"alpha must be between 0 and 1, not {self.alpha!r}")
        if self.features and self.match == "features":
            raise UsageError("features is a weight beside match=logits", hint="With match=features, alpha is it.")
        if self.views is not None and self.augment is None:
            raise UsageError("views are of changed pictures", hint="Say how they are changed: augment=crop,flip.")
        self.augmentation()

    def augmentation(self) -> Policy | None:
        """See `augment`."""
        return None if self.augment is None else parse(self.augment)

    def view(self, epoch: int) -> int:
        """See `views`."""
        count = self.views or (VIEWS if self.cache else None)
        return epoch % count if count else epoch

    def caches_teacher(self) -> bool:
        """See `cache`."""
        return self.cache

    def prepare(self, model: Model, context: Context) -> dict[str, nn.Module]:
        """Ask the teacher, start the head, and make the projection that matching features needs.

        Raises:
            UsageError: no teacher, or one of other classes where logits are to be matched.
        """
        answers = _answers(context)
        if self.match == "logits":
            answers.soft(torch.arange(1), 0, self.temperature)
        extras = super().prepare(model, context)
        if self._projects:
            extras[PROJECTION] = Projection(model.backbone.num_features, answers.features)
        return extras

    @property
    def _projects(self) -> bool:
        return self.match == "features" or self.features > 0

    def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
        """The weighted sum, and its parts: "task", "teacher" and, with `features`, "features"."""
        answers = _answers(context)
        features = model.features(batch.x)
        outputs = full_precision(model.head(features))
        parts: dict[str, Tensor] = {}
        if self._projects:
            pooled = answers.pooled(batch.index, batch.epoch).to(outputs)
            projection = model.extras[PROJECTION]
            assert isinstance(projection, Projection)
            parts["features"] = projection.distance(features, pooled)
        if self.match == "logits":
            wanted = answers.soft(batch.index, batch.epoch, self.temperature).to(outputs)
            distance = soft_distance(outputs, wanted, self.temperature, context.task)
        else:
            distance = parts.pop("features")
        known = batch.labelled
        task = task_loss(outputs[known], batch.y[known], context.task) * batch.labelled_share
        loss = (1 - self.alpha) * task + self.alpha * distance
        if "features" in parts:
            loss = loss + self.features * parts["features"]
        return {"loss": loss, "task": task, "teacher": distance, **parts}


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

    mean: Tensor
    scale: Tensor

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

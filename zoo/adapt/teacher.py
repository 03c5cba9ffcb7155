"""Who teaches: a saved run, a learner, a backbone with its own classifier, or a module."""

from __future__ import annotations

import copy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo.adapt.features import FeatureStore, shared_store, to_device
from zoo.adapt.learner import Learner
from zoo.catalog.names import is_path
from zoo.catalog.spec import Preprocessing
from zoo.data.dataset import Split
from zoo.data.loading import batches
from zoo.data.preprocess import reader
from zoo.data.task import Task
from zoo.errors import NotFoundError, UsageError
from zoo.models.accelerator import Placement
from zoo.models.network import Network, running_in_eval

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry


class Teacher:
    """A network that knows classes.

    Args:
        name: for messages.
        network: where its features come from.
        head: features -> logits; None = its logits come from a forward pass through its own classifier.
        classes: the names of its outputs, or None where nobody said.
        placement: where it runs.
        store: where its features are kept.
    """

    def __init__(
        self,
        name: str,
        network: Network,
        head: nn.Module | None,
        classes: tuple[str, ...] | None,
        placement: Placement,
        store: FeatureStore,
    ) -> None:
        self.name = name
        self.network = network
        self.head = head
        self.classes = classes
        self.placement = placement
        self.store = store

    def notes(self, task: Task) -> list[str]:
        """What the user should know before trusting it."""
        if self.classes is not None:
            return []
        return [f"the teacher {self.name} does not name its classes; they are taken to be {', '.join(task.classes)}"]

    def on(
        self, split: Split, task: Task, *, preprocessing: Preprocessing | None = None, progress: Any = None
    ) -> Answers:
        """What it says of the rows of `split`. `preprocessing` is used where the teacher has none of its own."""
        if self.network.preprocessing is None:
            self.network.preprocessing = preprocessing
        return Answers(self, split, task, progress)


class Answers:
    """A teacher's answers for the rows of one split; each kind is computed once, when first asked for."""

    def __init__(self, teacher: Teacher, split: Split, task: Task, progress: Any = None) -> None:
        self.teacher = teacher
        self.name = teacher.name
        self.split = split
        self.task = task
        self.progress = progress

    @cached_property
    def features(self) -> Tensor:
        """(rows, D) pooled features."""
        told = (lambda done, total: self.progress("teacher", done, total)) if self.progress else None
        return self.teacher.store.features(self.teacher.network, self.split, self.teacher.placement, progress=told)

    @cached_property
    def logits(self) -> Tensor:
        """(rows, C), columns in the order of the task's classes.

        Raises:
            UsageError: the teacher's classes are not the task's.
        """
        classes = self.teacher.classes
        if classes is not None and set(classes) != set(self.task.classes):
            raise self._other_classes(", ".join(classes[:5]) + (" ..." if len(classes) > 5 else ""))
        found = self._logits()
        if found.shape[1] != self.task.outputs:
            raise self._other_classes(f"{found.shape[1]} outputs")
        return found if classes is None else found[:, [classes.index(name) for name in self.task.classes]]

    def _logits(self) -> Tensor:
        teacher = self.teacher
        if teacher.head is not None:
            with torch.inference_mode():
                parts = self.features.split(4096)
                found = [teacher.head(to_device(part, teacher.placement)).float().cpu() for part in parts]
            return torch.cat(found).clone()
        read = reader(teacher.network.preprocessing, teacher.network.in_chans)
        with running_in_eval(teacher.network), torch.inference_mode(), teacher.placement.autocast():
            parts = [
                teacher.network(to_device(batch.x, teacher.placement)).float().cpu()
                for batch in batches(self.split, read, 32)
            ]
        return torch.cat(parts).clone()

    def _other_classes(self, has: str) -> UsageError:
        return UsageError(
            f"the teacher {self.name} has other classes than the data",
            why=f"It has {has}; the data has {', '.join(self.task.classes[:5])}"
            + (" ..." if self.task.outputs > 5 else "."),
            hint="Choose a teacher of the same classes, or match=features.",
        )


def resolve_teacher(
    teacher: Any, *, registry: Registry, placement: Placement, store: FeatureStore | None = None
) -> Teacher:
    """Make a teacher of whatever was given as one.

    Raises:
        UsageError: nothing was given, or the backbone has no classifier of its own.
        NotFoundError: no such run or backbone.
    """
    store = store or shared_store()
    if teacher is None:
        raise UsageError(
            "distillation needs a teacher",
            hint="Give teacher=RUN_FOLDER, teacher=BACKBONE.TAG, or in Python a learner or a module.",
        )
    if isinstance(teacher, (str, Path)):
        if (Path(teacher) / "run.json").is_file():
            from zoo.adapt.saved import load

            teacher, name = load(teacher, registry=registry), str(teacher)
            return _of_learner(teacher, name, store)
        if isinstance(teacher, Path) or is_path(teacher):
            raise NotFoundError(f"no run at {teacher}", hint="Give a run folder, or the name of a backbone.")
        return _of_backbone(teacher, registry, placement, store)
    if isinstance(teacher, Learner):
        return _of_learner(teacher, repr(teacher), store)
    if isinstance(teacher, Network):
        return Teacher(
            repr(teacher), copy.deepcopy(teacher).to(placement.device), None, teacher.classes, placement, store
        )
    if isinstance(teacher, nn.Module):
        network = Network(copy.deepcopy(teacher).eval()).to(placement.device)
        return Teacher(type(teacher).__name__, network, None, None, placement, store)
    raise UsageError(f"a {type(teacher).__name__} is no teacher", hint="Give a run, a learner, a backbone or a module.")


def _of_learner(learner: Learner, name: str, store: FeatureStore) -> Teacher:
    if learner.model is None:
        raise UsageError("the teacher is not fitted yet", hint="Call its fit(train) first.")
    model = learner.model
    return Teacher(name, model.backbone, model.head, learner.classes, learner.placement, store)


def _of_backbone(name: str, registry: Registry, placement: Placement, store: FeatureStore) -> Teacher:
    from zoo.adapt.source import NamedSource

    spec, weights = registry.resolve(name)
    if weights is None:
        raise UsageError(f"{name} has no weights, so it knows nothing", hint="Name weights: ARCH.TAG.")
    network = NamedSource(spec, weights, registry).network().to(placement.device)
    if network.source_head is None:
        raise UsageError(f"{weights.name} has no classifier of its own, so it cannot teach classes")
    head = network.source_head if isinstance(network.source_head, nn.Linear) and len(network.head_names) == 1 else None
    return Teacher(weights.name, network, head, network.classes, placement, store)

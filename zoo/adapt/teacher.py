"""Who teaches: a saved run, a learner, a backbone with its own classifier, or a module."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from zoo.adapt.features import FeatureStore, shared_store, state_hash, to_device
from zoo.adapt.learner import Learner
from zoo.adapt.source import NamedSource
from zoo.catalog.names import is_path
from zoo.catalog.pickles import is_pickle, refusal
from zoo.catalog.spec import Preprocessing
from zoo.data.dataset import Split
from zoo.data.loading import batches
from zoo.data.preprocess import reader
from zoo.data.task import CLASSES, Task
from zoo.errors import NotFoundError, UsageError
from zoo.models.accelerator import Placement
from zoo.models.network import Network, running_in_eval
from zoo.settings import expanded

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry


#: Rows of one forward pass of a module that is asked for its own logits.
BATCH: Final = 32


class Teacher:
    """A network that knows classes.

    Args:
        name: for messages.
        network: where its features come from.
        head: features -> logits; None = its logits come from a forward pass through its own classifier.
        task: what its outputs mean; None where nobody said their names.
        placement: where it runs.
        store: where its features are kept.
    """

    def __init__(
        self,
        name: str,
        network: Network,
        head: nn.Module | None,
        task: Task | None,
        placement: Placement,
        store: FeatureStore,
    ) -> None:
        self.name = name
        self.network = network
        self.head = head
        self.task = task
        self.placement = placement
        self.store = store

    def notes(self, task: Task) -> list[str]:
        """What the user should know before trusting it."""
        if self.task is not None:
            return []
        return [f"the teacher {self.name} does not name its outputs; in order they are taken to be {_few(task)}"]

    def on(
        self, split: Split, task: Task, *, preprocessing: Preprocessing | None = None, progress: Any = None
    ) -> Answers:
        """What it says of the rows of `split`. `preprocessing` is used where the teacher has none of its own."""
        if self.head is None and self.network.preprocessing is None:  # a learner's network is the caller's
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
        named = self.teacher.task
        if named is not None and (named.kind != self.task.kind or set(named.classes) != set(self.task.classes)):
            raise self._refused(f"{named.kind}: {_few(named)}")
        found = self._logits()
        if found.ndim != 2 or found.shape[1] != self.task.outputs:
            raise self._refused(f"outputs of shape {tuple(found.shape[1:])}")
        return found if named is None else found[:, [named.classes.index(name) for name in self.task.classes]]

    def _logits(self) -> Tensor:
        teacher = self.teacher
        parts: list[Tensor] = []
        if teacher.head is not None:
            with torch.inference_mode():
                for part in self.features.split(4096):
                    parts.append(teacher.head(to_device(part, teacher.placement)).float().cpu())
            return torch.cat(parts).clone()
        read = reader(teacher.network.preprocessing, teacher.network.in_chans)
        with running_in_eval(teacher.network), torch.inference_mode(), teacher.placement.autocast():
            for batch in batches(self.split, read, BATCH):
                answer = teacher.network(to_device(batch.x, teacher.placement))
                if not isinstance(answer, Tensor):
                    raise self._refused(f"a {type(answer).__name__} as output, not a tensor")
                parts.append(answer.float().cpu())
                if self.progress:
                    self.progress("teacher", int(batch.index[-1]) + 1, len(self.split))
        return torch.cat(parts).clone()

    def _refused(self, has: str) -> UsageError:
        return UsageError(
            f"the teacher {self.name} has other classes than the data",
            why=f"It has {has}; the data has {self.task.kind}: {_few(self.task)}.",
            hint="Choose a teacher of the same classes, or match=features.",
        )


class _Answering(nn.Module):
    """A module whose classifier cannot be found: what it returns is its answer, and its features."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.answer = nn.Identity()

    def forward(self, *x: Any, **named: Any) -> Any:
        return self.answer(self.module(*x, **named))


def resolve_teacher(
    teacher: Any, *, registry: Registry, placement: Placement, store: FeatureStore | None = None
) -> Teacher:
    """Make a teacher of whatever was given as one. No random number is drawn, so a student does not depend on how.

    Raises:
        UsageError: nothing was given, or the backbone has no classifier of its own.
        NotFoundError: no such run or backbone.
    """
    with torch.random.fork_rng():  # a run or a backbone that is loaded draws values that its file then replaces
        return _resolve(teacher, registry, placement, store or shared_store(registry.settings))


def describe_teacher(teacher: Any) -> Any:
    """What a record keeps of a teacher: a name or a path as text; else what it is and the sha256 of its tensors."""
    if teacher is None or isinstance(teacher, (str, Mapping)):
        return teacher
    if isinstance(teacher, Path):
        return str(teacher)
    if isinstance(teacher, Learner):
        state = state_hash(teacher.model) if teacher.fitted else None
        return {"learner": teacher.strategy_name, "backbone": teacher.source.name, "state": state}
    if isinstance(teacher, nn.Module):
        inner = teacher.module if isinstance(teacher, Network) else teacher
        return {"module": type(inner).__name__, "state": state_hash(teacher)}
    return type(teacher).__name__


def _resolve(teacher: Any, registry: Registry, placement: Placement, store: FeatureStore) -> Teacher:
    if teacher is None:
        raise UsageError(
            "distillation needs a teacher",
            hint="Give teacher=RUN_FOLDER, teacher=BACKBONE.TAG, or in Python a learner or a module.",
        )
    if isinstance(teacher, (str, Path)):
        return _of_name(teacher, registry, placement, store)
    if isinstance(teacher, Learner):
        return _of_learner(teacher, f"{teacher.source.name} + {teacher.strategy_name}", store)
    if isinstance(teacher, nn.Module):
        # A copy: it will be moved, and the caller's stays as it is.
        return _of_module(copy.deepcopy(teacher).to(placement.device), placement, store)
    if isinstance(teacher, Mapping):
        what = teacher.get("learner") or teacher.get("module")
        raise UsageError(
            f"the teacher of this run ({what}) is not here: only its description was saved",
            hint="Compose again with that teacher, or give the folder of its run.",
        )
    raise UsageError(f"{teacher!r} is no teacher", hint="Give a run, a learner, a backbone or a module.")


def _of_name(name: str | Path, registry: Registry, placement: Placement, store: FeatureStore) -> Teacher:
    run = expanded(name)
    if (run / "run.json").is_file():
        from zoo.adapt.saved import load

        return _of_learner(load(run, accelerator=str(placement.device), registry=registry), str(name), store)
    if run.is_file() and is_pickle(run.name):
        raise refusal(run)
    if isinstance(name, Path) or is_path(name):
        raise NotFoundError(f"no run at {name}", hint="Give a run's folder, or the name of a backbone.")
    try:
        spec, weights = registry.resolve(name)
    except NotFoundError as error:
        error.add_note(f"It was named as the teacher; there is no run in a folder {name} either.")
        raise
    if weights is None:
        raise UsageError(f"{name} has no weights, so it knows nothing", hint="Name weights: ARCH.TAG.")
    network = NamedSource(spec, weights, registry).network().to(placement.device)
    if network.source_head is None:
        raise UsageError(f"{weights.name} has no classifier of its own, so it cannot teach classes")
    return _of_module(network, placement, store, name=weights.name)


def _of_learner(learner: Learner, name: str, store: FeatureStore) -> Teacher:
    if learner.fitted is None:
        raise UsageError("the teacher is not fitted yet", hint="Call its fit(train) first.")
    return Teacher(name, learner.model.backbone, learner.model.head, learner.task, learner.placement, store)


def _of_module(module: nn.Module, placement: Placement, store: FeatureStore, name: str | None = None) -> Teacher:
    if not isinstance(module, Network):
        name = name or type(module).__name__
        try:
            module = Network(module)
        except UsageError:
            module = Network(_Answering(module), head="answer")
    task = Task(module.task_kind or CLASSES, module.classes) if module.classes else None
    return Teacher(name or module.weights or repr(module), module, None, task, placement, store)


def _few(task: Task) -> str:
    return ", ".join(task.classes[:5]) + (", ..." if task.outputs > 5 else "")

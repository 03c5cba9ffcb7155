"""Who teaches: a saved run, a learner, a backbone with its own classifier, or a module."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.adapt.extract import chosen_batch, extract, filled
from zoo.adapt.features import FeatureStore, shared_store, state_hash, to_device
from zoo.adapt.group import ALONE, Group
from zoo.adapt.learner import Learner
from zoo.adapt.source import NamedSource
from zoo.adapt.space import space_facts, space_key
from zoo.catalog.names import is_path
from zoo.catalog.pickles import is_pickle, refusal
from zoo.catalog.spec import Preprocessing
from zoo.data.augment import Policy, augmented
from zoo.data.dataset import Split
from zoo.data.loading import batches
from zoo.data.preprocess import Reader
from zoo.data.task import CLASSES, REGRESSION, Task
from zoo.errors import NotFoundError, UsageError, ZooError
from zoo.models.accelerator import Placement
from zoo.models.network import Network, running_in_eval
from zoo.settings import expanded

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry


#: Most rows of one forward pass.
BATCH: Final = 32


@dataclass(frozen=True)
class Asked:
    """How a fit asks its teacher.

    Attributes:
        preprocessing: used where the teacher has none of its own.
        policy: how pictures are changed before they are seen, by teacher and student alike; None = not at all.
        seed: of the changes.
        view: epoch -> which change it sees.
        cache: every view is asked for once, and remembered; else the rows of each step when it is taken.
        group: processes that share the work of what is remembered.
        progress: called with ("teacher", done, total).
    """

    preprocessing: Preprocessing | None = None
    policy: Policy | None = None
    seed: int = 0
    view: Callable[[int], int] = int
    cache: bool = True
    group: Group = ALONE
    progress: Callable[[str, int, int], None] | None = None


class Teacher:
    """A network that knows classes.

    Args:
        name: for messages.
        network: where its features come from.
        head: features -> logits; None = its logits come from a forward pass through its own classifier.
        task: what its outputs mean; None where nobody said their names.
        placement: where it runs.
        store: where its features are kept.
        made_of: the weights that it comes from: name and licence of each.
    """

    def __init__(
        self,
        name: str,
        network: Network,
        head: nn.Module | None,
        task: Task | None,
        placement: Placement,
        store: FeatureStore,
        made_of: Sequence[dict[str, str | None]] = (),
    ) -> None:
        self.name = name
        self.made_of = list(made_of)
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

    def on(self, split: Split, task: Task, asked: Asked | None = None) -> Answers:
        """What it says of the rows of `split`."""
        asked = asked or Asked()
        if self.head is None and self.network.preprocessing is None:  # a learner's network is the caller's
            self.network.preprocessing = asked.preprocessing
        return Answers(self, split, task, asked)


class Council:
    """Several teachers."""

    def __init__(self, members: Sequence[Teacher]) -> None:
        self.members = members
        self.name = " + ".join(member.name for member in members)
        self.made_of = [one for member in members for one in member.made_of]

    def notes(self, task: Task) -> list[str]:
        """What the user should know before trusting them."""
        return [note for member in self.members for note in member.notes(task)]

    def on(self, split: Split, task: Task, asked: Asked | None = None) -> Agreed:
        """What they say of the rows of `split`."""
        return Agreed(self.name, [member.on(split, task, asked) for member in self.members], task)


class Answers:
    """A teacher's answers for the rows of one split; each kind is computed when first asked for.

    A forward pass always has the same number of rows, some of which may be empty: what is said of a row is then the
    same to the last bit (on a CPU), whether it is asked for alone, in a step, or with all others.
    """

    def __init__(self, teacher: Teacher, split: Split, task: Task, asked: Asked) -> None:
        self.teacher = teacher
        self.name = teacher.name
        self.split = split
        self.task = task
        self.asked = asked
        self._tables: dict[tuple[bool, int], Tensor] = {}

    @property
    def features(self) -> Tensor:
        """(rows, D) pooled features, as epoch 0 sees the rows."""
        return self._table(False, self.asked.view(0))

    @property
    def logits(self) -> Tensor:
        """(rows, C), columns in the order of the task's classes, as epoch 0 sees the rows.

        Raises:
            UsageError: the teacher's classes are not the task's.
        """
        return self._table(True, self.asked.view(0))

    def soft(self, index: Tensor, epoch: int, temperature: float) -> Tensor:
        """See `zoo.adapt.strategy.TeacherOutputs`."""
        return self._of(True, index, self.asked.view(epoch))

    def pooled(self, index: Tensor, epoch: int) -> Tensor:
        """See `zoo.adapt.strategy.TeacherOutputs`."""
        return self._of(False, index, self.asked.view(epoch))

    def _of(self, logits: bool, index: Tensor, view: int) -> Tensor:
        if self.asked.cache:
            return self._table(logits, view)[index]
        return self._computed(self._seen(view).subset(index.numpy()), logits, whole=False)

    def _table(self, logits: bool, view: int) -> Tensor:
        view = view if self.asked.policy else 0
        if (logits, view) not in self._tables:
            self._tables[logits, view] = self._computed(self._seen(view), logits, whole=True)
        return self._tables[logits, view]

    def _seen(self, view: int) -> Split:
        asked = self.asked
        return self.split if asked.policy is None else augmented(self.split, asked.policy, asked.seed, view)

    def _computed(self, split: Split, logits: bool, *, whole: bool) -> Tensor:
        """(N, C or D) of a split.

        Args:
            split: of the rows as they are seen.
            logits: not features.
            whole: it is a table: kept where features are, and shared among processes.
        """
        self._expect_names(logits)
        teacher, asked = self.teacher, self.asked
        keeps = whole and asked.policy is None  # what is changed has the digest of what it was
        if keeps and (not logits or teacher.head is not None):
            found = teacher.store.features(
                teacher.network, split, teacher.placement, batch_size=self._rows, keep=asked.group.leads, padded=True,
                progress=self._told(len(split)), group=asked.group,
            )  # fmt: skip
            return self._ordered(self._judged(found)) if logits else found
        group = asked.group if whole else ALONE
        total = len(split)
        mine = range(0 if group.repeats(total, whole=self._rows) else total)[group.part(total, whole=self._rows)]
        own, told = split.subset(mine), self._told(len(mine)) if whole else None
        parts: list[Tensor] = []
        for part in self._answered(own) if logits and teacher.head is None else self._read(own):
            parts.append(part)
            if told:
                told(sum(map(len, parts)), len(own))
        found = torch.cat(parts) if parts else torch.empty(0)
        found = group.gather(found, total, self._rows) if group.together else found
        if not logits:
            return found
        return self._ordered(found if teacher.head is None else self._judged(found))

    @cached_property
    def _rows(self) -> int:
        """Of every forward pass."""
        return min(BATCH, chosen_batch(self.teacher.network, self.teacher.placement))

    @cached_property
    def _key(self) -> str:
        return space_key(space_facts(self.teacher.network, self.teacher.placement))

    @cached_property
    def _reader(self) -> Reader:
        network, policy = self.teacher.network, self.asked.policy
        return network.reader(policy.seen_by(network.preprocessing) if policy else None)

    def _told(self, total: int) -> Callable[[int, int], None] | None:
        progress = self.asked.progress
        return (lambda done, total: progress("teacher", done, total)) if progress else None

    def _read(self, split: Split) -> Iterator[Tensor]:
        """Features, pass by pass."""
        teacher = self.teacher
        return extract(
            teacher.network, split, teacher.placement, batch_size=self._rows, key=self._key, read=self._reader,
            padded=True,
        )  # fmt: skip

    @torch.inference_mode()
    def _judged(self, features: Tensor) -> Tensor:
        """Logits of features."""
        teacher = self.teacher
        assert teacher.head is not None
        parts = []
        for part in features.split(self._rows):
            found = teacher.head(to_device(filled(part, self._rows), teacher.placement))
            parts.append(found[: len(part)].float().cpu())
        return torch.cat(parts)

    def _answered(self, split: Split) -> Iterator[Tensor]:
        """Logits from the teacher's own classifier, pass by pass."""
        teacher = self.teacher
        for batch in batches(split, self._reader, self._rows):
            x = to_device(filled(batch.x, self._rows), teacher.placement)
            with running_in_eval(teacher.network), torch.inference_mode(), teacher.placement.autocast():
                answer = teacher.network(x)
                if not isinstance(answer, Tensor):
                    raise self._refused(f"a {type(answer).__name__} as output, not a tensor")
                found = answer[: len(batch)].float().cpu()
            yield found

    def _expect_names(self, logits: bool) -> None:
        named = self.teacher.task
        if logits and named and (named.kind != self.task.kind or set(named.classes) != set(self.task.classes)):
            raise self._refused(f"{named.kind}: {_few(named)}")

    def _ordered(self, found: Tensor) -> Tensor:
        """Columns in the order of the task's classes."""
        if found.ndim != 2 or found.shape[1] != self.task.outputs:
            raise self._refused(f"outputs of shape {tuple(found.shape[1:])}")
        named = self.teacher.task
        order = [named.classes.index(name) for name in self.task.classes] if named else range(found.shape[1])
        return found[:, list(order)].clone()

    def _refused(self, has: str) -> UsageError:
        return UsageError(
            f"the teacher {self.name} has other classes than the data",
            why=f"It has {has}; the data has {self.task.kind}: {_few(self.task)}.",
            hint="Choose a teacher of the same classes, or match=features.",
        )


class Agreed:
    """What several teachers say together: the mean of their softened answers, and their features side by side."""

    def __init__(self, name: str, members: Sequence[Answers], task: Task) -> None:
        self.name = name
        self.members = members
        self.task = task

    @property
    def logits(self) -> Tensor:
        """(rows, C), of the mean of what they say."""
        return mean_logits([member.logits for member in self.members], 1.0, self.task)

    @property
    def features(self) -> Tensor:
        """(rows, D of all)."""
        return torch.cat([member.features for member in self.members], dim=1)

    def soft(self, index: Tensor, epoch: int, temperature: float) -> Tensor:
        """See `zoo.adapt.strategy.TeacherOutputs`."""
        found = [member.soft(index, epoch, temperature) for member in self.members]
        return mean_logits(found, temperature, self.task)

    def pooled(self, index: Tensor, epoch: int) -> Tensor:
        """See `zoo.adapt.strategy.TeacherOutputs`."""
        return torch.cat([member.pooled(index, epoch) for member in self.members], dim=1)


def mean_logits(logits: Sequence[Tensor], temperature: float, task: Task) -> Tensor:
    """Logits z so that z / T gives the mean over teachers of what their logits / T give; of numbers, their mean.

    Args:
        logits: one (N, C) for each teacher.
        temperature: T.
        task: its kind decides: softmax over classes, or a sigmoid for each label.
    """
    stacked = torch.stack(list(logits)).double()
    if task.kind == REGRESSION:
        return stacked.mean(dim=0).float()
    scaled = stacked / temperature
    if task.kind == CLASSES:
        mean = scaled.log_softmax(dim=2).logsumexp(dim=0)
    else:
        mean = F.logsigmoid(scaled).logsumexp(dim=0) - F.logsigmoid(-scaled).logsumexp(dim=0)
    return (mean * temperature).float()


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
) -> Teacher | Council:
    """Make a teacher of whatever was given as one; several of a list. No random number is drawn, so a student does not
    depend on how.

    Raises:
        UsageError: nothing was given, or the backbone has no classifier of its own.
        NotFoundError: no such run or backbone.
    """
    store = store or shared_store(registry.settings)
    with torch.random.fork_rng():  # a run or a backbone that is loaded draws values that its file then replaces
        if not isinstance(teacher, (list, tuple)):
            return _resolve(teacher, registry, placement, store)
        if not teacher:
            raise UsageError("the list of teachers is empty", hint="Name at least one.")
        return Council([_resolve(one, registry, placement, store) for one in teacher])


def describe_teacher(teacher: Any) -> Any:
    """What a record keeps of a teacher: a name or a path as text; else what it is and the sha256 of its tensors."""
    if isinstance(teacher, (list, tuple)):
        return [describe_teacher(one) for one in teacher]
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
        license = None
        if isinstance(teacher, Network) and teacher.weights:
            with suppress(ZooError):
                known = registry.resolve(teacher.weights)[1]
                license = known.license if known else None
        return _of_module(copy.deepcopy(teacher).to(placement.device), placement, store, license=license)
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
    _expect_plugin(name, registry)
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
    return _of_module(network, placement, store, name=weights.name, license=weights.license)


def _expect_plugin(name: str, registry: Registry) -> None:
    """Raise `NotFoundError` for a name like a relative path whose first part is no plugin's: a run was meant."""
    first, slash, _ = name.partition("/")
    plugins = {report.name.replace("_", "-") for report in registry.reports()}
    if slash and first.replace("_", "-") not in plugins:
        raise NotFoundError(
            f"the teacher is not there: no run at {name}",
            why=f"No folder {name} holds a run.json, and there is no plugin {first!r} whose backbone it could be.",
            hint="Give the folder of a saved run, or a backbone with weights: ARCH.TAG.",
        )


def _of_learner(learner: Learner, name: str, store: FeatureStore) -> Teacher:
    if learner.fitted is None:
        raise UsageError("the teacher is not fitted yet", hint="Call its fit(train) first.")
    weights = getattr(learner.source, "weights", None)
    made_of = [_named(weights.name, weights.license)] if weights else []
    made_of += (learner.record.get("resolved") or {}).get("taught_by", [])
    return Teacher(name, learner.model.backbone, learner.model.head, learner.task, learner.placement, store, made_of)


def _named(name: str, license: str | None) -> dict[str, str | None]:
    return {"name": name, "license": license}


def _of_module(
    module: nn.Module,
    placement: Placement,
    store: FeatureStore,
    name: str | None = None,
    license: str | None = None,
) -> Teacher:
    if not isinstance(module, Network):
        name = name or type(module).__name__
        try:
            module = Network(module)
        except UsageError:
            module = Network(_Answering(module), head="answer")
    task = Task(module.task_kind or CLASSES, module.classes) if module.classes else None
    name = name or module.weights or repr(module)
    return Teacher(name, module, None, task, placement, store, [_named(name, license)])


def _few(task: Task) -> str:
    return ", ".join(task.classes[:5]) + (", ..." if task.outputs > 5 else "")

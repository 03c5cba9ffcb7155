"""The seam between the core and a strategy.

A strategy is a frozen dataclass of hyper-parameters of one of two kinds:

- `ClosedForm` sees features and targets, never the network, and returns a head;
- `Gradient` is given a model (backbone + head) and says what is trained when, and by which loss.

The core owns the rest: features, the loop, devices, precision, checkpoints, saving, and the proof that what was to
stay frozen did.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from zoo.adapt.changes import Change, changed_features
from zoo.adapt.heads import Head, build_head, check_head
from zoo.adapt.lowrank import LowRank
from zoo.adapt.options import at_least_zero, below_one, check_types, one_of, positive
from zoo.data.augment import Policy
from zoo.data.task import CLASSES, REGRESSION, Task
from zoo.errors import UsageError
from zoo.models.accelerator import Placement
from zoo.models.network import Network
from zoo.models.stages import HEAD

__all__ = [
    "UNLABELLED",
    "Batch",
    "Change",
    "ClosedForm",
    "Context",
    "Gradient",
    "LowRank",
    "Model",
    "TeacherOutputs",
    "at_least_zero",
    "below_one",
    "check_types",
    "full_precision",
    "one_of",
    "positive",
    "probabilities",
    "task_loss",
]

#: The target of a row that has none: class index for `CLASSES`; NaN in float targets.
UNLABELLED = -1


@dataclass(frozen=True)
class Batch:
    """One batch of a gradient strategy.

    Attributes:
        x: what the backbone eats, on its device.
        y: (N,) class indices, or (N, C) floats. Rows without a label hold `UNLABELLED` (or NaN).
        index: (N,) row numbers in the training rows, on the CPU, for what is known per sample (a teacher's outputs).
        epoch: counted from 0.
        progress: part of the fit's steps that are done, in [0, 1).
        labelled_share: what a mean over the labelled rows is to be multiplied by. A batch may be computed in parts
            (`accumulate`, several processes), which count by their rows: where labels are spread unevenly over them,
            only so does their sum become the mean over the labelled rows of the whole batch. 1 for a whole one.
    """

    x: Any
    y: Tensor
    index: Tensor
    epoch: int = 0
    progress: float = 0.0
    labelled_share: float = 1.0

    @property
    def labelled(self) -> Tensor:
        """(N,) mask of the rows that have a label."""
        return has_label(self.y)


def has_label(y: Tensor) -> Tensor:
    """(N,) mask of the rows that have a label, of targets (N,) or (N, C)."""
    return y != UNLABELLED if y.ndim == 1 else ~torch.isnan(y).any(dim=1)


class TeacherOutputs(Protocol):
    """What a teacher says of every training row, in evaluation mode, by its own preprocessing."""

    #: For messages.
    name: str

    @property
    def logits(self) -> Tensor:
        """(rows, C) on the CPU, of the rows as epoch 0 sees them; columns in the order of the task's classes.

        Raises:
            UsageError: the teacher's classes are not the task's.
        """
        ...

    @property
    def features(self) -> Tensor:
        """(rows, D) pooled features on the CPU, of the rows as epoch 0 sees them."""
        ...

    def soft(self, index: Tensor, epoch: int, temperature: float) -> Tensor:
        """(N, C) logits of some rows as an epoch sees them. Softened by `temperature` they give what is to be learned,
        of several teachers the mean of what each gives; for regression, numbers.

        Raises:
            UsageError: as for `logits`.
        """
        ...

    def pooled(self, index: Tensor, epoch: int) -> Tensor:
        """(N, D) pooled features of some rows as an epoch sees them; of several teachers, side by side."""
        ...


@dataclass(frozen=True)
class Context:
    """What a strategy may know beside its model or features.

    Attributes:
        task: kind and classes of the targets.
        placement: device and precision.
        seed: of everything random.
        rows: number of training rows, those without labels included.
        targets: of the labelled training rows, as `zoo.data.task.infer_task` encodes them.
        groups: (N,) of the labelled training rows: rows of one number belong together (a speaker, a patient), so that
            a choice is made on whole groups that were left out; None where no groups are known.
        features: call it for (features (N, D) float32, targets) of the labelled training rows at the tap, from the
            feature store; costs one pass at most. `features(view)` gives those of another view of the same rows, see
            `zoo.data.views`; `features()` is view 0, the rows as they are.
        teacher: outputs per training row, where the strategy needs "teacher".
        target: call it for features (M, D) of the unlabelled target rows, for strategies that need "target".
        inputs: `inputs("train", most)` and, with a target, `inputs("target", most)` give batches of inputs on the
            device, again and again, of at most so many rows (None = all), which are chosen by their hashes.
        beside: `beside(name, head)` judges a head on the features of the reported rows, as the network is now; the
            figures stand beside the fit's own, and are told to nobody before it ends.
        source_head: the classifier that came with the weights, or None.
        pretrained: whether the backbone came with weights.
        notes: add sentences here that the user should read.
        resolved: the training loop writes here what it settled of the options left open, such as lr and epochs.
        facts: the fit writes here what its record keeps of it: `trainable_params`.
    """

    task: Task
    placement: Placement
    seed: int = 0
    rows: int = 0
    targets: np.ndarray | None = None
    groups: np.ndarray | None = None
    features: Callable[..., tuple[Tensor, np.ndarray]] | None = None
    teacher: TeacherOutputs | None = None
    target: Callable[[], Tensor] | None = None
    inputs: Callable[[str, int | None], Iterable[Any]] | None = None
    beside: Callable[[str, nn.Module], None] | None = None
    source_head: nn.Module | None = None
    pretrained: bool = False
    notes: list[str] = field(default_factory=list)
    resolved: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


class Model(nn.Module):
    """A backbone and a head: what a gradient strategy trains and what a fitted learner predicts with.

    Tensors are named `backbone.*`, `head.*` and `extras.NAME.*`.

    Attributes:
        low_rank: changes of the backbone's tensors since the source that `add` was told, by the backbone's names; a
            run saved with `embed=False` keeps them instead of the tensors.
    """

    def __init__(self, backbone: Network, head: nn.Module, extras: Mapping[str, nn.Module] | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.extras = nn.ModuleDict(extras or {})
        self.low_rank: dict[str, LowRank] = {}

    def features(self, x: Any) -> Tensor:
        """(N, D) at the backbone's tap, with the tensors that an extra module (`Change`) has instead of its own."""
        instead: dict[str, Tensor] = {}
        for extra in self.extras.values():
            if isinstance(extra, Change):
                instead |= extra.tensors(self.backbone)
        return changed_features(self.backbone, instead, x) if instead else self.backbone.features(x)

    def forward(self, x: Any) -> Tensor:
        """(N, C) outputs: logits, or numbers for regression."""
        return self.head(self.features(x))

    @torch.no_grad()
    def add(self, name: str, change: LowRank) -> None:
        """Change a tensor of the backbone, which still is the source's, and remember how."""
        tensor = self.backbone.get_parameter(name)
        tensor.copy_(change.added_to(tensor))
        self.low_rank[name] = change

    def stages(self) -> dict[str, list[str]]:
        """Parameter names by stage: the backbone's up to the tap, then "head", then one stage per extra module.

        Raises:
            UsageError: an extra module is called as a stage is.
        """
        unused = set(self.backbone.behind_tap())
        stages = {
            name: [f"backbone.{parameter}" for parameter in parameters]
            for name, parameters in self.backbone.stages().items()
            if name not in unused
        }
        stages[HEAD] = [f"head.{name}" for name, _ in self.head.named_parameters()]
        for extra, module in self.extras.items():
            if extra in stages:
                raise UsageError(f"a stage is called {extra!r} already", hint="Give the extra module another name.")
            stages[extra] = [f"extras.{extra}.{name}" for name, _ in module.named_parameters()]
        return {name: parameters for name, parameters in stages.items() if parameters}


class ClosedForm(ABC):
    """A strategy that solves for a head on features. Subclasses are frozen dataclasses.

    A `__post_init__` of their own calls this one first: it checks each option against its annotated type.
    """

    #: What it must be given; see `zoo.Strategy.needs`.
    needs: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        check_types(self)

    def prepare(self, network: Network, context: Context) -> set[str]:
        """Change the network before features are read; return the names of the tensors changed."""
        return set()

    @abstractmethod
    def solve(self, features: Tensor, targets: np.ndarray, context: Context) -> nn.Module:
        """Return a head for features (N, D) float32 and targets as `zoo.data.task.infer_task` encodes them."""

    def finish(self, network: Network, context: Context) -> set[str]:
        """Change the network once the head is solved, for the rows it will be used on; return the names as above."""
        return set()

    def rebuild(self, num_features: int, outputs: int, tensors: Mapping[str, tuple[int, ...]]) -> nn.Module:
        """Build an empty head for saved tensors (name -> shape); they are loaded into it afterwards."""
        return build_head(getattr(self, "head", "linear"), num_features, outputs)


@dataclass(frozen=True, kw_only=True)
class Gradient(ABC):
    """A strategy that trains by gradient descent.

    Args:
        epochs: passes over the data; None = enough for `min_epochs` and `min_steps`.
        batch_size: rows a step; "auto" = 32, or the largest that fits into memory where 32 do not.
        accumulate: parts that a step's batch is computed in, one after the other: the gradient is that of the whole
            batch (where BatchNorm keeps its statistics), in a part of the memory.
        lr: peak learning rate, before a stage's factor.
        weight_decay: decoupled for "adamw".
        optimizer: "adamw" or "sgd" (momentum 0.9 unless the recipe says otherwise).
        momentum: of "sgd".
        schedule: "cosine" (warm-up over the first 5 % of the steps, then down to 0) or "constant".
        clip: largest norm of the gradient; None = no clipping.
        ema: decay of an exponential moving average of the weights, which is what the fit ends with; in [0, 1). The
            decay warms up: step t uses min(ema, (1 + t) / (10 + t)). None = the last weights.
        early_stop: end when the loss on an inner split (a stratified fifth of the labelled training rows, from which
            nothing else is learned) has not fallen for so many epochs, and keep the weights of the best. None = never.
        head: "linear" or "mlp(N)"; or one of your own, a module or `head(num_features, outputs) -> nn.Module`.

    Raises:
        UsageError: an option of the wrong type or out of range. A `__post_init__` of a subclass calls this one first.
    """

    epochs: int | None = None
    batch_size: int | Literal["auto"] = 32
    lr: float = 1e-3
    weight_decay: float = 0.01
    optimizer: str = "adamw"
    momentum: float = 0.9
    schedule: str = "cosine"
    clip: float | None = 1.0
    head: Head = "linear"
    accumulate: int = 1
    ema: float | None = None
    early_stop: int | None = None

    needs: ClassVar[frozenset[str]] = frozenset()
    #: Whether the backbone learns from samples alone, so that data without labels will do: the numbers of each row are
    #: then its targets, and the reported figure says how well they can be read off its features.
    self_supervised: ClassVar[bool] = False
    #: Fewest epochs when `epochs` is None.
    min_epochs: ClassVar[int] = 10
    #: Fewest steps when `epochs` is None.
    min_steps: ClassVar[int] = 100

    def __post_init__(self) -> None:
        check_types(self)
        positive(self, "epochs", "lr", "clip", "accumulate", "early_stop")
        if self.batch_size != "auto":
            positive(self, "batch_size")
        if self.ema is not None:
            below_one(self, "ema")
        at_least_zero(self, "weight_decay")
        below_one(self, "momentum")
        one_of(self, "optimizer", "adamw", "sgd")
        one_of(self, "schedule", "cosine", "constant")
        check_head(self.head)

    def resolve(self, context: Context) -> Gradient:
        """The strategy with every option that it left open settled; it is what is trained."""
        return self

    def prepare(self, model: Model, context: Context) -> dict[str, nn.Module]:
        """Change the fresh head or give extra modules (a projection, a discriminator); each is a stage of its own."""
        return {}

    def trainable(self, epoch: int, stages: tuple[str, ...]) -> Mapping[str, float]:
        """Learning-rate factor by stage; 0 or absent = frozen in this epoch. A pure function of its arguments."""
        return dict.fromkeys(stages, 1.0)

    def least_epochs(self, stages: tuple[str, ...]) -> int:
        """Fewest epochs when `epochs` is None."""
        return self.min_epochs

    def augmentation(self) -> Policy | None:
        """How training pictures are changed, anew in each epoch; None = not at all. See `zoo.data.augment`."""
        return None

    def view(self, epoch: int) -> int:
        """Which change of the pictures an epoch sees: a number of its own for each, unless views come again."""
        return epoch

    def caches_teacher(self) -> bool:
        """Whether a teacher is asked once for each view, not in each step."""
        return True

    def keeps_front(self) -> bool:
        """Whether what stages give that no epoch trains may be computed once for each row and kept.

        `loss` then passes `batch.x` to the model and does nothing else with it: it may be what such stages gave.
        """
        return False

    def freezes_batchnorm(self, context: Context) -> bool:
        """Whether the backbone's BatchNorm layers use their statistics and keep them while training."""
        return context.pretrained

    @abstractmethod
    def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return {"loss": scalar, ...}; the other entries are shown and logged."""

    def finish(self, model: Model, context: Context) -> None:  # noqa: B027  (most strategies have nothing to finish)
        """Change the trained model once (WiSE-FT interpolation, merging LoRA factors)."""

    def rebuild(self, num_features: int, outputs: int, tensors: Mapping[str, tuple[int, ...]]) -> nn.Module:
        """Build an empty head for saved tensors (name -> shape); they are loaded into it afterwards."""
        return build_head(self.head, num_features, outputs)


def task_loss(outputs: Tensor, y: Tensor, task: Task, *, label_smoothing: float = 0.0) -> Tensor:
    """Mean loss of the task: cross-entropy, binary cross-entropy per label, or squared error; 0 where there is no row.

    Args:
        outputs: (N, C).
        y: (N,) class indices, or (N, C) floats; of a single column (N, 1) also (N,).
        label_smoothing: of the cross-entropy, in [0, 1).

    Raises:
        UsageError: outputs and targets of shapes that do not go together.
    """
    outputs = full_precision(outputs)
    classes = task.kind == CLASSES
    if not classes and y.ndim == 1 and outputs.shape == (len(y), 1):
        y = y[:, None]
    fits = outputs.ndim == 2 and (y.shape == outputs.shape or (classes and y.shape == outputs.shape[:1]))
    if not fits:
        raise UsageError(
            f"outputs of shape {tuple(outputs.shape)} and {task.kind} targets of shape {tuple(y.shape)} do not fit",
            hint=f"Give outputs (N, C) with targets {'(N,)' if classes else '(N, C)'}.",
        )
    if not len(y):
        return outputs.sum() * 0  # a mean over no row would be NaN
    if classes:
        return nn.functional.cross_entropy(outputs, y, label_smoothing=label_smoothing)
    if task.kind == REGRESSION:
        return nn.functional.mse_loss(outputs, y)
    return nn.functional.binary_cross_entropy_with_logits(outputs, y)


def full_precision(x: Tensor) -> Tensor:
    """The same in float32 where it is in half precision: a loss needs the digits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def probabilities(outputs: Tensor, task: Task) -> Tensor:
    """(N, C) probabilities of the outputs; regression outputs are returned as they are."""
    if task.kind == REGRESSION:
        return outputs
    return outputs.softmax(dim=1) if task.kind == CLASSES else outputs.sigmoid()

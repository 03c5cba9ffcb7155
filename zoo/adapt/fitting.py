"""How a learner learns: a closed form solved, or a model trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from torch import Tensor

from zoo.adapt.features import tensor_hashes, to_device
from zoo.adapt.front import Front
from zoo.adapt.heads import build_head
from zoo.adapt.inner import inner_loss
from zoo.adapt.memory import OutOfMemoryError
from zoo.adapt.randomness import RandomState
from zoo.adapt.rows import Rows
from zoo.adapt.schedule import resolve_epochs
from zoo.adapt.strategy import ClosedForm, Context, Gradient, Model
from zoo.adapt.training import train as train_model
from zoo.adapt.underway import UnderWay
from zoo.data import loading
from zoo.data.dataset import Split
from zoo.data.preprocess import Reader
from zoo.errors import TrainingError, UsageError
from zoo.models.network import Network
from zoo.models.stages import HEAD

if TYPE_CHECKING:
    from zoo.adapt.learner import Learner

#: Rows a step that batch_size="auto" tries first.
AUTO_BATCH: Final = 32
#: Called with (what, done, total) while something long runs.
Progress = Callable[[str, int, int], None]


def solve(learner: Learner, network: Network, context: Context) -> Model:
    """The head of a closed form, and the proof that it changed nothing that it did not say."""
    assert isinstance(learner.strategy, ClosedForm)
    assert context.features is not None
    before = tensor_hashes(network)
    allowed = learner.strategy.prepare(network, context)
    found, targets = context.features()
    head = learner.strategy.solve(found, targets, context)
    allowed = allowed | learner.strategy.finish(network, context)
    context.facts["trainable_params"] = sum(parameter.numel() for parameter in head.parameters())
    after = tensor_hashes(network)
    if changed := [name for name in before if before[name] != after[name] and name not in allowed]:
        raise TrainingError(f"the frozen tensor {changed[0]!r} changed while a closed form was solved")
    return Model(network, head.to(learner.placement.device))


def train(
    learner: Learner, network: Network, rows: Rows, context: Context, progress: Progress | None, run: UnderWay | None
) -> tuple[Model, list[dict[str, Any]]]:
    """Train backbone and head; where the batch size is to be found, from the start for each that does not fit."""
    strategy, group = learner.strategy, learner.group
    assert isinstance(strategy, Gradient)
    if not network.knows_width:  # one row tells it
        one = rows.train.subset([0])
        learner.store.features(network, one, learner.placement, batch_size=learner.batch_size, keep=group.leads)

    def on_resume(epochs: list[dict[str, Any]], step: int) -> None:
        context.notes.append(f"the fit went on from its checkpoint after step {step}")
        if run is not None:
            run.begin_history(epochs)

    def on_epoch(epoch: int, metrics: dict[str, Any]) -> None:
        if run is not None:
            run.add_epoch(metrics)
        if group.leads:
            learner.registry.tell("zoo_epoch_end", learner=learner, epoch=epoch, metrics=dict(metrics))

    automatic = strategy.batch_size == "auto"
    if automatic and group.together:
        raise UsageError(
            "batch_size=auto is for one process", hint="Give a number: of the rows that all processes share each step."
        )
    size = _first_size(run) if automatic else int(strategy.batch_size)
    read = network.reader()
    policy = strategy.augmentation()
    seen = network.reader(policy.seen_by(network.preprocessing)) if policy else read
    held = loading.hold(rows.inner, read) if rows.inner else None
    start, before, said = RandomState.now(), _copy(network) if automatic else {}, len(context.notes)
    while True:
        head = build_head(strategy.head, network.num_features, rows.task.outputs)
        model = Model(network, head).to(learner.placement.device)
        inner = None
        if held is not None:
            inner = inner_loss(model, loading.batches(held, read, size), rows.task, learner.placement, group)
        front, kept = None, None
        if strategy.keeps_front():
            front, kept = _front(model, strategy.resolve(context), rows, context, read, size, progress)
        if run is not None:
            run.begin_history([])
        try:
            history = train_model(
                model,
                dataclasses.replace(strategy, batch_size=size) if automatic else strategy,
                rows.epochs(seen, size, learner.seed, policy, kept, strategy.view),
                context,
                steps_per_epoch=rows.steps(size),
                on_epoch=on_epoch,
                progress=progress,
                checkpoints=run.checkpoints if run else None,
                on_resume=on_resume,
                inner=inner,
                front=front,
                group=group,
            )
            break
        except OutOfMemoryError as error:
            if not automatic or error.fits is None:
                raise
            size = error.fits
        # From the start, as if this had been asked for.
        if run is not None:
            run.checkpoints.clear()
        network.load_state_dict(before)
        start.set()
        del context.notes[said:]
    if automatic:
        context.resolved["batch_size"] = size
    context.notes.extend(run.checkpoints.skipped if run else ())
    return model, history


def _front(
    model: Model,
    strategy: Gradient,
    rows: Rows,
    context: Context,
    read: Reader,
    size: int,
    progress: Progress | None,
) -> tuple[Front | None, Split | None]:
    """The stages that no epoch trains, and what they give for each row; neither where that cannot be kept."""
    stages = tuple(model.stages())
    # One step less than there may be, because a last row may join: at least as many epochs as there will be.
    few, least = max(1, rows.steps(size) - 1), strategy.least_epochs(stages)
    epochs = resolve_epochs(strategy.epochs, least, strategy.min_steps, few)
    trained = [strategy.trainable(epoch, stages) for epoch in range(epochs)]
    first = min(stages.index(stage) for factors in trained for stage, factor in factors.items() if factor > 0)
    frozen = stages[: min(first, stages.index(HEAD))]
    if not frozen:
        return None, None
    model.to(memory_format=context.placement.memory_format)
    front = Front(model, frozen)
    kept = None
    two = next(iter(loading.batches(rows.all, read, min(2, len(rows.all)))))
    if front.fits(to_device(two.x, context.placement), context.placement):
        told = partial(progress, "frozen") if progress else None
        kept = front.keep(rows.all, read, context.placement, size, told)
    context.resolved["kept_up_to"] = frozen[-1] if kept else None
    return (front, kept) if kept else (None, None)


def _first_size(run: UnderWay | None) -> int:
    """The batch size to try first where it is to be found: the checkpoint's, else the default."""
    found = run.checkpoints.newest() if run else None
    return int(found.facts["batch_size"]) if found else AUTO_BATCH


def _copy(network: Network) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

"""What a strategy is held to, on tiny backbones with weights of the kit's making."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from zoo.adapt.features import tensor_hashes
from zoo.adapt.learner import Learner
from zoo.adapt.saved import load
from zoo.adapt.strategy import Batch, ClosedForm, Context, Gradient, Model
from zoo.catalog.spec import GRADIENT_OPTIONS
from zoo.errors import UsageError, ZooError
from zoo.models.network import Network
from zoo.testing.findings import ContractError, SkippedCheck, expect, fail, named
from zoo.testing.strategy_bench import PAIR, ROWS, StrategyBench, pairs, pictures


class _BrokenOff(Exception):  # noqa: N818  (nothing is wrong)
    """A fit was to end here."""


def declares(bench: StrategyBench) -> None:
    """The spec says what the class has: its kind, its options with their defaults, its needs."""
    spec, make = bench.spec, bench.make
    kind = "gradient" if issubclass(make, Gradient) else "closed-form"
    expect(spec.kind == kind, f"it declares kind={spec.kind!r}, and its class is a {kind} one", f'Write kind="{kind}".')
    parameters = vars(make).get("__dataclass_params__")  # its own, not those of the class it derives from
    expect(
        parameters is not None and parameters.frozen,
        f"{make.__name__} is no frozen dataclass",
        "Write @dataclass(frozen=True, kw_only=True) above it.",
    )
    fields = {one.name: _default(one) for one in dataclasses.fields(make) if one.init}
    declared = dict(spec.options)
    for name in (*fields, *declared):
        expect(
            name in declared,
            f"the option {name!r} of {make.__name__} is not declared",
            _declare(name, fields.get(name)),
        )
        expect(
            name in fields,
            f"the option {name!r} is declared, and {make.__name__} has no such field",
            "Take it out of options={...}, or add the field.",
        )
        expect(
            declared[name] == fields[name],
            f"the option {name!r} is {declared[name]!r} in the spec and {fields[name]!r} in {make.__name__}",
            "Write the same default in both.",
        )
        expect(
            not isinstance(fields[name], (list, dict, set)),
            f"the default of the option {name!r} can be changed in place, and every fit would see it",
            "Make it a tuple, or None.",
        )
    expect(
        frozenset(spec.needs) == frozenset(make.needs),
        f"the spec needs {sorted(spec.needs)}, and {make.__name__} {sorted(make.needs)}",
        f"Write needs={tuple(sorted(make.needs))!r} in the spec, and the same frozenset as ClassVar in the class.",
    )


def _declare(name: str, value: Any) -> str:
    if name in GRADIENT_OPTIONS and value == GRADIENT_OPTIONS[name]:
        return "Begin options={...} of the spec with **zoo.GRADIENT_OPTIONS: people read them there."
    return f'Add "{name}": {value!r} to options={{...}} of the spec: people read it there.'


def _default(one: dataclasses.Field[Any]) -> Any:
    if one.default is not dataclasses.MISSING:
        return one.default
    if one.default_factory is not dataclasses.MISSING:
        return one.default_factory()
    fail(f"the option {one.name!r} has no default", "Give every hyper-parameter a default.")


def learns(bench: StrategyBench) -> None:
    """Fitted on pictures it gives finite probabilities for every class, and finite losses."""
    learner = bench.fitted()
    _expect_sound(learner, pictures()[0], 3)


def _expect_sound(learner: Learner, x: Any, outputs: int) -> None:
    rows = len(x[0]) if isinstance(x, tuple) else len(x)
    found = learner.predict_proba(x)
    expect(
        found.shape == (rows, outputs) and np.isfinite(found).all(),
        f"its predictions of {rows} rows are {'not finite' if found.shape == (rows, outputs) else found.shape}",
        f"Let the head map features (N, D) to finite outputs (N, {outputs}).",
    )
    for epoch in learner.history:
        bad = [name for name, value in epoch.items() if isinstance(value, float) and not np.isfinite(value)]
        expect(not bad, f"{(bad or [''])[0]} is not finite in epoch {epoch['epoch']}", "Mend the loss.")


def head(bench: StrategyBench) -> None:
    """A closed form gives a finite head (N, D) -> (N, C), and changes neither the features nor the network."""

    def prepare(self: Any, network: Network, context: Context) -> set[str]:
        before = tensor_hashes(network)
        told = set(bench.make.prepare(self, network, context))
        changed = {name for name, value in tensor_hashes(network).items() if before.get(name) != value}
        expect(
            changed <= told,
            f"prepare changes {sorted(changed - told)[:1]} of the network, and does not say so",
            "Return the names of all tensors that prepare changes.",
        )
        return told

    def solve(self: Any, features: Tensor, targets_: np.ndarray, context: Context) -> nn.Module:
        kept, rows = features.clone(), targets_.copy()
        made = bench.make.solve(self, features, targets_, context)
        expect(
            torch.equal(kept, features) and np.array_equal(rows, targets_, equal_nan=True),
            "solve changes the features or the targets that it is given, which others use too",
            "Work on a copy: features = features.clone().",
        )
        expect(isinstance(made, nn.Module), f"solve gives {type(made).__name__}, not an nn.Module", "Return the head.")
        with torch.no_grad():
            outputs = made(kept)
        expect(
            outputs.shape == (len(kept), 3) and outputs.isfinite().all(),
            f"the head gives {tuple(outputs.shape)} for {len(kept)} rows of 3 classes, or numbers that are not finite",
            "Let the head map features (N, D) to finite outputs (N, C).",
        )
        return made

    bench.fit(bench.learner(strategy=_stand_in(bench, prepare=prepare, solve=solve)), *pictures())


def loss(bench: StrategyBench) -> None:
    """The loss is a finite scalar named "loss" with a gradient; what else it gives is finite too."""

    def checked(self: Any, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
        given = bench.make.loss(self, model, batch, context)
        expect(
            isinstance(given, Mapping) and "loss" in given,
            f"loss gives {_say(given)}, without an entry called 'loss'",
            'Return {"loss": scalar, ...}.',
        )
        for name, value in given.items():
            expect(
                isinstance(value, Tensor) and value.numel() == 1 and value.isfinite(),
                f"{name!r} of the loss is {_say(value)}, not one finite number in a tensor",
                "Return tensors of one finite number: a mean over the rows, with no root, logarithm or division of 0.",
            )
        expect(given["loss"].requires_grad, "the loss carries no gradient", "Compute it from model(batch.x).")
        return given

    bench.fit(bench.learner(strategy=_stand_in(bench, loss=checked)), *pictures())


def frozen(bench: StrategyBench) -> None:
    """Gradients only where `trainable` promises them: every other stage is bit-identical, statistics included."""
    watch = _Watch(bench)
    bench.fit(bench.learner(strategy=_stand_in(bench, loss=watch.loss, finish=watch.finish)), *pictures())
    expect(watch.epochs, "loss was never called", "Let the strategy train: epochs above 0.")
    idle = sorted(watch.promised - watch.reached)
    expect(
        not idle,
        f"trainable() promises the stage {(idle or [''])[0]!r}, and the loss gives it no gradient",
        "Leave it out of trainable(), or compute the loss from what it gives (no detach, no no_grad).",
    )
    if "freeze" in {one.name for one in dataclasses.fields(bench.make)}:
        _expect_all_frozen(bench)


def _expect_all_frozen(bench: StrategyBench) -> None:
    before = tensor_hashes(bench.learner(freeze="all").source.network())
    after = tensor_hashes(bench.fitted(freeze="all").model.backbone)
    changed = [name for name, value in before.items() if after.get(name) != value]
    expect(
        not changed,
        f"with freeze=all the backbone's {(changed or [''])[0]} is another one after the fit",
        "Let trainable() give the backbone's stages 0 then, and finish() leave them alone.",
    )


class _Watch:
    """Sees every step of a fit through the strategy's own loss."""

    def __init__(self, bench: StrategyBench) -> None:
        self.make: Any = bench.make
        self.epochs: set[int] = set()
        self.promised: set[str] = set()
        self.reached: set[str] = set()
        self._left: dict[str, Tensor] = {}

    def loss(self, strategy: Any, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
        stages = model.stages()
        live = self._live(strategy, batch.epoch, tuple(stages))
        self._expect_left(model)
        if batch.epoch not in self.epochs:
            self._expect_pure(strategy, batch.epoch, tuple(stages), live)
        self._left = self._resting(model, strategy, live, context)
        given = self.make.loss(strategy, model, batch, context)
        self._expect_left(model)
        trained = {name for stage in live for name in stages[stage]}
        parameters = dict(model.named_parameters())
        loose = [name for name, one in parameters.items() if one.requires_grad and name not in trained]
        expect(
            not loose,
            f"the loss gives {(loose or [''])[0]} a gradient, and trainable() has it frozen in epoch {batch.epoch}",
            "Leave requires_grad to the core, and name the stage in trainable().",
        )
        if batch.epoch not in self.epochs:
            asked = [name for name in trained if parameters[name].requires_grad]
            got = torch.autograd.grad(
                given["loss"], [parameters[name] for name in asked], retain_graph=True, allow_unused=True
            )
            reached = {name for name, gradient in zip(asked, got, strict=True) if gradient is not None}
            self.promised |= live
            self.reached |= {stage for stage in live if reached & set(stages[stage])}
            self.epochs.add(batch.epoch)
        return given  # type: ignore[no-any-return]

    def finish(self, strategy: Any, model: Model, context: Context) -> None:
        # What was trained once may be put back to its best state before this.
        never = {name for stage, names in model.stages().items() if stage not in self.promised for name in names}
        self._left = {name: tensor for name, tensor in self._left.items() if name in never}
        self._expect_left(model)
        self.make.finish(strategy, model, context)

    def _live(self, strategy: Any, epoch: int, stages: tuple[str, ...]) -> set[str]:
        return {stage for stage, factor in strategy.trainable(epoch, stages).items() if factor > 0}

    def _expect_pure(self, strategy: Any, epoch: int, stages: tuple[str, ...], live: set[str]) -> None:
        again = self._live(strategy, epoch, stages)
        strategy.trainable(epoch + 5, stages)
        expect(
            again == live == self._live(strategy, epoch, stages),
            f"trainable({epoch}, ...) gives something else the second time",
            "Make trainable() a pure function of its arguments: a resumed run asks again.",
        )

    def _resting(self, model: Model, strategy: Any, live: set[str], context: Context) -> dict[str, Tensor]:
        """What no step of this epoch may change, as it is now."""
        resting = {name for stage, names in model.stages().items() if stage not in live for name in names}
        backbone = model.backbone
        for name, _ in backbone.named_buffers():
            norm = isinstance(backbone.get_submodule(name.rpartition(".")[0]), nn.modules.batchnorm._NormBase)
            if backbone.stage_of(name) not in live or (norm and strategy.freezes_batchnorm(context)):
                resting.add(f"backbone.{name}")
        state = model.state_dict()
        return {name: state[name].clone() for name in sorted(resting) if name in state}

    def _expect_left(self, model: Model) -> None:
        state = model.state_dict()
        changed = [name for name, tensor in self._left.items() if not torch.equal(state[name], tensor)]
        expect(
            not changed,
            f"the frozen tensor {(changed or [''])[0]} changed while training",
            "Let the loss leave the model's tensors alone, or name their stage in trainable().",
        )


def seeded(bench: StrategyBench) -> None:
    """Two fits under one seed are the same, whatever the caller's random numbers."""
    states = random.getstate(), np.random.get_state()
    fits = []
    try:
        for other_seed in (0, 1):  # of the generators that a strategy must not use
            random.seed(other_seed)
            np.random.seed(other_seed)
            fits.append(bench.fitted().model.state_dict())
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
    one, other = fits
    differ = [name for name, tensor in one.items() if not torch.equal(tensor, other[name])]
    expect(
        not differ,
        f"two fits with one seed differ in {(differ or [''])[0]}",
        "Draw from torch's generator, or from one seeded by context.seed; not from random or numpy.random.",
    )


def resumes(bench: StrategyBench) -> None:
    """A fit that was broken off and goes on from its checkpoint ends as one that was not."""
    options: dict[str, Any] = {"epochs": 3} if "epochs" not in bench.given.options else {}
    whole = bench.fitted(**options)
    run = bench.folder / "resumed"
    try:
        bench.fit(bench.learner(**options), *pictures(), resume=run, progress=_break_off)
    except _BrokenOff:
        pass
    else:
        raise SkippedCheck("it takes a single step, and nothing can break it off")
    resumed = bench.fit(bench.learner(**options), *pictures(), resume=run)
    one, other = whole.model.state_dict(), resumed.model.state_dict()
    differ = [name for name, tensor in one.items() if name not in other or not torch.equal(tensor, other[name])]
    losses = [[epoch["loss"] for epoch in learner.history] for learner in (whole, resumed)]
    expect(
        not differ and losses[0] == losses[1],
        f"broken off after two thirds and resumed it differs from a whole fit in {(differ or ['its losses'])[0]}",
        "Keep what changes while training in modules that prepare() gives, which are checkpointed, and compute the "
        "rest from batch.epoch and batch.index.",
    )


def _break_off(what: str, done: int, steps: int) -> None:
    """In the last third of the training."""
    if what == "train" and 3 * done > 2 * steps:
        raise _BrokenOff


def kept(bench: StrategyBench) -> None:
    """A saved run loads and predicts the same."""
    learner = bench.fitted()
    x = pictures()[0]
    expected = learner.predict_proba(x)
    run = learner.save(bench.folder / f"run-{len(list(bench.folder.glob('run-*')))}")
    found = load(run, accelerator="cpu", registry=bench.registry).predict_proba(x)
    expect(
        np.allclose(found, expected, atol=1e-5),
        "a saved and loaded run predicts something else",
        "Let rebuild() give an empty head of the same form, and keep in its tensors all that it uses.",
    )


def two_tensors(bench: StrategyBench) -> None:
    """It takes a backbone that eats two tensors (token ids and a mask), or says that it cannot."""
    if "batchnorm" in bench.needs:
        _expect_refusal(bench)
        return
    x, y = pairs()
    learner = _refusable(lambda: bench.fit(bench.learner(PAIR), x, y), "a backbone of two tensors")
    _expect_sound(learner, x, 3)


def _expect_refusal(bench: StrategyBench) -> None:
    try:
        bench.fit(bench.learner(PAIR), *pairs())
    except UsageError:
        return
    fail(
        "it needs batchnorm, and took a backbone that has none",
        "Raise zoo.UsageError in prepare() where the network has no such layer.",
    )


def tasks(bench: StrategyBench) -> None:
    """Several labels, and numbers, are learned, or refused with a UsageError."""
    x, y = pictures()
    several = np.stack([y == 0, y != 1, np.arange(ROWS) % 2 == 0], axis=1).astype(np.int64)
    numbers = np.stack([y, 2.0 - y, y * 0.5], axis=1).astype(np.float64) + 0.25
    refused = []
    for what, targets_ in (("several labels", several), ("numbers", numbers)):
        try:
            learner = _refusable(partial(bench.fit, bench.learner(), x, targets_), what)
        except SkippedCheck:
            refused.append(what)
            continue
        _expect_sound(learner, x, 3)
    if len(refused) == 2:
        raise SkippedCheck("it refuses both, which is its right")


def _refusable(fit: Callable[[], Learner], what: str) -> Learner:
    try:
        return fit()
    except UsageError as error:
        raise SkippedCheck(f"it refuses {what}: {error.message}") from error
    except ContractError:
        raise
    except Exception as error:
        said = error.message if isinstance(error, ZooError) else f"{type(error).__name__}: {error}"
        raise ContractError(
            f"{what} end in {said}",
            "Use context.task (its kind and outputs) and model.features, or raise zoo.UsageError to refuse.",
        ) from error


def _stand_in(bench: StrategyBench, **methods: Callable[..., Any]) -> ClosedForm | Gradient:
    """The strategy with some methods watched."""
    functions = {name: _unbound(method) for name, method in methods.items()}
    made: Any = type(bench.make.__name__, (bench.make,), {**functions, "__module__": bench.make.__module__})
    return made(**{**bench.spec.options, **bench.options()})  # type: ignore[no-any-return]


def _unbound(method: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *arguments: method(self, *arguments)


def _say(value: Any) -> str:
    return f"{value}" if isinstance(value, (Tensor, float, int)) else f"a {type(value).__name__}"


#: Every check of a strategy.
CHECKS = named((declares, learns, head, loss, frozen, seeded, resumes, kept, two_tensors, tasks))
#: Those that are for one kind alone.
KINDS: Final = {"head": "closed-form", "loss": "gradient", "frozen": "gradient", "resumes": "gradient"}

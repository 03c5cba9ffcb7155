"""Put a backbone and a strategy together."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from torch import nn

from zoo.adapt import call
from zoo.adapt.features import FeatureStore
from zoo.adapt.learner import Learner
from zoo.adapt.options import check_names, check_types
from zoo.adapt.source import ModuleSource, NamedSource, with_files
from zoo.adapt.strategy import ClosedForm, Gradient
from zoo.catalog.names import is_path
from zoo.catalog.spec import Backbone, Preprocessing, Strategy
from zoo.catalog.targets import load
from zoo.errors import PluginError, UsageError
from zoo.models.accelerator import choose
from zoo.weights.known import identify

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry

#: A strategy that needs this starts from a random network.
RANDOM_WEIGHTS: Final = "random-weights"


def compose(
    backbone: str | Backbone | nn.Module,
    strategy: str | Strategy | ClosedForm | Gradient,
    *,
    weights: str | Path | None = "default",
    tap: str | None = None,
    accelerator: str = "auto",
    precision: str = "auto",
    seed: int = 0,
    in_chans: int = 3,
    backbone_head: str | None = None,
    preprocessing: Preprocessing | None = None,
    registry: Registry | None = None,
    store: FeatureStore | None = None,
    **options: Any,
) -> Learner:
    """Compose a backbone with a strategy. Names are resolved now; weights are pulled and loaded by `fit`.

    Args:
        backbone: a name (`arch`, `arch.tag`, `plugin/arch`), a spec, or a module of your own (a copy is used; yours
            is never changed).
        strategy: a name, a spec, or a strategy object.
        weights: "default", a tag, `arch.tag`, a path of a safetensors file, or None for random weights.
        tap: where features are read: None = the classifier's input; else a stage or a dotted module name.
        accelerator: "auto", "cpu", "cuda", "cuda:1", "mps" ...
        precision: "auto", "fp32", "bf16" or "fp16".
        seed: of everything random.
        in_chans: channels of the input; loaded weights are adapted as timm does.
        backbone_head: dotted name of the classifier in a module of your own.
        preprocessing: of a module of your own that is given raw samples.
        registry: where names are looked up; None = the default registry.
        store: where features are kept; None = the store of this process.
        options: hyper-parameters of the strategy. `head` may be a module of your own (a copy is used) or a callable
            such as `nn.Linear`, called as `head(num_features, outputs)`, where the strategy trains its head.

    Raises:
        NotFoundError: no such backbone, weights or strategy.
        UsageError: options or choices that do not fit together.
    """
    from zoo.catalog.registry import default

    if not 0 <= seed < 2**32:
        raise UsageError(f"seed {seed} is out of range", hint="Give a whole number from 0 to 4294967295.")
    registry = registry or default()
    placement = choose(accelerator, precision)
    with registry.blaming():
        spec, made = make_strategy(strategy, options, registry)
    said: str | None = None
    if isinstance(backbone, nn.Module):
        if weights != "default":
            raise UsageError("a module of your own keeps the weights it has", hint="Leave `weights` out.")
        source: Any = ModuleSource(copy.deepcopy(backbone), head=backbone_head, tap=tap, preprocessing=preprocessing)
    else:
        if RANDOM_WEIGHTS in made.needs:
            _expect_no_weights(backbone, weights, spec)
            weights = None
        found, chosen = registry.resolve(backbone, weights)
        if chosen is not None and isinstance(weights, (str, Path)) and is_path(str(weights)):
            chosen, said = identify(Path(chosen.source.removeprefix("file:")), chosen, found, registry)
        with registry.blaming(found.plugin):
            like = None if chosen else with_files(registry.default_weights(found))
            source = NamedSource(found, chosen, registry, in_chans=in_chans, tap=tap, seed=seed, like=like)
    learner = Learner(source, made, spec, placement=placement, seed=seed, registry=registry, store=store)
    learner.advice = [said] if said else []
    named = backbone.full_name if isinstance(backbone, Backbone) else backbone
    learner.call = {
        "backbone": call.word(named),
        "weights": call.weights(weights),
        "strategy": (f"{spec.plugin}/{spec.name}" if spec.plugin else spec.name) if spec else call.word(made),
        "options": {name: call.word(value) for name, value in options.items()},
        "tap": tap,
        "accelerator": accelerator,
        "precision": precision,
        "seed": seed,
        "in_chans": in_chans,
    }
    registry.tell("zoo_composed", learner=learner)
    return learner


def make_strategy(
    strategy: str | Strategy | ClosedForm | Gradient, options: dict[str, Any], registry: Registry
) -> tuple[Strategy | None, ClosedForm | Gradient]:
    """A strategy object from a name, a spec or itself, with its options applied and checked."""
    if isinstance(strategy, (ClosedForm, Gradient)):
        check_names(type(strategy), type(strategy).__name__, options)
        spec, made = None, dataclasses.replace(strategy, **options) if options else strategy  # type: ignore[type-var]
    else:
        spec = strategy if isinstance(strategy, Strategy) else registry.strategy(strategy)
        make = load(spec.make, plugin=spec.plugin)
        if not (isinstance(make, type) and dataclasses.is_dataclass(make)):
            raise PluginError(
                f"plugin {spec.plugin!r}: the strategy {spec.name!r} is made by {make!r}",
                why="It must be a dataclass that derives from zoo.adapt.strategy.ClosedForm or Gradient.",
            )
        check_names(make, spec.name, options)
        made = make(**{**spec.options, **options})  # type: ignore[assignment]
    if not isinstance(made, (ClosedForm, Gradient)):
        raise UsageError(
            f"strategy {spec.name!r} makes a {type(made).__name__}", why="It must be a ClosedForm or a Gradient."
        )
    check_types(made)  # for a class that does not hand its `__post_init__` on
    return spec, made


def _expect_no_weights(backbone: str | Backbone, weights: str | Path | None, spec: Strategy | None) -> None:
    named = isinstance(backbone, str) and "." in backbone
    if named or weights not in ("default", "none", None):
        raise UsageError(
            f"{spec.name if spec else 'this strategy'} starts from random weights, but weights were named",
            hint="Leave the weights out, or choose fine-tune.",
        )

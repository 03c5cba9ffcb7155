"""A fitted learner on disk: run.json, model.safetensors, history.jsonl, README.md. See docs/formats.md."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from zoo.adapt.absent import AbsentStrategy, LostSource, strategy_missing
from zoo.adapt.compose import make_strategy
from zoo.adapt.deltas import as_tensors, check_changes, completed, differences, low_rank_changes
from zoo.adapt.describe import describe
from zoo.adapt.evaluation import Evaluation
from zoo.adapt.heads import OWN, check_head
from zoo.adapt.hub_run import fetch_run, is_on_hub
from zoo.adapt.learned import read_learned
from zoo.adapt.learner import Fitted, Learner
from zoo.adapt.record import ASSETS, RUN, preprocessing_of, read_history, read_record
from zoo.adapt.source import ModuleSource, NamedSource
from zoo.adapt.strategy import ClosedForm, Gradient, Model
from zoo.adapt.underway import unfinished, write_history, write_record
from zoo.atomic import write_atomically
from zoo.catalog.spec import Backbone, Strategy, Weights, check_weights
from zoo.catalog.targets import load as load_target
from zoo.data.preprocess import fitted_width
from zoo.data.task import Task
from zoo.errors import DiskError, IntegrityError, NotFoundError, PluginError, UsageError, ZooError
from zoo.models.accelerator import choose
from zoo.models.build import fill_unsaved
from zoo.models.network import Network
from zoo.models.restore import fill, restore_network, without_head
from zoo.models.tensors import read_tensors, umask, write_tensors
from zoo.weights import roots
from zoo.weights.assets import read_proved
from zoo.weights.files import disk_errors
from zoo.weights.source import PICKLES
from zoo.weights.store import Store

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry

_TENSORS: Final = "model.safetensors"
_LOCAL: Final = "file:"


def save(learner: Learner, run: Path, *, embed: bool = True) -> Path:
    """Write the run into a folder beside its place, then rename it: the run is there whole or not at all.

    A run that `fit` began is ended where it is: it is done once run.json says so, which is written last.

    Raises:
        UsageError: the folder exists or cannot be one, or `embed=False` without source weights that a registry has.
        DiskError: the disk is full, or not ours to write.
    """
    from zoo.report.card import model_card

    ends = learner.run is not None and os.path.abspath(learner.run) == os.path.abspath(run)
    if not ends:
        check_place(run)
    tensors = model_tensors(learner)
    tensors = tensors | as_tensors(learner.model.low_rank) if embed else _deltas(learner, tensors)
    record = describe(learner, embed=embed)
    if ends:
        with disk_errors("write", run):
            write_tensors(run / _TENSORS, tensors)
            _write_assets(run, learner)
            write_history(run, learner.history)
            _write_learned(learner, run)
            write_atomically(run / "README.md", model_card(record).encode())
            write_record(run, record)  # last: from now on it is done
        return _noted(learner, run, embed)
    try:
        run.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".run-", dir=run.parent))
        try:
            part.chmod(0o777 & ~umask())
            write_tensors(part / _TENSORS, tensors)
            _write_assets(part, learner)
            write_history(part, learner.history)
            _write_learned(learner, part)
            write_atomically(part / "README.md", model_card(record).encode())
            write_record(part, record)
            os.rename(part, run)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        if os.path.lexists(run):
            raise _taken(run) from error
        raise DiskError(f"{run} cannot be written", why=str(error)) from error
    return _noted(learner, run, embed)


def _write_assets(run: Path, learner: Learner) -> None:
    assets = learner.model.backbone.assets
    if assets:
        (run / ASSETS).mkdir(exist_ok=True)
    for name, content in assets.items():
        write_atomically(run / ASSETS / name, content)


def read_assets(run: Path, record: Mapping[str, Any]) -> dict[str, bytes]:
    """The files that the run's network reads with, by name.

    Raises:
        IntegrityError: one is missing, or is not what run.json says.
    """
    found: dict[str, bytes] = {}
    for name, sha256 in record.get("assets", {}).items():
        path = run / ASSETS / name
        if not path.is_file():
            raise IntegrityError(f"{path} is missing", hint="The run was changed; restore it, or fit again.")
        found[name] = read_proved(path, sha256)
    return found


def _write_learned(learner: Learner, run: Path) -> None:
    if learner.fitted is not None and learner.fitted.learned is not None:
        learner.fitted.learned.write(run)


def _noted(learner: Learner, run: Path, embed: bool) -> Path:
    """A run that needs its source weights says so to those who clean the store."""
    if not embed and learner.registry is not None:
        roots.note(learner.registry.settings, [run / RUN])
    return run


def check_place(run: Path) -> None:
    """Find out whether a run can be saved at `run`, and leave nothing behind. `save` does it again.

    Raises:
        UsageError: something is there, or no folder can be of that name.
        DiskError: the folder above cannot be written.
    """
    try:
        run.lstat()
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise UsageError(f"{str(run)[:200]!r} cannot be a folder", why=str(error)[:200]) from error
    else:
        raise _taken(run)
    above = next(folder for folder in run.absolute().parents if folder.exists())
    try:
        Path(tempfile.mkdtemp(prefix=".run-", dir=above)).rmdir()
    except NotADirectoryError as error:
        raise UsageError(f"{above} is no folder", hint="Choose another place.") from error
    except OSError as error:
        raise DiskError(f"{above} cannot be written", why=str(error), hint="Choose another place.") from error


def _taken(run: Path) -> UsageError:
    hint = unfinished(run) or "Choose another folder (-o), or remove it."
    return UsageError(f"{run} exists already", hint=hint)


def load(
    run: str | Path,
    *,
    backbone: nn.Module | None = None,
    head: Callable[..., nn.Module] | None = None,
    accelerator: str = "auto",
    precision: str | None = None,
    registry: Registry | None = None,
) -> Learner:
    """Load a saved run. The source weights are neither pulled nor needed, unless it was saved with `embed=False`.

    A run whose strategy is not installed still predicts, if its head is "linear" or "mlp(N)"; it cannot learn.

    Args:
        run: the folder; or `hf://OWNER/NAME[@REVISION]`, a run that was pushed to the Hub (see `push_to_hub`).
        backbone: the module, for a run that was composed from a module of your own (a copy is filled).
        head: the head, for a run that was composed with one of your own.
        accelerator: "auto", "cpu", "cuda" ...
        precision: None = the one it was fitted in, where that is possible here.
        registry: where its plugins are looked up; None = the default registry.

    Raises:
        NotFoundError: no such run, or its plugin is not installed.
        IntegrityError: the run is damaged.
        DiskError: it cannot be read.
    """
    from zoo.catalog.registry import default

    registry = registry or default()
    run = fetch_run(str(run), registry.settings) if is_on_hub(run) else Path(run)
    record, history = read_record(run), read_history(run)
    composition = record["composition"]
    placement = choose(accelerator, precision or _possible(accelerator, record["precision"]))
    task = Task(record["task"]["kind"], tuple(record["task"]["classes"]))
    spec, strategy = _strategy(composition, registry, run, head)
    where = run / _TENSORS
    tensors = read_tensors(where)
    source = _source(composition, record, registry, backbone)
    changes = low_rank_changes(tensors, where)
    if composition["embedded"]:
        check_changes(_under("backbone.", tensors), changes, where)
    else:
        tensors = completed(tensors, _source_tensors(source, composition), changes, where)
    with registry.blaming(composition["backbone"].get("plugin")):
        network = _network(source, record, _under("backbone.", tensors), where, read_assets(run, record))
        filled = _head(strategy, composition["num_features"], task.outputs, _under("head.", tensors), where)
    if not network.knows_width:  # no batch was seen yet
        network.note_width(composition["num_features"])
    learner = Learner(source, strategy, spec, placement=placement, seed=record["seed"], registry=registry)
    learner.fitted = Fitted(
        model=Model(network, filled).to(placement.device).eval(),
        task=task,
        evaluation=Evaluation.from_json(record["metrics"]),
        history=history,
        record={
            "data": record["data"],
            "seconds": record["seconds"],
            "resolved": composition["strategy"].get("resolved", {}),
            "trainable_params": record.get("trainable_params"),
        },
        learned=read_learned(run),
    )
    learner.model.low_rank |= changes
    learner.notes = list(record["notes"])
    learner.call = dict(record.get("call", {}))
    learner.saved = record
    return learner


def model_tensors(learner: Learner) -> dict[str, Tensor]:
    """`backbone.*` without the source classifier, and `head.*`."""
    model = learner.model
    dropped = tuple(f"backbone.{name}." for name in model.backbone.head_names)
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(("extras.", *dropped))}


def _strategy(
    composition: Mapping[str, Any], registry: Registry, run: Path, own: Callable[..., nn.Module] | None
) -> tuple[Strategy | None, ClosedForm | Gradient]:
    facts, head = composition["strategy"], composition.get("head")
    options = facts["options"]
    if options.get("head") == OWN:
        # One that a name makes, such as nn.Linear's, need not be given.
        options = {**options, "head": own if own is not None else head}
        if options["head"] is None:
            raise UsageError(
                "this run was composed with a head of your own", hint="Give it: zoo.load(run, head=module or callable)."
            )
    name, plugin, version = facts["name"], facts["plugin"], facts["plugin_version"]
    try:
        if not plugin:
            raise strategy_missing(name, plugin, version)
        spec = registry.strategy(f"{plugin}/{name}")
        load_target(spec.make, plugin=spec.plugin)
    except (NotFoundError, PluginError, UsageError) as error:
        if head is None:
            raise strategy_missing(name, plugin, version) from error
        with _damage(f"{run / RUN} is damaged"):
            check_head(head)
        absent = AbsentStrategy(name, plugin, version, facts["options"], head)
        return Strategy(name, "closed-form", AbsentStrategy, plugin=plugin or ""), absent
    with _damage(f"the strategy {name} does not take the options of {run / RUN}"):
        return make_strategy(spec, options, registry)


@contextmanager
def _damage(message: str) -> Iterator[None]:
    """What a user would have done wrong, a file has: its contents are no choice of the caller's."""
    try:
        yield
    except UsageError as error:
        raise IntegrityError(message, why=str(error), hint="The run was changed, or is of other plugins.") from error


def _network(
    source: NamedSource | ModuleSource,
    record: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    where: Path,
    assets: Mapping[str, bytes],
) -> Network:
    """The backbone of the run, filled."""
    if isinstance(source, ModuleSource):
        network = source.network()
        without_head(network.module, ",".join(network.head_names))
        fill(network, tensors, where)
        network.assets = dict(assets) or network.assets
        return network
    facts, weights = record["composition"]["backbone"], _recorded(record)
    random = Weights(f"{facts['name']}.none", facts["name"], "", num_classes=facts["num_classes"])
    with _damage(f"the backbone of {where.with_name(RUN)} cannot be built"):
        network = restore_network(
            source.spec,
            tensors,
            weights=weights or dataclasses.replace(random, options=facts["options"]),
            in_chans=source.in_chans,
            tap=source.tap,
            preprocessing=preprocessing_of(record),
            where=where,
            assets=assets,
        )
        if fitted_width(network.preprocessing) is not None:
            network.reader()  # what it was fitted on is checked now, and not when somebody predicts
        return network


def _head(
    strategy: ClosedForm | Gradient, num_features: int, outputs: int, tensors: Mapping[str, Tensor], where: Path
) -> nn.Module:
    """The head, filled. It has no memory until its shapes are known to be the file's."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    try:
        with torch.device("meta"):
            head = strategy.rebuild(num_features, outputs, shapes)
    except Exception as error:
        if isinstance(error, ZooError) and not isinstance(error, UsageError):
            raise
        why = f"{type(error).__name__}: {error}"
        raise IntegrityError(f"the head in {where} cannot be rebuilt by its strategy", why=why) from error
    fill(head, tensors, where)
    fill_unsaved(head, lambda: strategy.rebuild(num_features, outputs, shapes))
    return head


def _source(
    composition: Mapping[str, Any], record: Mapping[str, Any], registry: Registry, module: nn.Module | None
) -> NamedSource | ModuleSource:
    facts = composition["backbone"]
    if "plugin" not in facts:
        if module is None:
            raise UsageError(
                f"this run was composed from a module of your own ({facts['name']})",
                hint="Give it: zoo.load(run, backbone=module).",
            )
        return ModuleSource(module, head=facts.get("head"), tap=facts["tap"], preprocessing=preprocessing_of(record))
    try:
        with _damage(f"the run's backbone {facts['name'][:80]!r} cannot be looked up"):
            spec = registry.backbone(f"{facts['plugin']}/{facts['name']}" if facts["plugin"] else facts["name"])
    except NotFoundError as error:
        error.add_note(
            f"The run was saved with plugin {facts['plugin']} {facts['plugin_version'] or ''}".rstrip() + "."
        )
        raise
    recorded = _recorded(record)
    found = _found(recorded, spec, registry) if recorded else None
    kind = LostSource if recorded and not found else NamedSource
    with _damage("the run's backbone cannot be built"):
        return kind(
            spec, found or recorded, registry, in_chans=facts["in_chans"], tap=facts["tap"], seed=record["seed"]
        )


def _recorded(record: Mapping[str, Any]) -> Weights | None:
    """The source weights as run.json tells of them; the source is empty where it was a file."""
    facts, weights = record["composition"]["backbone"], record["composition"]["weights"]
    if weights is None:
        return None
    source = weights["source"] or ""
    found = Weights(
        weights["name"],
        facts["name"],
        _LOCAL if source.startswith(_LOCAL) or not source else source,
        sha256=weights["sha256"],
        license=weights["license"],
        trained_on=weights["trained_on"],
        num_classes=facts["num_classes"],
        options=facts["options"],
        preprocessing=preprocessing_of(record),
    )
    with _damage("the run's record of its source weights is damaged"):
        check_weights(found)
    return found


def _found(recorded: Weights, spec: Backbone, registry: Registry) -> Weights | None:
    """Where the bytes of the recorded weights can be had: by their name, by their hash, or where they came from."""
    known = [one for one in registry.weights_of(spec) if one.name == recorded.name and _agree(one, recorded)]
    known = known or [one for one in registry.weights_of(spec) if recorded.sha256 and one.sha256 == recorded.sha256]
    if known:
        return dataclasses.replace(
            known[0],
            name=recorded.name,
            license=known[0].license or recorded.license,
            trained_on=known[0].trained_on or recorded.trained_on,
        )
    store = Store(registry.settings)
    if recorded.sha256 and store.has(recorded.sha256):
        return dataclasses.replace(recorded, source=f"{_LOCAL}{store.path(recorded.sha256)}")
    if recorded.source == _LOCAL:
        return None
    # The hash of what was converted is not that of the pickle it came from.
    return dataclasses.replace(recorded, sha256=None) if recorded.source.endswith(PICKLES) else recorded


def _agree(known: Weights, recorded: Weights) -> bool:
    return None in (known.sha256, recorded.sha256) or known.sha256 == recorded.sha256 or known.source.endswith(PICKLES)


def _source_tensors(source: NamedSource | ModuleSource, composition: Mapping[str, Any]) -> dict[str, Tensor]:
    weights = composition["weights"]
    if weights is None:
        raise IntegrityError("the run says that it lacks tensors, but not of which weights")
    if isinstance(source, LostSource):
        raise NotFoundError(
            f"the run stores only what differs from {weights['name']}, which no registry here has",
            why=f"Their sha256 is {weights['sha256']}.",
            hint="Register those weights, or save the run with embed=True where they are.",
        )
    network = source.network()
    if network.weights_id != weights["sha256"]:
        raise IntegrityError(
            f"{weights['name']} is not what the run was fitted on",
            why=f"sha256 {network.weights_id}, the run says {weights['sha256']}",
        )
    without_head(network.module, ",".join(network.head_names))
    return network.state_dict()


def check_deltas(learner: Learner) -> None:
    """Raise `UsageError` for a learner, fitted or not, that cannot be saved with `embed=False`."""
    source = learner.source
    if not isinstance(source, NamedSource) or source.weights is None:
        raise UsageError(
            "embed=False (--no-embed) needs source weights to differ from", hint="Save every tensor, as is the default."
        )
    name, fitted_on = source.weights.name, source.weights
    if learner.fitted is not None:
        fitted_on = dataclasses.replace(fitted_on, sha256=learner.model.backbone.weights_id)
    if not any(one.name == name and _agree(one, fitted_on) for one in learner.registry.weights_of(source.spec)):
        raise UsageError(
            f"embed=False (--no-embed) needs source weights that a registry has, and none has these {name}",
            why="Whoever loads the run has to find them by name.",
            hint="Register the file (zoo register), or save every tensor, as is the default.",
        )


def _deltas(learner: Learner, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    check_deltas(learner)
    return differences(tensors, learner.source.network().state_dict(), learner.model.low_rank)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _possible(accelerator: str, precision: str) -> str:
    """The precision of the fit; "auto" where this accelerator cannot do it."""
    try:
        choose(accelerator, precision)
    except UsageError:
        return "auto"
    return precision

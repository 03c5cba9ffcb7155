"""A fitted learner on disk: run.json, model.safetensors, history.jsonl, README.md. See docs/formats.md."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from zoo import __version__
from zoo.adapt.compose import make_strategy
from zoo.adapt.evaluation import Evaluation
from zoo.adapt.learner import Fitted, Learner
from zoo.adapt.source import ModuleSource, NamedSource
from zoo.adapt.strategy import Model
from zoo.catalog.spec import Preprocessing, Weights
from zoo.data.task import Task
from zoo.errors import IntegrityError, NotFoundError, UsageError
from zoo.models.accelerator import choose
from zoo.models.restore import fill, restore_network, without_head
from zoo.models.tensors import read_tensors, umask, write_tensors

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry

SCHEMA: Final = 1
_RUN: Final = "run.json"
_TENSORS: Final = "model.safetensors"


def save(learner: Learner, run: Path, *, embed: bool = True) -> Path:
    """Write the run into a folder beside its place, then rename it: the run is there whole or not at all.

    Raises:
        UsageError: the folder exists, or `embed=False` without source weights.
    """
    from zoo.report.card import model_card

    if run.exists():
        raise UsageError(f"{run} exists already", hint="Choose another folder, or remove it.")
    tensors = model_tensors(learner)
    if not embed:
        tensors = _deltas(learner, tensors)
    record = describe(learner, embed=embed)
    run.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{run.name}-", dir=run.parent))
    try:
        part.chmod(0o777 & ~umask())
        write_tensors(part / _TENSORS, tensors)
        _write(part / "history.jsonl", "".join(json.dumps(epoch) + "\n" for epoch in learner.history))
        _write(part / "README.md", model_card(record))
        _write(part / _RUN, json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        try:
            os.rename(part, run)
        except OSError as error:
            if run.exists():
                raise UsageError(f"{run} exists already", hint="Choose another folder, or remove it.") from error
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return run


def load(
    run: str | Path,
    *,
    backbone: nn.Module | None = None,
    accelerator: str = "auto",
    precision: str | None = None,
    registry: Registry | None = None,
) -> Learner:
    """Load a saved run. The source weights are neither pulled nor needed, unless it was saved with `embed=False`.

    Args:
        run: the folder.
        backbone: the module, for a run that was composed from a module of your own (a copy is filled).
        accelerator: "auto", "cpu", "cuda" ...
        precision: None = the one it was fitted in, where that is possible here.
        registry: where its plugins are looked up; None = the default registry.

    Raises:
        NotFoundError: no such run, or its plugin is not installed.
        IntegrityError: the run is damaged.
    """
    from zoo.catalog.registry import default

    run, registry = Path(run), registry or default()
    record = read_record(run)
    composition = record["composition"]
    placement = choose(accelerator, precision or _possible(accelerator, record["precision"]))
    task = Task(record["task"]["kind"], tuple(record["task"]["classes"]))
    spec, strategy = make_strategy(composition["strategy"]["name"], composition["strategy"]["options"], registry)
    tensors = read_tensors(run / _TENSORS)
    source = _source(composition, record, registry, backbone)
    if not composition["embedded"]:
        tensors = {**_source_tensors(source, composition), **tensors}
    where = run / _TENSORS
    inner = _under("backbone.", tensors)
    if isinstance(source, NamedSource):
        network = restore_network(
            source.spec,
            inner,
            weights=_built(composition),
            in_chans=source.in_chans,
            tap=source.tap,
            preprocessing=_preprocessing(record),
            where=where,
        )
    else:
        network = source.network()
        without_head(network.module, ",".join(network.head_names))
        fill(network, inner, where)
    heads = _under("head.", tensors)
    head = strategy.rebuild(
        composition["num_features"], task.outputs, {name: tuple(tensor.shape) for name, tensor in heads.items()}
    )
    fill(head, heads, where)
    learner = Learner(source, strategy, spec, placement=placement, seed=record["seed"], registry=registry)
    learner.fitted = Fitted(
        model=Model(network, head).to(placement.device).eval(),
        task=task,
        evaluation=Evaluation.from_json(record["metrics"]),
        history=[json.loads(line) for line in (run / "history.jsonl").read_text(encoding="utf-8").splitlines()],
        record={"data": record["data"], "seconds": record["seconds"]},
    )
    learner.notes = list(record["notes"])
    return learner


def read_record(run: Path) -> dict[str, Any]:
    """run.json of a run folder, checked for its schema.

    Raises:
        NotFoundError: there is no run.
        IntegrityError: run.json is damaged or of a newer zoo.
    """
    path = run / _RUN
    if not path.is_file():
        raise NotFoundError(f"no run at {run}", hint="A run is a folder with run.json, as `zoo fit -o` writes it.")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        schema = record["schema"]
        missing = {"composition", "task", "seed", "precision", "metrics", "data", "seconds", "notes"} - set(record)
    except (ValueError, TypeError, KeyError) as error:
        raise IntegrityError(f"{path} is damaged", why=f"{type(error).__name__}: {error}") from error
    if schema != SCHEMA:
        raise IntegrityError(f"{path} has schema {schema}, this zoo reads {SCHEMA}", hint="Use a newer zoo.")
    if missing:
        raise IntegrityError(f"{path} is damaged", why=f"It lacks {', '.join(sorted(missing))}.")
    return record


def model_tensors(learner: Learner) -> dict[str, Tensor]:
    """`backbone.*` without the source classifier, and `head.*`."""
    model = learner.model
    dropped = tuple(f"backbone.{name}." for name in model.backbone.head_names)
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(("extras.", *dropped))}


def describe(learner: Learner, *, embed: bool = True) -> dict[str, Any]:
    """What run.json holds."""
    source, network = learner.source, learner.model.backbone
    versions = {report.name: report.version for report in learner.registry.reports()}
    backbone: dict[str, Any] = {"name": source.name, "in_chans": network.in_chans, "tap": network.tap}
    weights = None
    if isinstance(source, NamedSource):
        backbone |= {
            "plugin": source.spec.plugin,
            "plugin_version": versions.get(source.spec.plugin),
            "num_classes": network.num_classes,
            "options": dict(source.weights.options) if source.weights else {},
            "params": source.spec.params,
        }
        if source.weights:
            weights = {
                "name": source.weights.name,
                "sha256": network.weights_id,
                "source": None if source.weights.source.startswith("file:") else source.weights.source,
                "license": source.weights.license,
                "trained_on": source.weights.trained_on,
            }
    options = {field.name: getattr(learner.strategy, field.name) for field in dataclasses.fields(learner.strategy)}  # type: ignore[arg-type]
    return {
        "schema": SCHEMA,
        "state": "done",
        "zoo": __version__,
        "composition": {
            "backbone": backbone,
            "weights": weights,
            "strategy": {
                "name": learner.strategy_name,
                "plugin": learner.spec.plugin if learner.spec else None,
                "plugin_version": versions.get(learner.spec.plugin) if learner.spec else None,
                "options": {name: _plain(value) for name, value in options.items()},
            },
            "num_features": network.num_features,
            "embedded": embed,
        },
        "task": {"kind": learner.task.kind, "classes": list(learner.task.classes)},
        "preprocessing": _plain(network.preprocessing) if network.preprocessing else None,
        "seed": learner.seed,
        "device": learner.placement.device.type,
        "precision": learner.placement.precision,
        "data": learner.record["data"],
        "metrics": learner.evaluation.as_json(),
        "seconds": learner.record["seconds"],
        "notes": learner.notes,
        "versions": {
            "python": ".".join(map(str, sys.version_info[:3])),
            "torch": torch.__version__,
        },
    }


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
        return ModuleSource(module, tap=facts["tap"], preprocessing=_preprocessing(record))
    try:
        spec = registry.backbone(f"{facts['plugin']}/{facts['name']}")
    except NotFoundError as error:
        error.add_note(
            f"The run was saved with plugin {facts['plugin']} {facts['plugin_version'] or ''}".rstrip() + "."
        )
        raise
    weights = None
    if composition["weights"]:
        # Only a fit on this learner again, or a run saved without its backbone, asks the registry for the source.
        name = composition["weights"]["name"]
        weights = next((known for known in registry.weights_of(spec) if known.name == name), None)
    return NamedSource(spec, weights, registry, in_chans=facts["in_chans"], tap=facts["tap"], seed=record["seed"])


def _built(composition: Mapping[str, Any]) -> Weights:
    facts = composition["backbone"]
    name = composition["weights"]["name"] if composition["weights"] else f"{facts['name']}.none"
    return Weights(name, facts["name"], "", num_classes=facts["num_classes"], options=facts["options"])


def _source_tensors(source: NamedSource | ModuleSource, composition: Mapping[str, Any]) -> dict[str, Tensor]:
    weights = composition["weights"]
    if source.weights is None:
        raise NotFoundError(
            f"the run stores only what differs from {weights['name']}, which no registry here has",
            hint="Register those weights, or save the run with embed=True where they are.",
        )
    network = source.network()
    if network.weights_id != weights["sha256"]:
        raise IntegrityError(
            f"{weights['name']} is not what the run was fitted on",
            why=f"sha256 {network.weights_id}, the run says {weights['sha256']}",
        )
    without_head(network.module, ",".join(network.head_names))
    return {f"backbone.{name}": tensor for name, tensor in network.state_dict().items()}


def _deltas(learner: Learner, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    if learner.source.weights is None:
        raise UsageError("embed=False needs source weights to differ from", hint="Save with embed=True.")
    before = learner.source.network().state_dict()
    kept = {}
    for name, tensor in tensors.items():
        source = before.get(name.removeprefix("backbone.")) if name.startswith("backbone.") else None
        if source is None or not torch.equal(source, tensor.cpu()):
            kept[name] = tensor
    return kept


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _preprocessing(record: Mapping[str, Any]) -> Preprocessing | None:
    found = record["preprocessing"]
    if found is None:
        return None
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}
    return Preprocessing(**fields)


def _possible(accelerator: str, precision: str) -> str:
    """The precision of the fit; "auto" where this accelerator cannot do it."""
    try:
        choose(accelerator, precision)
    except UsageError:
        return "auto"
    return precision


def _plain(value: Any) -> Any:
    """A JSON value; what has none is named by its text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, nn.Module):
        return type(value).__name__
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())

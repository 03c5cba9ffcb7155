"""What run.json says of a fitted learner. See docs/formats.md."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from zoo import __version__
from zoo.adapt.absent import AbsentStrategy
from zoo.adapt.heads import OWN, head_kind
from zoo.adapt.learner import Learner
from zoo.adapt.record import DONE, RUNNING, SCHEMA
from zoo.adapt.source import NamedSource
from zoo.adapt.strategy import ClosedForm, Gradient
from zoo.adapt.teacher import describe_teacher
from zoo.catalog.spec import Strategy
from zoo.catalog.targets import load
from zoo.data.fingerprint import of_bytes
from zoo.data.task import Task
from zoo.errors import PluginError
from zoo.models.network import Network

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry


def describe(learner: Learner, *, embed: bool = True) -> dict[str, Any]:
    """What run.json holds of a fit that ended."""
    network = learner.model.backbone
    record = begin(learner, network, learner.task, learner.record["data"])
    composition = record["composition"]
    composition["strategy"]["resolved"] = learner.record.get("resolved", {})
    return {
        **record,
        "state": DONE,
        "composition": {
            **composition,
            "head": head_kind(learner.model.head),
            "num_features": network.num_features,
            "embedded": embed,
        },
        "metrics": learner.evaluation.as_json(),
        "trainable_params": learner.record.get("trainable_params"),
        "seconds": learner.record["seconds"],
        "notes": learner.notes,
    }


def begin(learner: Learner, network: Network, task: Task, data: dict[str, Any]) -> dict[str, Any]:
    """What run.json holds of a fit that begins.

    Args:
        learner: its composition.
        network: as the source gave it.
        task: of the data.
        data: where they are and which rows are used (`Rows.describe`).
    """
    source = learner.source
    versions = {report.name: report.version for report in learner.registry.reports()}
    backbone: dict[str, Any] = {
        "name": source.name,
        "in_chans": network.in_chans,
        "tap": network.tap,
        "head": ",".join(network.head_names),
    }
    weights = None
    if isinstance(source, NamedSource):
        backbone |= {
            "plugin": source.spec.plugin,
            "plugin_version": versions.get(source.spec.plugin),
            "num_classes": network.num_classes,
            "options": dict(network.options),
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
    assets = {name: of_bytes(content) for name, content in sorted(network.assets.items())}
    return {
        "schema": SCHEMA,
        "state": RUNNING,
        "zoo": __version__,
        "composition": {
            "backbone": backbone,
            "weights": weights,
            "strategy": _strategy_facts(learner, versions),
        },
        "task": {"kind": task.kind, "classes": list(task.classes)},
        "preprocessing": plain(network.preprocessing) if network.preprocessing else None,
        **({"assets": assets} if assets else {}),
        "seed": learner.seed,
        "device": learner.placement.device.type,
        "precision": learner.placement.precision,
        "data": data,
        "call": learner.call,
        "threads": torch.get_num_threads(),
        "processes": learner.processes,
        "versions": {
            "python": ".".join(map(str, sys.version_info[:3])),
            "torch": torch.__version__,
        },
    }


def _strategy_facts(learner: Learner, versions: Mapping[str, str | None]) -> dict[str, Any]:
    strategy = learner.strategy
    if isinstance(strategy, AbsentStrategy):
        return {
            "name": strategy.name,
            "plugin": strategy.plugin,
            "plugin_version": strategy.plugin_version,
            "options": dict(strategy.options),
        }
    spec = learner.spec or _registered(strategy, learner.registry)
    fields = dataclasses.fields(strategy)  # type: ignore[arg-type]
    return {
        "name": spec.name if spec else type(strategy).__name__,
        "plugin": spec.plugin if spec else None,
        "plugin_version": versions.get(spec.plugin) if spec else None,
        "options": {field.name: _option(field.name, getattr(strategy, field.name)) for field in fields if field.init},
    }


def _option(name: str, value: Any) -> Any:
    if name == "head" and not isinstance(value, str):
        return OWN
    return describe_teacher(value) if name == "teacher" else plain(value)


def _registered(strategy: ClosedForm | Gradient, registry: Registry) -> Strategy | None:
    """The spec whose class a strategy object is of."""
    kind = type(strategy)
    for spec in registry.strategies():
        # Only what may be it is imported.
        if isinstance(spec.make, str) and spec.make.rpartition(":")[2].rpartition(".")[2] != kind.__name__:
            continue
        try:
            found = load(spec.make, plugin=spec.plugin)
        except PluginError:
            continue
        if found is kind:
            return spec
    return None


def plain(value: Any) -> Any:
    """A JSON value; what has none is named by its text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if isinstance(value, nn.Module):
        return type(value).__name__
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)

"""What run.json and history.jsonl hold, and the proof that they hold it. See docs/formats.md."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, Final

from zoo.adapt.evaluation import Evaluation
from zoo.catalog.pickles import is_pickle, refusal
from zoo.catalog.spec import SHA256, Preprocessing
from zoo.data.task import Task
from zoo.errors import DataError, DiskError, IntegrityError, NotFoundError
from zoo.models.accelerator import PRECISIONS
from zoo.weights.source import ASSET

SCHEMA: Final = 1
RUN: Final = "run.json"
#: The folder of files that the network reads with.
ASSETS: Final = "assets"
HISTORY: Final = "history.jsonl"
#: States of a run.
RUNNING: Final = "running"
DONE: Final = "done"

_NUMBER: Final = (int, float)
#: Keys and the types of their values. A key that ends in "?" may be absent; what is below an absent one or null is
#: not looked for.
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "state": (str,),
    "zoo": (str,),
    "composition": (dict,),
    "composition.backbone": (dict,),
    "composition.backbone.name": (str,),
    "composition.backbone.in_chans": (int,),
    "composition.backbone.tap": (str, NoneType),
    "composition.backbone.head?": (str,),
    "composition.backbone.plugin?": (str,),
    "composition.backbone.plugin_version?": (str, NoneType),
    "composition.backbone.num_classes?": (int, NoneType),
    "composition.backbone.options?": (dict,),
    "composition.backbone.params?": (int, NoneType),
    "composition.weights": (dict, NoneType),
    "composition.weights.name": (str,),
    "composition.weights.sha256": (str, NoneType),
    "composition.weights.source": (str, NoneType),
    "composition.weights.license": (str, NoneType),
    "composition.weights.trained_on": (str, NoneType),
    "composition.strategy": (dict,),
    "composition.strategy.name": (str,),
    "composition.strategy.plugin": (str, NoneType),
    "composition.strategy.plugin_version": (str, NoneType),
    "composition.strategy.options": (dict,),
    "composition.strategy.resolved?": (dict,),
    "composition.strategy.resolved.taught_by?": (list,),
    "composition.head?": (str, NoneType),
    "composition.num_features": (int,),
    "composition.embedded": (bool,),
    "task": (dict,),
    "task.kind": (str,),
    "task.classes": (list,),
    "preprocessing": (dict, NoneType),
    "preprocessing.kind": (str,),
    "preprocessing.input_size": (list,),
    "preprocessing.mean": (list,),
    "preprocessing.std": (list,),
    "preprocessing.interpolation": (str,),
    "preprocessing.crop_pct": _NUMBER,
    "preprocessing.crop_mode": (str,),
    "preprocessing.extra": (dict,),
    "assets?": (dict,),
    "seed": (int,),
    "precision": (str,),
    "data": (dict,),
    "data.name": (str,),
    "data.kind?": (str,),
    "data.fingerprint": (str,),
    "data.rows": (dict,),
    "call?": (dict,),
    "threads?": (int,),
    "processes?": (int,),
    "device?": (str,),
    "versions?": (dict,),
    "data.split_ids?": (dict,),
    "metrics": (dict,),
    "metrics.primary": (str,),
    "metrics.accuracy": (*_NUMBER, NoneType),
    "metrics.interval": (list, NoneType),
    "metrics.n": (int,),
    "metrics.split": (str,),
    "metrics.groups?": (int, NoneType),
    "metrics.interval_by?": (str,),
    "metrics.per_class?": (dict,),
    "metrics.confusion?": (list, NoneType),
    "metrics.calibration?": (dict, NoneType),
    "metrics.curves?": (dict, NoneType),
    "metrics.guard?": (dict, NoneType),
    "metrics.guard.verdict": (str,),
    "metrics.guard.gain": _NUMBER,
    "metrics.guard.interval": (list,),
    "metrics.guard.against": (str,),
    "metrics.guard.n": (int,),
    "metrics.guard.groups?": (int, NoneType),
    "metrics.guard.baselines": (list,),
    "metrics.guard.advice": (str,),
    "metrics.guard.notes": (list,),
    "metrics.guard.words": (str,),
    "metrics.beside?": (dict, NoneType),
    "trainable_params?": (int, NoneType),
    "seconds": (dict,),
    "notes": (list,),
}
#: What a list holds.
_ITEMS: Final[dict[str, tuple[type, ...]]] = {
    "task.classes": (str,),
    "composition.strategy.resolved.taught_by": (dict,),
    "preprocessing.input_size": (int,),
    "preprocessing.mean": _NUMBER,
    "preprocessing.std": _NUMBER,
    "metrics.interval": _NUMBER,
    "metrics.confusion": (list,),
    "metrics.guard.interval": _NUMBER,
    "metrics.guard.baselines": (dict,),
    "metrics.guard.notes": (str,),
    "notes": (str,),
}
#: Least and greatest value. The greatest are far above all that is real, and below what hurts.
_RANGES: Final[dict[str, tuple[float, float]]] = {
    "composition.backbone.in_chans": (1, 65_536),
    "composition.backbone.num_classes": (0, 10_000_000),
    "composition.num_features": (1, 100_000_000),
    "preprocessing.crop_pct": (0.01, 2),
    "seed": (0, 2**32 - 1),
    "metrics.n": (0, 2**63),
    "trainable_params": (0, 2**63),
}
#: Pixels of one picture: 4096 x 4096, some 1 GB while it is prepared. More is no run's, but would fill the memory.
_PIXELS: Final = 2**24
#: Numbers in one input, 1 GiB of them.
_INPUT: Final = 2**28


def read_record(run: Path) -> dict[str, Any]:
    """run.json of a run folder, every key that is used later checked for its type and range.

    Raises:
        NotFoundError: there is no run.
        IntegrityError: it is a pickle, or run.json is damaged, of a newer zoo, or of a fit that has not ended.
        DiskError: it cannot be read.
    """
    path = run / RUN
    record = read_begun(run)
    if record["state"] == RUNNING:
        raise IntegrityError(
            f"the run at {run} is not finished",
            why=f"Its state is {RUNNING!r}: it was broken off, or is under way.",
            hint=f"Go on with: zoo fit --resume -o {run}",
        )
    for key, kinds in _TYPES.items():
        _check_key(record, key, kinds, path)
    if record["state"] != DONE:
        raise IntegrityError(f"the run at {run} is not finished", why=f"Its state is {_short(record['state'])}.")
    if why := _contradiction(record):
        raise _damaged(path, why)
    return record


def read_begun(run: Path) -> dict[str, Any]:
    """run.json of a run folder, of a fit that ended or not; only its schema is checked.

    Raises:
        NotFoundError: there is no run.
        IntegrityError: run.json is damaged, or of a newer zoo.
        DiskError: it cannot be read.
    """
    path = run / RUN
    if run.is_file() and is_pickle(run.name):
        raise refusal(run)
    if not path.is_file():
        raise NotFoundError(f"no run at {run}", hint="A run is a folder with run.json, as `zoo fit -o` writes it.")
    record = _parse(_text(path), path)
    if not isinstance(record, dict) or "schema" not in record:
        raise _damaged(path, "It is no record with a schema.")
    if record["schema"] != SCHEMA:
        raise IntegrityError(f"{path} has schema {record['schema']}, this zoo reads {SCHEMA}", hint="Use a newer zoo.")
    _check_key(record, "state", _TYPES["state"], path)
    return record


def read_history(run: Path) -> list[dict[str, Any]]:
    """history.jsonl of a run folder, one dict per epoch.

    Raises:
        IntegrityError: it is missing or damaged.
        DiskError: it cannot be read.
    """
    path = run / HISTORY
    if not path.is_file():
        raise IntegrityError(f"{path} is missing", hint="The run was changed; restore it, or fit again.")
    epochs = [_parse(line, path) for line in _text(path).splitlines()]
    if not all(isinstance(epoch, dict) for epoch in epochs):
        raise _damaged(path, "A line is no object.")
    return epochs


def taught_by(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Name and licence of the weights that the fit's teachers were made of."""
    return list(record["composition"]["strategy"].get("resolved", {}).get("taught_by", []))


def preprocessing_of(record: Mapping[str, Any]) -> Preprocessing | None:
    """How the run's raw samples become its input."""
    found = record["preprocessing"]
    if found is None:
        return None
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}
    return Preprocessing(**fields)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _damaged(path, str(error)) from error
    except OSError as error:
        raise DiskError(f"{path} cannot be read", why=str(error)) from error


def _parse(text: str, path: Path) -> Any:
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def _check_key(record: Mapping[str, Any], key: str, kinds: tuple[type, ...], path: Path) -> None:
    key, optional = key.removesuffix("?"), key.endswith("?")
    *parents, last = key.split(".")
    holder: Any = record
    for parent in parents:
        holder = holder.get(parent)
    if holder is None:
        return
    if last not in holder:
        if optional:
            return
        raise _damaged(path, f"It lacks {key}.")
    value = holder[last]
    if not _is(value, kinds):
        raise _damaged(path, f"{key} is {_short(value)}, not {_say(kinds)}.")
    if key in _ITEMS and isinstance(value, list) and not all(_is(item, _ITEMS[key]) for item in value):
        raise _damaged(path, f"{key} holds something else than {_say(_ITEMS[key])}.")
    if key in _RANGES and value is not None and not _RANGES[key][0] <= value <= _RANGES[key][1]:
        raise _damaged(path, f"{key} is {_short(value)}, out of range.")


def _contradiction(record: Mapping[str, Any]) -> str | None:
    """What is wrong with values that have the right type."""
    backbone, weights = record["composition"]["backbone"], record["composition"]["weights"]
    preprocessing = record["preprocessing"]
    if "plugin" in backbone and not {"plugin_version", "num_classes", "options"} <= set(backbone):
        return "composition.backbone lacks how it was built."
    if weights and "plugin" not in backbone:
        return "composition.weights goes with a backbone of a plugin."
    for one in taught_by(record):
        if not isinstance(one.get("name"), str) or not isinstance(one.get("license"), (str, NoneType)):
            return "composition.strategy.resolved.taught_by holds something else than names and licences."
    if record["precision"] not in PRECISIONS:
        return f"precision is {_short(record['precision'])}, not one of {', '.join(PRECISIONS)}."
    if weights and weights["sha256"] is not None and not SHA256.fullmatch(weights["sha256"]):
        return "composition.weights.sha256 is no sha256."
    for name, sha256 in record.get("assets", {}).items():
        if not ASSET.fullmatch(name) or not isinstance(sha256, str) or not SHA256.fullmatch(sha256):
            return "assets holds something else than names of files and their sha256."
    if preprocessing is not None:
        if unknown := sorted(set(preprocessing) - set(Preprocessing.__dataclass_fields__)):
            return f"preprocessing has the unknown key {_short(unknown[0])}."
        size = preprocessing["input_size"]
        huge = preprocessing["kind"] == "image" and math.prod(size[1:]) > _PIXELS
        if not all(side > 0 for side in size) or math.prod(size) > _INPUT or huge:
            return f"preprocessing.input_size is {_short(size)}, out of range."
    try:
        task = Task(record["task"]["kind"], tuple(record["task"]["classes"]))
        metrics = Evaluation.from_json(record["metrics"])
        str(metrics)  # it formats every figure
        return _misfit(metrics, task)
    except (DataError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        return f"task or metrics: {type(error).__name__}: {error}"


def _misfit(metrics: Evaluation, task: Task) -> str | None:
    """What of the metrics is no figure, or not of these classes."""
    figures = [value for one in metrics.per_class.values() for value in one.values()]
    guard = metrics.guard or {"interval": (0, 0), "baselines": ()}
    ends = [guard["interval"]]
    for one in guard["baselines"]:
        if not isinstance(one["name"], str):
            return "metrics.guard has a baseline without a name."
        figures += [one["accuracy"], float(one["gain"]), float(one["p_value"])]
        ends.append(one["gain_interval"])
    if not all(_is(value, (*_NUMBER, NoneType)) for value in [*figures, *(end for pair in ends for end in pair)]):
        return "metrics holds something else than numbers."
    if any(len(pair) != 2 or None in pair for pair in ends):
        return "metrics.guard has an interval that is none."
    size = task.outputs
    if (matrix := metrics.confusion) is not None and not (
        len(matrix) == size and all(len(row) == size and all(_is(cell, (int,)) for cell in row) for row in matrix)
    ):
        return "metrics.confusion is no matrix of these classes."
    return None


def _is(value: Any, kinds: tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


def _say(kinds: tuple[type, ...]) -> str:
    return " or ".join("null" if kind is NoneType else kind.__name__ for kind in kinds)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _damaged(path: Path, why: str) -> IntegrityError:
    return IntegrityError(f"{path} is damaged", why=why)

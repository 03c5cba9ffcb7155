"""The command that makes a run again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from zoo.adapt.call import objects

#: Key of a record's call -> option that gives it.
_OPTIONS = {
    "tap": "--tap",
    "val": "--val",
    "target": "--target",
    "labels_per_class": "--labels-per-class",
    "batch_size": "--batch-size",
    "label": "--label",
    "group_by": "--group-by",
}
_FLAGS = {"ignore_target_labels": "--ignore-target-labels", "skip_bad": "--skip-bad", "guard": "--guard"}


def command(record: Mapping[str, Any]) -> str | None:
    """The command line that fits as `record` (run.json) says; None where something was given that has no name.

    What was left to be chosen then ("auto") is left to be chosen again; seed and precision are said.
    """
    call = record.get("call") or {}
    options = call.get("options") or {}
    named = all(isinstance(call.get(key), str) for key in ("data", "backbone", "strategy"))
    if not named or not isinstance(options, Mapping) or objects(call) or objects(options):
        return None
    parts = ["zoo"]
    for name, option in (("registry", "--registry"), ("plugins_dir", "--plugins-dir")):
        parts += [option, call[name]] if call.get(name) else []
    parts += ["fit", call["data"], "-b", call["backbone"], "-s", call["strategy"].rpartition("/")[2]]
    if call.get("weights") != "default":
        parts += ["-w", call.get("weights") or "none"]
    for key, value in options.items():
        parts += ["--set", f"{key}={_plain(value)}"]
    for key, option in _OPTIONS.items():
        parts += [option, str(call[key])] if call.get(key) is not None else []
    parts += [flag for key, flag in _FLAGS.items() if call.get(key)]
    if call.get("in_chans", 3) != 3:
        parts += ["--in-chans", str(call["in_chans"])]
    if call.get("accelerator", "auto") != "auto":
        parts += ["--device", call["accelerator"]]
    if (record.get("processes") or 1) > 1:
        parts += ["--processes", str(record["processes"])]
    parts += ["--seed", str(record["seed"]), "--precision", record["precision"]]
    return shlex.join(map(str, parts))


def _plain(value: Any) -> str:
    """What `--set` reads back as the value: JSON, or text that is no JSON."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value)

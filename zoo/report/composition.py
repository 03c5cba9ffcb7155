"""What a run is made of and how it is made again, as names and values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from zoo.catalog import licenses
from zoo.report.page import facts
from zoo.report.tables import short


def composition(record: Mapping[str, Any]) -> Mapping[str, str]:
    """What the run is made of, and under which terms."""
    composition, data = record["composition"], record["data"]
    backbone, weights, strategy = composition["backbone"], composition["weights"], composition["strategy"]
    params, trained = backbone.get("params"), record.get("trainable_params")
    return facts(
        ("backbone", _by(backbone["name"], backbone)),
        ("parameters", f"{params:,}" if params else None),
        ("trained parameters", f"{trained:,}" if trained else None),
        ("weights", weights["name"] if weights else "random"),
        ("sha256 of the weights", weights and weights["sha256"]),
        ("source of the weights", weights and weights["source"]),
        ("trained on", weights and weights["trained_on"]),
        ("licence of the weights", (weights["license"] or "not stated") if weights else None),
        ("strategy", _by(strategy["name"], strategy)),
        ("options", ", ".join(f"{name}={json.dumps(value)}" for name, value in strategy["options"].items())),
        ("head", composition.get("head")),
        ("tap", backbone["tap"] or "the input of the classifier"),
        ("features", f"{composition['num_features']:,}"),
        ("preprocessing", _preprocessing(record["preprocessing"])),
        ("licence of the data", f"not known to zoo: find out whose {data['name']} is before you share the model"),
        ("zoo", "Apache-2.0"),
    )


def _by(name: str, part: Mapping[str, Any]) -> str:
    if not part.get("plugin"):
        return name
    return f"{name} (plugin {part['plugin']}{' ' + part['plugin_version'] if part.get('plugin_version') else ''})"


def _preprocessing(found: Mapping[str, Any] | None) -> str | None:
    if found is None:
        return None
    if found["kind"] != "image":
        return str(found["kind"])
    size = "x".join(map(str, found["input_size"]))
    crop = f"crop {found['crop_pct']:g} ({found['crop_mode']})"
    return f"{size}, {found['interpolation']}, {crop}, mean {found['mean']}, std {found['std']}"


def licence_warning(weights: Mapping[str, Any] | None) -> str | None:
    """A sentence on terms that forbid something or are not known."""
    said = licenses.warning(weights["license"]) if weights else None
    return f"Weights {weights['name']}: {said}." if weights and said else None


def reproduction(record: Mapping[str, Any]) -> Mapping[str, str]:
    """What has to be the same to get the same run."""
    data, versions = record["data"], record.get("versions") or {}
    return facts(
        ("seed", record["seed"]),
        ("device, precision", f"{record.get('device')}, {record['precision']}, {record.get('threads')} threads"),
        ("processes", record.get("processes")),
        ("versions", f"zoo {record['zoo']}, torch {versions.get('torch')}, Python {versions.get('python')}"),
        ("data", data["name"]),
        ("fingerprint", data["fingerprint"]),
        ("rows", ", ".join(f"{name} {n}" for name, n in data["rows"].items() if n)),
        *((f"rows of {name}", id) for name, id in data.get("split_ids", {}).items()),
        ("seconds", ", ".join(f"{name} {short(spent)}" for name, spent in record["seconds"].items())),
        ("same bits", "on the same machine, with the same seed, threads and versions; else the last digits differ"),
    )

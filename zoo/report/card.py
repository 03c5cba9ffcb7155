"""The model card of a saved run: README.md with the front matter that model hubs read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from zoo.adapt.record import taught_by
from zoo.catalog import licenses
from zoo.catalog.tables import counted

#: Said where nobody states the licence of the source weights.
UNSTATED: Final = "not stated: find out before you share this model"
#: Said of what a record may lack.
_NOWHERE: Final = "not recorded"
_REPO: Final = re.compile(r"hf://([^/@]+/[^/@]+)")
#: Kinds of samples that tell more than what the network takes.
_HEARD_OR_READ: Final = ("audio", "text", "table")
#: Kind of samples, kind of task -> the Hub's name.
_TASKS: Final = {
    ("image", "classes"): "image-classification",
    ("audio", "classes"): "audio-classification",
    ("text", "classes"): "text-classification",
    ("table", "classes"): "tabular-classification",
    ("table", "regression"): "tabular-regression",
}
#: Kind of samples -> what is predicted in Python, and in a shell.
_GIVEN: Final = {
    "image": ('["picture.jpg"]', "picture.jpg"),
    "audio": ('["recording.wav"]', "recording.wav"),
    "text": ('["A text."]', "text.txt"),
    "table": ('"rows.csv"', "rows.csv"),
}
#: What would begin a link, emphasis, code or another cell.
_MARKUP: Final = re.compile(r"[|`*\[\]]")


def model_card(record: Mapping[str, Any], repo: str | None = None) -> str:
    """Markdown for the run that `record` (the content of run.json) describes.

    Args:
        repo: the Hub's repository that it will lie in; None = a folder.
    """
    composition, metrics, data = record["composition"], record["metrics"], record["data"]
    backbone, weights, strategy = composition["backbone"], composition["weights"], composition["strategy"]
    source = _cell(weights["name"] if weights else f"{backbone['name']} (random weights)")
    name, method = _cell(backbone["name"]), _cell(strategy["name"])
    licence, teachers = weights["license"] if weights else None, taught_by(record)
    stated = licenses.joint([licence, *(one["license"] for one in teachers)])
    versions = record.get("versions", {})
    lines = [
        "---",
        "library_name: transfer-zoo",
        *(_licence(stated) if weights or teachers else []),
        *_pipeline(record),
        "tags:",
        "- transfer-learning",
        f"- {_quoted(strategy['name'])}",
        *_base_model(weights),
        *_results(record),
        "---",
        "",
        f"# {name} + {method} on {_cell(data['name'])}",
        "",
        f"{source}, adapted with **{method}** to {_task(record['task'])}.",
        "",
        "## How good it is",
        "",
        f"{_headline(metrics)} These rows chose nothing: no epoch, no regulariser, no checkpoint.",
        "",
        *_beside(metrics),
        *_guard(metrics),
        *_per_class(metrics),
        "## What it is made of",
        "",
        "| part | what |",
        "|---|---|",
        f"| backbone | {name}" + _plugin(backbone) + " |",
        f"| weights | {source}" + (f", sha256 {_code(weights['sha256'])}" if weights else "") + " |",
        *([f"| trained on | {_cell(weights['trained_on'])} |"] if weights and weights["trained_on"] else []),
        *([f"| licence of the weights | {_cell(licence or UNSTATED)} |"] if weights else []),
        *(f"| taught by | {_cell(one['name'])}, licence {_cell(one['license'] or UNSTATED)} |" for one in teachers),
        f"| strategy | {method}" + _plugin(strategy) + f": {_code(json.dumps(strategy['options']))} |",
        *_trained(record),
        f"| tap | {_cell(backbone['tap'] or 'the input of the classifier')} |",
        f"| data | {_cell(data['name'])}, fingerprint {_code(data['fingerprint'])}, rows {_rows(data['rows'])} |",
        f"| seed, device, precision | {record['seed']}, {_stated(record, 'device')}, {record['precision']} |",
        f"| versions | zoo {_cell(record['zoo'])}, torch {_stated(versions, 'torch')},"
        f" Python {_stated(versions, 'python')} |",
        "",
        *_notes([*record["notes"], *teachers_warnings(record)]),
        *_use(record, repo),
    ]
    return "\n".join(lines)


def teachers_warnings(record: Mapping[str, Any]) -> list[str]:
    """What the licences of the weights that taught say to those who use the student."""
    said = [(one["name"], licenses.warning(one["license"])) for one in taught_by(record)]
    return [f"taught by {name}: {warning}" for name, warning in said if warning]


def _licence(licence: str | None) -> list[str]:
    """That of the source weights. What the Hub has no name for is `other` there, with the name beside it."""
    if licence is None:
        return ["license: unknown"]
    if licence.casefold() in licenses.HUB:
        return [f"license: {_quoted(licence.casefold())}"]
    return ["license: other", f"license_name: {_quoted(licence)}"]


def _kind(record: Mapping[str, Any]) -> str | None:
    """Of the samples. A network of pictures may have heard recordings."""
    own = record["data"].get("kind")
    return own if own in _HEARD_OR_READ else (record["preprocessing"] or {}).get("kind")


def _pipeline(record: Mapping[str, Any]) -> list[str]:
    """What the Hub calls the task, where it has a name for it."""
    name = _hub_task(record)
    return [f"pipeline_tag: {name}"] if name else []


def _hub_task(record: Mapping[str, Any]) -> str | None:
    return _TASKS.get((_kind(record) or "", record["task"]["kind"]))


def _base_model(weights: Mapping[str, Any] | None) -> list[str]:
    """The source weights' repository: the Hub knows models by no other name."""
    found = _REPO.match((weights or {}).get("source") or "")
    return [f"base_model: {_quoted(found[1])}"] if found else []


def _results(record: Mapping[str, Any]) -> list[str]:
    """The reported figure, as the Hub's tables of results read it."""
    metrics, data = record["metrics"], _quoted(record["data"]["name"])
    kind = _hub_task(record) or record["task"]["kind"]
    backbone, strategy = (record["composition"][part]["name"] for part in ("backbone", "strategy"))
    return [
        "metrics:",
        f"- {metrics['primary']}",
        "model-index:",
        f"- name: {_quoted(f'{backbone} + {strategy}')}",
        "  results:",
        f"  - task: {{type: {kind}}}",
        f"    dataset: {{type: {data}, name: {data}, split: {_quoted(metrics['split'])}}}",
        f"    metrics: [{{type: {metrics['primary']}, value: {metrics[metrics['primary']]:.6g}}}]",
    ]


def _use(record: Mapping[str, Any], repo: str | None) -> list[str]:
    place = "PATH/OF/THIS/FOLDER" if repo is None else f"hf://{repo}"
    given, file = _GIVEN.get(_kind(record) or "", _GIVEN["image"])
    return [
        "## Use it",
        "",
        "```python",
        "import zoo",
        "",
        f'learner = zoo.load("{place}")',
        f"learner.predict({given})",
        "```",
        "",
        f"The same from a shell: `zoo predict {place} {file}`.",
        "",
    ]


def _task(task: Mapping[str, Any]) -> str:
    names = ", ".join(map(_cell, task["classes"][:12])) + (" ..." if len(task["classes"]) > 12 else "")
    what = {"classes": "tell apart", "multi-label": "mark", "regression": "predict"}[task["kind"]]
    return f"{what} {len(task['classes'])}: {names}"


def _stated(facts: Mapping[str, Any], name: str) -> str:
    return _cell(facts.get(name, _NOWHERE))


def _headline(metrics: Mapping[str, Any]) -> str:
    name = metrics["primary"]
    text = f"{name} {metrics[name]:.4f}"
    if interval := metrics.get("interval"):
        text += f" (95 % interval {interval[0]:.4f} to {interval[1]:.4f})"
    groups = f" ({counted(metrics['groups'], 'group')})" if metrics.get("groups") else ""
    return f"{text} on {metrics['n']} rows{groups} of {_code(metrics['split'])}."


def _beside(metrics: Mapping[str, Any]) -> list[str]:
    lines = [f"- {_cell(name)}: {_headline(figures)}" for name, figures in (metrics.get("beside") or {}).items()]
    return ["Beside it:", "", *lines, ""] if lines else []


def _guard(metrics: Mapping[str, Any]) -> list[str]:
    """The verdict of a comparison with baselines that borrow nothing, where one was made."""
    found = metrics.get("guard")
    if not found:
        return []
    low, high = found["interval"]
    rows = f"{found['n']} rows" + (f" of {counted(found['groups'], 'group')}" if found.get("groups") else "")
    return [
        f"Does the transfer help? **{_cell(found['verdict'])}**: {found['gain']:+.3f} ({low:+.3f} to {high:+.3f}) "
        f"against {_cell(found['against'])}, on {rows}.",
        "",
    ]


def _trained(record: Mapping[str, Any]) -> list[str]:
    count = record.get("trainable_params")
    return [] if count is None else [f"| parameters trained, head included | {count:,} |"]


def _per_class(metrics: Mapping[str, Any]) -> list[str]:
    rows = metrics.get("per_class")
    if not rows:
        return []
    figures = list(next(iter(rows.values())))
    table = [f"| | {' | '.join(map(_cell, figures))} |", "|---" * (len(figures) + 1) + "|"]
    table += [f"| {_cell(name)} | {' | '.join(_number(row[key]) for key in figures)} |" for name, row in rows.items()]
    return [*table, ""]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def _cell(text: str) -> str:
    """Text that is neither markup nor the end of a cell or a line."""
    plain = " ".join(str(text).split()).replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;")
    return _MARKUP.sub(r"\\\g<0>", plain)


def _code(text: object) -> str:
    """The same as a code span: backticks, bars and lines' ends would end it."""
    return "`" + " ".join(str(text).split()).replace("`", "'").replace("|", "\\|") + "`"


def _quoted(text: str) -> str:
    """A YAML string."""
    return json.dumps(text, ensure_ascii=False)  # JSON's escapes of what is beyond 16 bits are none of YAML's


def _plugin(part: Mapping[str, Any]) -> str:
    if not part.get("plugin"):
        return ""
    version = f" {part['plugin_version']}" if part.get("plugin_version") else ""
    return " (" + _cell(f"plugin {part['plugin']}{version}") + ")"


def _rows(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{_cell(name)} {count}" for name, count in rows.items() if count)


def _notes(notes: list[str]) -> list[str]:
    return ["## Notes", "", *(f"- {_cell(note)}" for note in notes), ""] if notes else []

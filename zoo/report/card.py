"""The model card of a saved run: README.md with the front matter that model hubs read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

#: What would begin a link, emphasis, code or another cell.
_MARKUP: Final = re.compile(r"[|`*\[\]]")


def model_card(record: Mapping[str, Any]) -> str:
    """Markdown for the run that `record` (the content of run.json) describes."""
    composition, metrics, data = record["composition"], record["metrics"], record["data"]
    backbone, weights, strategy = composition["backbone"], composition["weights"], composition["strategy"]
    source = _cell(weights["name"] if weights else f"{backbone['name']} (random weights)")
    name, method = _cell(backbone["name"]), _cell(strategy["name"])
    licence = weights["license"] if weights else None
    lines = [
        "---",
        "library_name: transfer-zoo",
        f"license: {_quoted(licence or 'other')}",
        "tags:",
        "- transfer-learning",
        f"- {_quoted(strategy['name'])}",
        *([f"base_model: {_quoted(weights['name'])}"] if weights else []),
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
        *_per_class(metrics),
        "## What it is made of",
        "",
        "| part | what |",
        "|---|---|",
        f"| backbone | {name}" + _plugin(backbone) + " |",
        f"| weights | {source}" + (f", sha256 {_code(weights['sha256'])}" if weights else "") + " |",
        *([f"| trained on | {_cell(weights['trained_on'])} |"] if weights and weights["trained_on"] else []),
        f"| licence of the weights | {_cell(licence or 'not stated: find out before you share this model')} |",
        f"| strategy | {method}" + _plugin(strategy) + f": {_code(json.dumps(strategy['options']))} |",
        f"| tap | {_cell(backbone['tap'] or 'the input of the classifier')} |",
        f"| data | {_cell(data['name'])}, fingerprint {_code(data['fingerprint'])}, rows {_rows(data['rows'])} |",
        f"| seed, device, precision | {record['seed']}, {record['device']}, {record['precision']} |",
        "| versions | zoo {}, torch {torch}, Python {python} |".format(record["zoo"], **record["versions"]),
        "",
        *_notes(record["notes"]),
        "## Use it",
        "",
        "```python",
        "import zoo",
        "",
        'learner = zoo.load("PATH/OF/THIS/FOLDER")',
        'learner.predict(["picture.jpg"])',
        "```",
        "",
        "The same from a shell: `zoo predict PATH/OF/THIS/FOLDER picture.jpg`.",
        "",
    ]
    return "\n".join(lines)


def _task(task: Mapping[str, Any]) -> str:
    names = ", ".join(map(_cell, task["classes"][:12])) + (" ..." if len(task["classes"]) > 12 else "")
    what = {"classes": "tell apart", "multi-label": "mark", "regression": "predict"}[task["kind"]]
    return f"{what} {len(task['classes'])}: {names}"


def _headline(metrics: Mapping[str, Any]) -> str:
    name = metrics["primary"]
    text = f"{name} {metrics[name]:.4f}"
    if interval := metrics.get("interval"):
        text += f" (95 % interval {interval[0]:.4f} to {interval[1]:.4f})"
    return f"{text} on {metrics['n']} rows of {_code(metrics['split'])}."


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
    return json.dumps(text)


def _plugin(part: Mapping[str, Any]) -> str:
    if not part.get("plugin"):
        return ""
    version = f" {part['plugin_version']}" if part.get("plugin_version") else ""
    return " (" + _cell(f"plugin {part['plugin']}{version}") + ")"


def _rows(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{_cell(name)} {count}" for name, count in rows.items() if count)


def _notes(notes: list[str]) -> list[str]:
    return ["## Notes", "", *(f"- {_cell(note)}" for note in notes), ""] if notes else []

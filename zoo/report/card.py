"""The model card of a saved run: README.md with the front matter that model hubs read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def model_card(record: Mapping[str, Any]) -> str:
    """Markdown for the run that `record` (the content of run.json) describes."""
    composition, metrics, data = record["composition"], record["metrics"], record["data"]
    backbone, weights, strategy = composition["backbone"], composition["weights"], composition["strategy"]
    source = weights["name"] if weights else f"{backbone['name']} (random weights)"
    licence = weights["license"] if weights else None
    lines = [
        "---",
        "library_name: transfer-zoo",
        f"license: {licence or 'other'}",
        "tags:",
        "- transfer-learning",
        f"- {strategy['name']}",
        *([f"base_model: {json.dumps(weights['name'])}"] if weights else []),
        "---",
        "",
        f"# {backbone['name']} + {strategy['name']} on {data['name']}",
        "",
        f"{source}, adapted with **{strategy['name']}** to {_task(record['task'])}.",
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
        f"| backbone | {backbone['name']}" + _plugin(backbone) + " |",
        f"| weights | {source}" + (f", sha256 `{weights['sha256']}`" if weights else "") + " |",
        *([f"| trained on | {weights['trained_on']} |"] if weights and weights["trained_on"] else []),
        f"| licence of the weights | {licence or 'not stated: find out before you share this model'} |",
        f"| strategy | {strategy['name']}" + _plugin(strategy) + f": `{json.dumps(strategy['options'])}` |",
        f"| tap | {backbone['tap'] or 'the input of the classifier'} |",
        f"| data | {data['name']}, fingerprint `{data['fingerprint']}`, rows {_rows(data['rows'])} |",
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
    names = ", ".join(task["classes"][:12]) + (" ..." if len(task["classes"]) > 12 else "")
    what = {"classes": "tell apart", "multi-label": "mark", "regression": "predict"}[task["kind"]]
    return f"{what} {len(task['classes'])}: {names}"


def _headline(metrics: Mapping[str, Any]) -> str:
    name = metrics["primary"]
    text = f"{name} {metrics[name]:.4f}"
    if interval := metrics.get("interval"):
        text += f" (95 % interval {interval[0]:.4f} to {interval[1]:.4f})"
    return f"{text} on {metrics['n']} rows of `{metrics['split']}`."


def _per_class(metrics: Mapping[str, Any]) -> list[str]:
    rows = metrics.get("per_class")
    if not rows:
        return []
    figures = list(next(iter(rows.values())))
    table = [f"| | {' | '.join(figures)} |", "|---" * (len(figures) + 1) + "|"]
    table += [f"| {_cell(name)} | {' | '.join(_number(row[key]) for key in figures)} |" for name, row in rows.items()]
    return [*table, ""]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _plugin(part: Mapping[str, Any]) -> str:
    if not part.get("plugin"):
        return ""
    version = f" {part['plugin_version']}" if part.get("plugin_version") else ""
    return f" (plugin {part['plugin']}{version})"


def _rows(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in rows.items() if count)


def _notes(notes: list[str]) -> list[str]:
    return ["## Notes", "", *(f"- {note}" for note in notes), ""] if notes else []

"""list, show, strategies: what exists."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from zoo.catalog import licenses
from zoo.catalog.meanings import meanings
from zoo.catalog.near import did_you_mean
from zoo.catalog.spec import Backbone, Strategy, Weights
from zoo.catalog.tables import counted
from zoo.cli.options import Params, open_registry
from zoo.cli.output import Output, count, modes, table_of
from zoo.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from zoo.catalog.registry import Registry


#: What a list can be sorted by.
_SORTS: Final[dict[str, Callable[[Backbone], Any]]] = {
    "name": lambda spec: spec.name,
    "family": lambda spec: (spec.family, spec.params),
    "params": lambda spec: spec.params,
    "features": lambda spec: spec.num_features,
    "input": lambda spec: math.prod(spec.input_size),
}


@click.command("list")
@click.argument("glob", required=False)
@click.option("--family", help="Only this family, for instance resnet.")
@click.option("--input", "kind", help="Only backbones that eat this: image, audio, text, table ...")
@click.option("--pretrained", is_flag=True, help="Only those that have weights.")
@click.option("--license", help="Only those with weights under this licence, for instance apache-2.0.")
@click.option("--max-params", type=Params(), metavar="N", help="At most N parameters, for instance 30M or 30e6.")
@click.option("--pulled", is_flag=True, help="Only those with weights on this disk.")
@click.option("--plugin", help="Only those of this plugin.")
@click.option("--sort", type=click.Choice(list(_SORTS)), metavar="KEY", help=f"By {', '.join(_SORTS)}.")
@click.option("--all", "shadowed", is_flag=True, help="Also those whose short name another plugin has.")
@modes
@click.pass_obj
def list_verb(
    settings: Settings,
    glob: str | None,
    family: str | None,
    kind: str | None,
    pretrained: bool,
    license: str | None,
    max_params: float | None,
    pulled: bool,
    plugin: str | None,
    sort: str | None,
    shadowed: bool,
    out: Output,
) -> None:
    """List backbones. GLOB matches names, for instance `resnet*` or `*.tv_in1k`."""
    registry = open_registry(settings, out)
    specs = registry.backbones(
        glob,
        family=family,
        input=kind,
        pretrained=pretrained or None,
        license=license,
        max_params=max_params,
        pulled=pulled or None,
        plugin=plugin,
        shadowed=shadowed,
    )
    if sort is not None:
        specs = sorted(specs, key=_SORTS[sort])
    rows = [registry.row(spec) for spec in specs]
    out.table(rows, _COLUMNS, map(_cells, rows), right=("params", "features", "input"))
    if not rows:
        out.note(_nothing(registry, glob))


def _nothing(registry: Registry, glob: str | None) -> str:
    """What to say where nothing passes all filters."""
    if glob is None:
        return "Nothing matches. `zoo list` without filters shows everything."
    if alone := registry.backbones(glob):
        many = counted(len(alone), "backbone matches", "backbones match")
        return f"{many} {glob!r}, but none passes the other filters too."
    word = re.sub(r"[*?\[\]!]+", "", glob)
    near = did_you_mean(word, [*dict.fromkeys(spec.name for spec in registry.backbones()), *_names(registry)])
    return f"Nothing matches {glob!r}. " + (near or "`zoo list` without filters shows everything.")


def _names(registry: Registry) -> list[str]:
    return [weights.name for weights in registry.weights()]


_COLUMNS = ("name", "plugin", "family", "params", "features", "input", "weights", "licence", "pulled")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    others = len(row["weights"]) - 1
    weights = row["default_weights"] or (row["weights"][0] if row["weights"] else "-")
    return (
        row["name"],
        row["plugin"],
        row["family"],
        count(row["params"]),
        str(row["num_features"]),
        "x".join(map(str, row["input_size"])),
        weights + (f" +{others}" if others > 0 else ""),
        row["license"] or "-",
        "yes" if row["pulled"] else "",
    )


@click.command("show")
@click.argument("name")
@modes
@click.pass_obj
def show_verb(settings: Settings, name: str, out: Output) -> None:
    """Show one backbone, one set of weights, or one strategy."""
    registry = open_registry(settings, out)
    facts = describe(registry, name)
    if facts["kind"] == "weights" and (warning := licenses.warning(facts["license"])) is not None:
        out.note(f"note: {facts['name']}: {warning}")
    out.data(facts, lambda console: _draw_facts(console, facts))


def describe(registry: Registry, name: str) -> dict[str, Any]:
    """The facts about what `name` names: weights (`arch.tag`), a backbone, or a strategy."""
    found = registry.find(name)
    by = {"plugin_version": registry.loaded(found.plugin).candidate.version} if found.plugin else {}
    if isinstance(found, Weights):
        return {"kind": "weights", **plain(found), "pulled": registry.is_pulled(found), **by}
    if isinstance(found, Strategy):
        return {"kind": "strategy", **strategy_row(found), "meanings": meanings(found), **by}
    facts = plain(found)
    more = {key: facts[key] for key in ("input", "head", "stages", "gmacs", "summary", "paper")}
    return {"kind": "backbone", **registry.row(found), **more, **by}


def strategy_row(spec: Any) -> dict[str, Any]:
    """The facts about a strategy, with the keys of `zoo strategies --json`."""
    return {
        "name": spec.name,
        "plugin": spec.plugin,
        "kind": spec.kind,
        "needs": sorted(spec.needs),
        "summary": spec.summary,
        "options": dict(spec.options),
    }


def plain(value: Any) -> Any:
    """Specs as plain JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _draw_facts(console: Console, facts: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    meant = facts.get("meanings")
    for key, value in facts.items():
        if meant is not None and key in ("options", "meanings"):
            continue  # in a table of their own
        if value in (None, "", [], {}):
            continue
        if key == "preprocessing":
            value = _told(value)
        if isinstance(value, dict):
            left_out: tuple[Any, ...] = () if key == "options" else (None, {}, [])
            value = ", ".join(f"{name}={_short(item)}" for name, item in value.items() if item not in left_out)
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        elif isinstance(value, bool):
            value = "yes" if value else "no"
        table.add_row(key, f"{value:,}" if isinstance(value, int) else str(value))
    console.print(table)
    if meant is not None and facts["options"]:
        options = table_of("option", "default", "what it means")
        for name, value in facts["options"].items():
            options.add_row(name, "None" if value is None else _short(value), meant.get(name, ""))
        console.print()
        console.print(options)


def _told(preprocessing: dict[str, Any]) -> dict[str, Any]:
    """What counts for samples of its kind; of things that have names, these."""
    if preprocessing["kind"] == "image":
        return preprocessing
    told = {key: preprocessing[key] for key in ("kind", "input_size")} | preprocessing["extra"]
    return {
        key: [one["name"] for one in value] if isinstance(value, list) and key in ("columns", "left_out") else value
        for key, value in told.items()
    }


def _short(value: Any) -> str:
    if value is None:
        return "auto"  # settled by the fit; the record says how
    return "(" + ", ".join(map(str, value)) + ")" if isinstance(value, list) else str(value)


@click.command("strategies")
@modes
@click.pass_obj
def strategies_verb(settings: Settings, out: Output) -> None:
    """List the ways to adapt a backbone."""
    rows = [strategy_row(spec) for spec in open_registry(settings, out).strategies()]
    columns = ("name", "plugin", "kind", "needs", "what it does")
    cells = ((row["name"], row["plugin"], row["kind"], ", ".join(row["needs"]) or "-", row["summary"]) for row in rows)
    out.table(rows, columns, cells, cut=False)


def status(settings: Settings) -> None:
    """What `zoo` alone says: what is here, and what to try."""
    out = Output()
    registry = open_registry(settings, out)
    specs = registry.backbones()
    reports = registry.reports()
    broken = [report.name for report in reports if report.state == "failed"]
    runs = sorted(path.parent for path in Path("runs").glob("*/run.json"))
    lines = [
        f"{len(specs)} backbones, {len(registry.weights())} weights, {len(registry.strategies())} strategies, "
        f"from {counted(len(reports), 'plugin')}" + (f" ({', '.join(broken)} failed: zoo plugins)" if broken else ""),
        f"home: {settings.home}",
    ]
    if runs:
        lines.append(f"runs here: {', '.join(map(str, runs[-3:]))}")
    lines += [
        "",
        "Try:",
        "  zoo demo                                      the main job, offline, on real handwritten digits",
        "  zoo list 'resnet*' --max-params 30e6           which backbones there are",
        "  zoo fit PHOTOS -b resnet18 -s linear-probe     PHOTOS: a folder with one folder per class",
        "  zoo --help                                    all verbs",
    ]
    for line in lines:
        out.echo(line)

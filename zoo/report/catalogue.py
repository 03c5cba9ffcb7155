"""`zoo catalog`: every backbone on one page that can be searched, sorted and filtered. Needs no torch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from zoo.catalog import licenses
from zoo.catalog.spec import Backbone, Weights
from zoo.catalog.tables import count
from zoo.report.charts import Chart, linear, logarithmic
from zoo.report.page import check_place, render, write_page

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry

#: Titles of the columns, and whether they hold numbers.
COLUMNS: Final = (
    ("name", False),
    ("family", False),
    ("parameters", True),
    ("top-1", True),
    ("licence", False),
    ("default weights", False),
    ("GMACs", True),
    ("features", True),
    ("input", False),
    ("plugin", False),
)
#: Key of a row's values -> title of its filter.
_CHOICES: Final = {"family": "Family", "license": "Licence", "input": "Input", "plugin": "Plugin"}
#: Parameters up to which the best is named.
_SIZES: Final = (5_000_000, 25_000_000, 100_000_000)
_UNITS: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def write_catalogue(path: str | Path, registry: Registry | None = None) -> dict[str, Any]:
    """Write the page of all backbones that the registry knows.

    Args:
        path: the page; one that an earlier call wrote is replaced.
        registry: None = the default one.

    Returns:
        path, bytes, how many backbones and weights there are, and parity (None: nothing was measured again).

    Raises:
        UsageError: something else is there.
    """
    from zoo.catalog.registry import default

    registry, path = registry or default(), Path(path)
    check_place(path)
    rows = [_row(spec, registry) for spec in registry.backbones()]
    text = render("catalogue.html", script="catalogue.js", **_values(rows))
    write_page(path, text)
    held = sum(row["count"] for row in rows)
    return {"path": str(path), "bytes": path.stat().st_size, "backbones": len(rows), "weights": held, "parity": None}


def _row(spec: Backbone, registry: Registry) -> dict[str, Any]:
    held = registry.weights_of(spec)
    taken = registry.default_weights(spec)
    shown = taken or (held[0] if held else None)
    best = max((one for one in held if "top1" in one.metrics), key=lambda one: one.metrics["top1"], default=None)
    told = best or shown  # a figure and a licence in one row are of the same weights
    license = told.license if told else None
    return {
        "name": spec.name,
        "family": spec.family,
        "plugin": spec.plugin,
        "input": spec.input,
        "params": spec.params,
        "params_text": count(spec.params),
        "gmacs": spec.gmacs,
        "gmacs_text": "-" if spec.gmacs is None else f"{spec.gmacs:.2f}" if spec.gmacs < 10 else f"{spec.gmacs:,.0f}",
        "features": spec.num_features,
        "size": "x".join(map(str, spec.input_size)),
        "pixels": _pixels(spec),
        "top1": None if best is None else float(best.metrics["top1"]),
        "best": best.name if best else "",
        "licensed": told.name if told else "",
        "weights": shown.tag if shown else "",
        "more": max(0, len(held) - 1),
        "count": len(held),
        "license": license or "",
        "warning": licenses.warning(license) if told else None,
        "names": _text(spec, held),
    }


def _pixels(spec: Backbone) -> int:
    size = 1
    for side in spec.input_size:
        size *= side
    return size


def _text(spec: Backbone, held: list[Weights]) -> str:
    """What a search looks through."""
    more = {part for one in held for part in (one.name, one.trained_on, one.license) if part}
    return " ".join([spec.name, spec.family, spec.plugin, spec.input, spec.summary, *sorted(more)]).lower()


def _values(rows: list[dict[str, Any]]) -> dict[str, Any]:
    scored = [(i, row) for i, row in enumerate(rows) if row["top1"] is not None]
    chart = _chart([row for _, row in scored]) if scored else None
    dots = [
        (
            i,
            chart.px(row["params"]),
            chart.py(row["top1"]),
            f"{row['best']}: {row['top1']:.1f} %, {row['params_text']} parameters",
        )
        for i, row in scored
        if chart is not None
    ]
    return {
        "rows": rows,
        "columns": COLUMNS,
        "choices": [(key, title, _counted(rows, key)) for key, title in _CHOICES.items()],
        "pretrained": sum(row["count"] > 0 for row in rows),
        "weights": sum(row["count"] for row in rows),
        "scored": len(scored),
        "chart": chart,
        "dots": dots,
        "data": [_data(row) for row in rows],
    }


def _counted(rows: list[dict[str, Any]], key: str) -> list[tuple[str, int]]:
    return sorted(Counter(row[key] for row in rows).items(), key=lambda pair: pair[0].casefold())


def _data(row: dict[str, Any]) -> dict[str, Any]:
    """What the page's script knows of a row: `sort` has a value for each column."""
    keys = ("name", "family", "params", "top1", "license", "weights", "gmacs", "features", "pixels", "plugin")
    sort = [None if row[key] == "" else row[key] for key in keys]
    return {"text": row["names"], "sort": sort, "params": row["params"], "weights": row["count"],
            **{key: row[key] for key in _CHOICES}}  # fmt: skip


def _chart(rows: list[dict[str, Any]]) -> Chart:
    told = [
        f"up to {count(most)} it is {best['name']} ({best['top1']:.1f} %)"
        for most in _SIZES
        if (best := max((row for row in rows if row["params"] <= most), key=lambda row: row["top1"], default=None))
    ]
    best = max(rows, key=lambda row: row["top1"])
    return Chart(
        title="Parameters against published accuracy",
        words=f"The most accurate of {len(rows):,} backbones is {best['name']} ({best['params_text']} parameters, "
        f"{best['top1']:.1f} %); {', '.join(told)}.",
        x=logarithmic([row["params"] for row in rows], "parameters", _UNITS),
        y=linear([row["top1"] for row in rows], "top-1, %"),
        width=1100,
        height=360,
        margins=(56, 44, 12, 14),
    )

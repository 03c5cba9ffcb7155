"""Specs as rows: of plain values, as `--json` prints them, and of text, for tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zoo.catalog.spec import Backbone, Strategy, Weights
from zoo.catalog.tables import count, short

if TYPE_CHECKING:
    from zoo.catalog.loaded import PluginReport


def backbone_row(
    backbone: Backbone, weights: list[Weights], default: Weights | None, is_pulled: Callable[[Weights], bool]
) -> dict[str, Any]:
    """One line of `zoo list`.

    Args:
        backbone: the spec.
        weights: those that fit it.
        default: the one taken when none is named.
        is_pulled: whether weights are on this machine.

    Returns:
        name, plugin, family, input, params, num_features, input_size, weights (their names), default_weights (a name
        or None), license (of the default weights) and pulled (whether any of the weights are here).
    """
    return {
        "name": backbone.name,
        "plugin": backbone.plugin,
        "family": backbone.family,
        "input": backbone.input,
        "params": backbone.params,
        "num_features": backbone.num_features,
        "input_size": list(backbone.input_size),
        "weights": [one.name for one in weights],
        "default_weights": default.name if default is not None else None,
        "license": default.license if default is not None else None,
        "pulled": any(map(is_pulled, weights)),
    }


def backbone_cells(spec: Backbone) -> dict[str, str]:
    """Column -> text, for a table of backbones."""
    return {
        "name": spec.name,
        "plugin": spec.plugin,
        "family": spec.family,
        "params": count(spec.params),
        "features": str(spec.num_features),
        "input": f"{spec.input} {'x'.join(map(str, spec.input_size))}",
        "summary": spec.summary,
    }


def strategy_cells(spec: Strategy) -> dict[str, str]:
    """Column -> text, for a table of strategies."""
    return {
        "name": spec.name,
        "plugin": spec.plugin,
        "kind": spec.kind,
        "needs": ", ".join(spec.needs) or "-",
        "summary": spec.summary,
    }


def weights_cells(spec: Weights) -> dict[str, str]:
    """Column -> text, for a table of weights."""
    return {
        "name": spec.name,
        "backbone": spec.backbone,
        "default": "yes" if spec.default else "",
        "license": spec.license or "-",
        "trained on": spec.trained_on or "-",
        "source": short(spec.source, 48),
    }


def plugin_cells(report: PluginReport) -> dict[str, str]:
    """Column -> text, for a table of plugins."""
    return {
        "name": report.name,
        "version": report.version or "-",
        "origin": report.origin,
        "state": report.state,
        "gives": ", ".join(_counted(what, number) for what, number in report.gives.items()),
        "import": f"{1000 * report.seconds:.0f} ms" if report.seconds else "-",
        "problem": report.problem or "",
    }


def _counted(what: str, number: int) -> str:
    if what.startswith("zoo_"):  # a hook that gives no specs
        return what
    one = {"backbones": "backbone", "strategies": "strategy"}
    return f"{number} {one.get(what, what) if number == 1 else what}"

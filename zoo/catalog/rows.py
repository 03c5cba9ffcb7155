"""Specs as rows of plain values, as `--json` prints them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zoo.catalog.spec import Backbone, Weights


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

"""Heads: what turns features (N, D) into outputs (N, C)."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Final

from torch import nn

from zoo.errors import UsageError

LINEAR: Final = "linear"

_MLP: Final = re.compile(r"mlp\((\d+)\)")


def build_head(kind: str, num_features: int, outputs: int) -> nn.Module:
    """Build a head by name.

    Args:
        kind: "linear", or "mlp(N)": N hidden units and a ReLU. On the source CNN's 1024 features, "mlp(512)" is the
            article's target network.
        num_features: width D of the features.
        outputs: width C of the outputs.

    Raises:
        UsageError: no such head.
    """
    check_head(kind)
    hidden = hidden_units(kind)
    if hidden is None:
        return nn.Linear(num_features, outputs)
    layers = [("hidden", nn.Linear(num_features, hidden)), ("act", nn.ReLU()), ("out", nn.Linear(hidden, outputs))]
    return nn.Sequential(OrderedDict(layers))


def check_head(kind: str) -> None:
    """Raise `UsageError` for the name of no head."""
    if kind != LINEAR and not hidden_units(kind):
        raise UsageError(f"no head called {kind!r}", hint="Heads: linear, mlp(N), for instance mlp(512).")


def hidden_units(kind: str) -> int | None:
    """N of "mlp(N)"; None for any other head."""
    match = _MLP.fullmatch(kind.replace(" ", ""))
    return int(match[1]) or None if match else None

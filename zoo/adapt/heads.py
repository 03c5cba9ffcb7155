"""Heads: what turns features (N, D) into outputs (N, C)."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Final, TypeGuard

from torch import nn

from zoo.errors import UsageError

LINEAR: Final = "linear"

_MLP: Final = re.compile(r"mlp\((\d{1,9})\)")
#: Most hidden units; more is a slip of the hand.
_MOST: Final = 1_000_000


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
    if kind != LINEAR and not 0 < (hidden_units(kind) or 0) <= _MOST:
        raise UsageError(
            f"no head called {kind!r}",
            hint=f"Heads: linear, mlp(N) with N from 1 to {_MOST:,}, for instance mlp(512).",
        )


def head_kind(head: nn.Module) -> str | None:
    """The name that `build_head` makes this head by; None for any other module."""
    if _is_linear(head):
        return LINEAR
    parts = dict(head.named_children()) if type(head) is nn.Sequential else {}
    if list(parts) != ["hidden", "act", "out"] or type(parts["act"]) is not nn.ReLU:
        return None
    hidden, out = parts["hidden"], parts["out"]
    return f"mlp({hidden.out_features})" if _is_linear(hidden) and _is_linear(out) else None


def _is_linear(module: nn.Module) -> TypeGuard[nn.Linear]:
    return type(module) is nn.Linear and module.bias is not None


def hidden_units(kind: str) -> int | None:
    """N of "mlp(N)"; None for any other head."""
    match = _MLP.fullmatch(kind.replace(" ", ""))
    return int(match[1]) or None if match else None

"""Heads: what turns features (N, D) into outputs (N, C)."""

from __future__ import annotations

import copy
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, TypeGuard

import torch
from torch import nn

from zoo.errors import UsageError

LINEAR: Final = "linear"
#: What run.json says of a head that no name makes.
OWN: Final = "own"
#: A head: its name; or one of your own, a module (a copy is used) or what makes one, `head(num_features, outputs)`.
Head = str | Callable[..., nn.Module]

_MLP: Final = re.compile(r"mlp\((\d{1,9})\)")
#: Most hidden units; more is a slip of the hand.
_MOST: Final = 1_000_000


def build_head(kind: Head, num_features: int, outputs: int) -> nn.Module:
    """Build a head by name, or take one of your own.

    Args:
        kind: "linear"; "mlp(N)": N hidden units and a ReLU (on the source CNN's 1024 features, "mlp(512)" is the
            article's target network); a module, of which a copy is used; or a callable such as `nn.Linear`, called as
            `kind(num_features, outputs)`.
        num_features: width D of the features.
        outputs: width C of the outputs.

    Raises:
        UsageError: no such head, or one of your own that does not turn (N, D) into (N, C).
    """
    check_head(kind)
    if not isinstance(kind, str):
        return _own_head(kind, num_features, outputs)
    hidden = hidden_units(kind)
    if hidden is None:
        return nn.Linear(num_features, outputs)
    layers = [("hidden", nn.Linear(num_features, hidden)), ("act", nn.ReLU()), ("out", nn.Linear(hidden, outputs))]
    return nn.Sequential(OrderedDict(layers))


def check_head(kind: Head) -> None:
    """Raise `UsageError` for what cannot be a head."""
    if callable(kind):
        return
    if kind != LINEAR and not 0 < (hidden_units(kind) or 0) <= _MOST:
        raise UsageError(
            f"no head called {kind!r}",
            hint=f"Heads: linear, mlp(N) with N from 1 to {_MOST:,}, for instance mlp(512), or a module of your own.",
        )


def _own_head(kind: Callable[..., nn.Module], num_features: int, outputs: int) -> nn.Module:
    name = getattr(kind, "__name__", type(kind).__name__)
    head = copy.deepcopy(kind) if isinstance(kind, nn.Module) else kind(num_features, outputs)
    if not isinstance(head, nn.Module):
        raise UsageError(f"the head {name} made a {type(head).__name__}, not a module")
    device = next((parameter.device for parameter in head.parameters()), torch.device("cpu"))
    if device.type == "meta":  # a saved one, about to be filled
        return head
    training = head.training
    try:
        with torch.no_grad():
            found = tuple(head.eval()(torch.zeros(2, num_features, device=device)).shape)
    except Exception as error:
        raise UsageError(
            f"the head {name} cannot take features (N, {num_features})", why=f"{type(error).__name__}: {error}"
        ) from error
    if found != (2, outputs):
        raise UsageError(
            f"the head {name} turns features (2, {num_features}) into {found}, and (2, {outputs}) is needed",
            hint="Give a callable head(num_features, outputs), for instance nn.Linear.",
        )
    return head.train(training)


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

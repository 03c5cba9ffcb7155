"""Gradient checkpointing, which runs parts of a forward pass once more in the backward pass.

What a step puts in place for its forward pass alone (tensors exchanged by a `Change`, the stand-ins of a frozen front)
is gone by then: the parts would run with other numbers, and give wrong gradients without a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from zoo.adapt.changes import Change
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.adapt.front import Front
    from zoo.adapt.strategy import Model


@contextmanager
def refused(model: Model, front: Front | None) -> Iterator[None]:
    """Around a backward pass: no module runs in it whose forward pass something else stood in for.

    Raises:
        UsageError: one does.
    """
    changed = any(isinstance(extra, Change) for extra in model.extras.values())
    watched = set(model.backbone.modules()) if changed else set(front.modules) if front else set()
    if not watched:
        yield
        return

    def watch(module: nn.Module, inputs: Any) -> None:
        if module in watched:
            other = "" if changed else ", or give cache=False"
            raise UsageError(
                "the backbone uses gradient checkpointing, with which this fit would learn from wrong gradients",
                why=f"A {type(module).__name__} runs again in the backward pass, when "
                + ("the changes beside its weights are" if changed else "what was kept of the frozen stages is")
                + " no longer in place.",
                hint=f"Switch it off (timm: set_grad_checkpointing(False)){other}.",
            )

    handle = register_module_forward_pre_hook(watch)
    try:
        yield
    finally:
        handle.remove()

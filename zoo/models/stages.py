"""The parts of a module by name: its classifier, and its stages from stem to head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from torch import nn

from zoo.errors import UsageError

#: The stage that holds the classifier.
HEAD: Final = "head"


class NoHead(nn.Module):
    """Stands where a classifier was, and passes on what it is given.

    It is no `nn.Identity`: some networks take that as a sign to go another way, and the tap would not be reached.
    """

    def forward(self, x: Any) -> Any:
        return x


def find_head(module: nn.Module, declared: str | None = None) -> tuple[str, ...]:
    """Dotted names of the classifier's modules: the declared ones, else timm's, else the last linear layer."""
    found: Any = declared.split(",") if declared else None
    if found is None:
        config = getattr(module, "pretrained_cfg", None) or getattr(module, "default_cfg", None)
        found = config.get("classifier") if isinstance(config, Mapping) else getattr(config, "classifier", None)
    if found is None:
        found = [name for name, child in module.named_modules() if isinstance(child, nn.Linear)][-1:]
    names = tuple(name.strip() for name in ([found] if isinstance(found, str) else found))
    known = dict(module.named_modules())
    if not names or any(name not in known or not name for name in names):
        raise UsageError(
            f"{type(module).__name__} has no classifier {', '.join(names) or 'that can be found'}",
            hint="Name it: Backbone(head='fc'), or compose(..., backbone_head='fc') for a module of your own.",
        )
    return names


def derive_stages(module: nn.Module, head: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Stages read off the module's children, in order.

    Containers called `blocks`, `stages`, `features` ... give one stage per child; a container, or a module of several
    layers, whose name ends in a digit (`layer1`, `s1`) is one stage; layers before the first container are the `stem`;
    later ones, each run together, are called after the first of the run.
    """
    stages: dict[str, tuple[str, ...]] = {}
    run: list[str] = []

    def close_run() -> None:
        if run:
            stages[run[0] if stages else "stem"] = tuple(run)
            run.clear()

    def visit(parent: nn.Module, prefix: str) -> None:
        for name, child in parent.named_children():
            path = f"{prefix}{name}"
            if path in head:
                continue
            if any(name.startswith(f"{path}.") for name in head):
                if next(iter(child.parameters(recurse=True)), None) is not None:
                    run.extend(_beside_head(child, path, head))
                continue
            container = isinstance(child, (nn.Sequential, nn.ModuleList)) and len(child) > 1
            if container and not name[-1].isdigit():
                close_run()
                for index, _ in child.named_children():
                    stages[f"{path}.{index}"] = (f"{path}.{index}",)
            elif name[-1].isdigit() and (container or _has_layers(child)):
                close_run()
                stages[path] = (path,)
            else:
                run.append(path)

    visit(module, "")
    close_run()
    stages[HEAD] = head
    return stages


def _beside_head(child: nn.Module, path: str, head: tuple[str, ...]) -> Iterator[str]:
    """What stands before the head in the module that holds it. What stands behind it sees logits: no place to tap."""
    for name, _ in child.named_children():
        inner = f"{path}.{name}"
        if any(inside(target, inner) for target in head):
            return
        yield inner


def _has_layers(module: nn.Module) -> bool:
    """Whether several of its children have parameters."""
    return sum(next(child.parameters(), None) is not None for child in module.children()) > 1


def inside(name: str, prefix: str) -> bool:
    """Whether a dotted name is `prefix` or lies within it."""
    return name == prefix or name.startswith(f"{prefix}.")

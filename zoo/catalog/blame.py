"""Say in an error whose plugin raised it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from zoo.catalog.loaded import Loaded
from zoo.errors import PluginError, ZooError

#: Packages that many plugins name as their builders; an error inside says nothing about whose it is.
SHARED: Final = frozenset(
    ("__main__", "builtins", "zoo", "zoo_plugins", "torch", "torchvision", "timm", "transformers", "numpy", "functools")
)


def blame(error: BaseException, plugins: Iterable[Loaded], *named: str | None) -> None:
    """Add a note that names plugin, distribution and version, where code of a plugin that is not built in raised.

    Args:
        error: on its way up; its causes are looked into too.
        plugins: as loaded.
        named: the plugins of the backbone and the strategy at hand. Where no frame tells, a `PluginError` is about
            the first of them, and what the zoo did not foresee may come from what either gave.
    """
    others = [one for one in plugins if not one.builtin]
    owners = {package: one for one in others for package in _packages(one)}
    found = [(owners[top], where) for top, where in _frames(error) if top in owners]
    if found:
        owner, where = found[-1]
        note = f"Raised by the {owner.candidate.known_as}, in {where}."
    else:
        at_hand = [one.candidate.known_as for one in others if one.name in named]
        if at_hand and isinstance(error, PluginError):
            note = f"It concerns the {at_hand[0]}."
        elif at_hand and not isinstance(error, ZooError):
            note = f"It may come from the {' or the '.join(at_hand)}, used here."
        else:
            return
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)


def _packages(loaded: Loaded) -> set[str]:
    """Top-level packages of a plugin's code."""
    targets: list[Any] = [one.build for one in loaded.backbones.values()]
    targets += [one.make for one in loaded.strategies.values()]
    targets += [hook.function for hook in loaded.hooks.values()]
    modules = {one if isinstance(one, str) else str(getattr(one, "__module__", "")) for one in targets}
    return {module.partition(":")[0].partition(".")[0] for module in modules} - SHARED - {""}


def _frames(error: BaseException) -> Iterator[tuple[str, str]]:
    """(top-level package, module:function) of each frame, outermost first; those of causes after them."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        step = one.__traceback__
        while step is not None:
            module = str(step.tb_frame.f_globals.get("__name__", ""))
            yield module.partition(".")[0], f"{module}:{step.tb_frame.f_code.co_name}"
            step = step.tb_next
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)

"""What can be known of a plugin's specs without running the code they name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from zoo.catalog.loaded import Loaded
from zoo.errors import RegistryError

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry


def check(loaded: Loaded, registry: Registry) -> Iterator[tuple[str, str | None]]:
    """Look at one plugin: (what was looked at, what is wrong with it or None).

    That it loads, without any problem; that each module its specs name is here (it is not imported); that what its
    backbones require is installed; that its weights are for a backbone that somebody has and that takes their options.
    """
    if loaded.state != "ok":
        yield "loading", f"{loaded.state}: {'; '.join(loaded.problems)}"
        return
    yield from (("loading", problem) for problem in loaded.problems)
    if not loaded.problems:
        yield "loading", None
    for backbone in loaded.backbones.values():
        yield f"backbone {backbone.name}", _absent_code(backbone.build) or absent_distribution(backbone.requires)
    for strategy in loaded.strategies.values():
        yield f"strategy {strategy.name}", _absent_code(strategy.make)
    for weights in (*loaded.weights.values(), *(one for file in loaded.ledgers for one in file.weights.values())):
        yield f"weights {weights.name}", _unfit(weights.name, registry)


def _absent_code(target: Any) -> str | None:
    """Why `package.module:name` cannot be there; None if its module is."""
    if callable(target):
        return None
    module = str(target).partition(":")[0]
    try:
        return None if _is_here(module) else f"the module of {target!r} is not here"
    except (ImportError, ValueError) as error:
        return f"the module of {target!r} cannot be looked for: {error}"


def _is_here(module: str) -> bool:
    """`importlib.util.find_spec` without importing the packages above."""
    from importlib.machinery import PathFinder
    from importlib.util import find_spec

    if module in sys.modules:
        return True
    first, *rest = module.split(".")
    spec, name = find_spec(first), first
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return False
        name = f"{name}.{part}"
        spec = PathFinder.find_spec(name, list(spec.submodule_search_locations))
    return spec is not None


def absent_distribution(requires: tuple[str, ...]) -> str | None:
    """Which of the distributions that are required is not here, or too old, in words; None if all are."""
    if not requires:
        return None
    from importlib.metadata import PackageNotFoundError, version

    from packaging.requirements import InvalidRequirement, Requirement

    for text in requires:
        try:
            wanted = Requirement(text)
            if not wanted.specifier.contains(version(wanted.name), prereleases=True):
                return f"requires {text}, and {version(wanted.name)} is here"
        except PackageNotFoundError:
            return f"requires {text}, which is not installed"
        except InvalidRequirement as error:
            return f"requires {text!r}, which cannot be read: {' '.join(str(error).split())}"
    return None


def _unfit(weights: str, registry: Registry) -> str | None:
    from zoo.errors import ZooError

    try:
        registry.resolve(weights)
    except RegistryError as error:
        return error.message
    except ZooError as error:
        return f"cannot be used: {error.message}"
    return None

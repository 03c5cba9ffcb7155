"""What to say about weights that are not on this disk: what is here instead, and how they get here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.catalog import names
from zoo.catalog.near import nearest
from zoo.catalog.spec import Weights
from zoo.errors import NotFoundError, ZooError
from zoo.settings import Settings
from zoo.weights.store import Store

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry


def pulled(registry: Registry) -> list[Weights]:
    """Every set of weights that can be loaded without the network, in natural order."""
    store = Store(registry.settings)
    return [weights for weights in registry.weights() if store.is_pulled(weights)]


def here(glob: str, registry: Registry) -> list[Weights]:
    """Those of them whose `arch.tag` fits a glob."""
    fits = names.matcher(glob.rpartition("/")[2])
    return [weights for weights in pulled(registry) if fits(weights.name)]


def absent(weights: Weights, settings: Settings, registry: Registry | None, why: str | None = None) -> NotFoundError:
    """The error for weights that are not here while offline."""
    name = weights.name
    reasons = [why or f"They come from {weights.source}."]
    if (here := _here(weights, registry)) is not None:
        reasons.append(here)
    return NotFoundError(
        f"the weights {name} are not on this disk, and the zoo is offline",
        why="\n".join(reasons),
        hint=f"When connected (without --offline, ZOO_OFFLINE and HF_HUB_OFFLINE): zoo pull {name}\n"
        f"From another machine: zoo pull {name} --to DIR, then here: zoo cache add DIR",
    )


def _here(weights: Weights, registry: Registry | None) -> str | None:
    if registry is None:
        from zoo.catalog.registry import default

        registry = default()
    try:
        found = [one.name for one in pulled(registry)]
    except ZooError:  # a broken registry file is said elsewhere; here it must not hide what is missing
        return None
    tags = [name for name in found if name.partition(".")[0] == weights.arch]
    if tags:
        return f"On this disk are other weights of {weights.arch}: {', '.join(tags[:5])}."
    near = nearest(weights.name, found)
    if near:
        return f"Near names on this disk: {', '.join(near)}."
    return "No weights are on this disk." if not found else f"On this disk: {', '.join(found[:5])}."

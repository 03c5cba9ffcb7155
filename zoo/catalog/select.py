"""Which backbones and weights a pattern and filters let through."""

from __future__ import annotations

from collections.abc import Callable

from zoo.catalog import ledger, names
from zoo.catalog.index import Index
from zoo.catalog.spec import Backbone, Weights


def listed(index: Index, *, shadowed: bool) -> list[Backbone]:
    """Each short name once, or every backbone."""
    if shadowed:
        return [one for providers in index.backbones.values() for one in providers]
    return [providers[0] if len(providers) == 1 else index.shown(arch) for arch, providers in index.backbones.items()]


def matching(index: Index, found: list[Backbone], pattern: str) -> list[Backbone]:
    """Those whose `arch`, or one of whose `arch.tag`, fits; where the pattern has a `/`, `plugin/arch[.tag]`."""
    pattern, plugin = _unaliased(index, pattern)
    if plugin is not None:
        found = [one for one in found if one.plugin == plugin]
    fits, start = names.matcher(pattern), names.literal(pattern)
    # The names of weights begin with that of their architecture, so most need no look at their weights.
    if "/" in pattern:
        likely = [one for one in found if _overlap(one.full_name, start)]
        return [
            one
            for one in likely
            if fits(one.full_name) or any(fits(f"{one.plugin}/{w.name}") for w in index.weights_of(one))
        ]
    likely = [one for one in found if _overlap(one.name, start)]
    return [one for one in likely if fits(one.name) or any(fits(w.name) for w in index.weights_of(one))]


def _overlap(name: str, start: str) -> bool:
    return name.startswith(start) or start.startswith(name)


def matching_weights(index: Index, pattern: str | None) -> list[Weights]:
    """The weights whose `arch.tag` or `arch` fits; where the pattern has a `/`, `plugin/arch[.tag]`."""
    owned = index.owned_weights()
    if pattern is None:
        return [weights for _, weights in owned]
    pattern, plugin = _unaliased(index, pattern)
    fits = names.matcher(pattern)
    if "/" in pattern:
        return [w for owner, w in owned if fits(f"{owner}/{w.name}") or fits(f"{owner}/{w.arch}")]
    return [w for owner, w in owned if plugin in (None, owner) and (fits(w.name) or fits(w.arch))]


def licensed(index: Index, found: list[Backbone], pattern: str) -> list[Backbone]:
    """Those with weights under a licence that fits; case does not count."""
    fits = names.matcher(pattern.casefold())
    return [one for one in found if any(fits((w.license or "").casefold()) for w in index.weights_of(one))]


def pulled(index: Index, found: list[Backbone], wanted: bool, is_pulled: Callable[[Weights], bool]) -> list[Backbone]:
    """Those with weights on this machine, or without."""
    return [one for one in found if any(map(is_pulled, index.weights_of(one))) is wanted]


def _unaliased(index: Index, pattern: str) -> tuple[str, str | None]:
    target = ledger.follow(pattern, index.aliases)
    if target == pattern:
        return pattern, None
    parsed = names.parse(target)
    return f"{parsed.arch}.{parsed.tag}" if parsed.tag else parsed.arch, parsed.plugin

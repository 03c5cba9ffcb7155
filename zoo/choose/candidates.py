"""Which backbones with which weights a ranking compares, and what it would have to pull."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from zoo.catalog.spec import Backbone, Weights
from zoo.errors import NotFoundError, UsageError
from zoo.weights.store import Store

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry

#: More than this is not pulled because a glob happened to match it.
MOST_PULLED: Final = 20


@dataclass(frozen=True)
class Candidate:
    """A backbone with weights.

    Attributes:
        spec: the architecture.
        weights: what fills it.
        pulled: whether they are on this disk.
        named: whether the user named it, rather than a glob that matched it.
    """

    spec: Backbone
    weights: Weights
    pulled: bool
    named: bool

    @property
    def bytes_to_pull(self) -> int | None:
        """0 where nothing has to be pulled; None where the size is not known."""
        return 0 if self.pulled else self.weights.bytes


def candidates(patterns: Iterable[str], registry: Registry, *, many: bool = False) -> tuple[list[Candidate], list[str]]:
    """Resolve names and globs, each set of weights once, in the order given.

    A name stands for itself (`arch` for its default weights). A glob with a dot stands for all weights it matches. A
    glob without one stands for architectures: their weights on this disk, or the default weights where none is. No
    pattern at all stands for all weights on this disk.

    Args:
        patterns: names or globs.
        registry: where they are looked up.
        many: whether globs may ask for more than `MOST_PULLED` downloads; else what they match is left out.

    Returns:
        The candidates, and sentences the user should read.

    Raises:
        NotFoundError: a name or glob that matches no weights.
        UsageError: no pattern and nothing pulled, or nothing but more than `many` allows.
    """
    store = Store(registry.settings)
    given = list(patterns)
    found: dict[tuple[str, str], Candidate] = {}
    for pattern in given:
        if any(letter in pattern for letter in "*?["):
            matched = [(weights, False) for weights in _globbed(pattern, registry, store)]
        else:
            weights = registry.resolve(pattern)[1]
            if weights is None:
                raise UsageError(f"{pattern!r} names no weights", hint="Random weights are a baseline, not a choice.")
            matched = [(weights, True)]
        for weights, named in matched:
            _add(found, weights, registry, store, named=named)
    if not given:
        for weights in registry.weights():
            if store.is_pulled(weights):
                _add(found, weights, registry, store, named=False)
        if not found:
            raise UsageError(
                "no weights are on this disk to compare", hint="Name backbones: -b 'resnet*'; they are pulled."
            )
    missing = [one for one in found.values() if not one.pulled and not one.named]
    if len(missing) <= MOST_PULLED or many:
        return list(found.values()), []
    kept = [one for one in found.values() if one.pulled or one.named]
    if not kept:
        raise UsageError(
            f"{len(missing)} sets of weights would have to be pulled, and none is on this disk",
            hint="Narrow the globs, or say --yes (many=True) to pull them all.",
        )
    return kept, [f"{len(missing)} more match but are not on this disk: --yes (many=True) pulls and compares them too"]


def _globbed(pattern: str, registry: Registry, store: Store) -> list[Weights]:
    matched = registry.weights(pattern)
    if not matched:
        raise NotFoundError(f"no weights match {pattern!r}", hint="`zoo list --pretrained GLOB` shows what there is.")
    if "." in pattern:
        return matched
    chosen: list[Weights] = []
    for arch in dict.fromkeys(weights.arch for weights in matched):
        mine = [weights for weights in matched if weights.arch == arch]
        here = [weights for weights in mine if store.is_pulled(weights)]
        default = registry.default_weights(registry.backbone(arch))
        chosen += here or ([default] if default else mine[:1])
    return chosen


def _add(
    found: dict[tuple[str, str], Candidate], weights: Weights, registry: Registry, store: Store, *, named: bool
) -> None:
    spec, resolved = registry.resolve(weights.name)
    assert resolved is not None
    key = (spec.full_name, resolved.name)
    if key not in found or named:
        found[key] = Candidate(spec, resolved, store.is_pulled(resolved), named)

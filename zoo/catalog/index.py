"""What the plugins and the registry files say, put together: from names to specs.

A short name means: what an alias pins it to > a built-in plugin of its own > the `timm` plugin > the sole third party
that has it. Anything else is ambiguous.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from zoo.catalog import ledger, names
from zoo.catalog.loaded import Loaded
from zoo.catalog.near import plain
from zoo.catalog.spec import Backbone, Strategy, Weights

#: The built-in that has nearly everything; the others know more about what they have.
CATCH_ALL: Final = "timm"


class Index:
    """One reading of plugins and registry files, made anew when either changes.

    Args:
        plugins: as loaded.
        files: the registry files, lowest layer first, those of plugins included.
    """

    def __init__(self, plugins: Iterable[Loaded], files: Iterable[ledger.LedgerFile]) -> None:
        files = tuple(files)
        ordered = sorted(plugins, key=_precedence)
        self.aliases: Final = ledger.merge_aliases(files)
        self._order: Final = {one.name: _precedence(one) for one in ordered}
        self.builtin: Final = frozenset(one.name for one in ordered if one.builtin)
        #: arch -> who has it, best first
        self.backbones: Final[dict[str, list[Backbone]]] = {}
        #: plain name -> who has it, best first
        self.strategies: Final[dict[str, list[Strategy]]] = {}
        #: architectures with weights that name a plugin, or come from several
        self._mixed: Final[set[str]] = set()
        self._declared: Final[dict[str, list[Weights]]] = {}
        self._ledger: Final[dict[str, list[tuple[int, Weights]]]] = {}
        for one in ordered:
            alone = {arch: [backbone] for arch, backbone in one.backbones.items()}
            for arch in alone.keys() & self.backbones.keys():
                self.backbones[arch] += alone.pop(arch)
            self.backbones.update(alone)
            for name, strategy in one.strategies.items():
                self.strategies.setdefault(plain(name), []).append(strategy)
            for weights in one.weights.values():
                arch = weights.backbone
                if (known := self._declared.get(arch)) is None and "/" not in arch:
                    self._declared[arch] = [weights]
                elif known is not None and known[0].plugin == one.name:
                    known.append(weights)
                else:
                    arch = arch.rpartition("/")[2]
                    self._mixed.add(arch)
                    self._declared.setdefault(arch, []).append(weights)
        merged = {name: (file.rank, spec) for file in files for name, spec in file.weights.items()}
        for name, entry in merged.items():
            self._ledger.setdefault(name.partition(".")[0], []).append(entry)
        self._weights_of: Final[dict[tuple[str, str], list[Weights]]] = {}

    def add(self, backbone: Backbone) -> None:
        """Take in an architecture that its plugin did not list."""
        providers = self.backbones.setdefault(backbone.name, [])
        providers.append(backbone)
        providers.sort(key=lambda one: self._order[one.plugin])
        self._weights_of.clear()

    # -- architectures ---------------------------------------------------------------------------------------------

    def best(self, arch: str) -> Backbone | None:
        """What the short name means; None if nothing, or nothing certain."""
        providers = self.backbones.get(arch, ())
        if (pinned := self.pinned(arch)) is not None:
            return next((one for one in providers if one.plugin == pinned), None)
        if providers and (len(providers) == 1 or providers[0].plugin in self.builtin):
            return providers[0]
        return None

    def shown(self, arch: str) -> Backbone:
        """What a list shows under the short name: the best, or the first of those that tie."""
        return self.best(arch) or self.backbones[arch][0]

    def pinned(self, arch: str) -> str | None:
        """The plugin that an alias pins the short name to."""
        if arch not in self.aliases:
            return None
        target = names.parse(ledger.follow(arch, self.aliases))
        return target.plugin if target.arch == arch else None

    # -- weights ---------------------------------------------------------------------------------------------------

    def weights_of(self, backbone: Backbone) -> list[Weights]:
        """The weights that fit a backbone: those of registry files first, then those of plugins."""
        if self._is_plain(backbone):
            return self._declared.get(backbone.name, [])
        key = backbone.plugin, backbone.name
        if (known := self._weights_of.get(key)) is None:
            chosen: dict[str, Weights] = {}
            for _, weights in self._ledger.get(backbone.name, ()):
                if self._belongs(weights, backbone):
                    chosen[weights.name] = weights
            for weights in self._declared.get(backbone.name, ()):
                if weights.name not in chosen and self._belongs(weights, backbone):
                    chosen[weights.name] = weights
            known = self._weights_of[key] = list(chosen.values())
        return known

    def default_of(self, backbone: Backbone) -> Weights | None:
        """The default of the highest layer that has one, else the plugin's."""
        declared = self._declared.get(backbone.name, ())
        if self._is_plain(backbone):
            return next((one for one in declared if one.default), None)
        fitting = {weights.name: weights for weights in self.weights_of(backbone)}
        chosen, rank = None, -1
        for layer, weights in self._ledger.get(backbone.name, ()):
            if weights.default and weights.name in fitting and layer > rank:
                chosen, rank = weights.name, layer
        if chosen is None:
            own = [one for one in declared if one.default and self._belongs(one, backbone)]
            own.sort(key=lambda one: one.plugin != backbone.plugin)
            chosen = own[0].name if own else None
        return fitting[chosen] if chosen is not None else None

    def _is_plain(self, backbone: Backbone) -> bool:
        # One plugin has the architecture, and nobody else says anything about its weights: nearly all are so.
        name = backbone.name
        return name not in self._mixed and name not in self._ledger and len(self.backbones.get(name, ())) == 1

    def owned_weights(self) -> list[tuple[str, Weights]]:
        """(plugin of the backbone, weights), each once; those whose backbone is absent stand under "" ."""
        found: dict[int, tuple[str, Weights]] = {}
        for arch in {**self._ledger, **self._declared}:
            for backbone in self.backbones.get(arch, ()):
                for weights in self.weights_of(backbone):
                    found.setdefault(id(weights), (backbone.plugin, weights))
            if arch not in self.backbones:
                orphans = [*(one for _, one in self._ledger.get(arch, ())), *self._declared.get(arch, ())]
                found.update((id(one), ("", one)) for one in orphans)
        return list(found.values())

    def declares(self, arch: str) -> Weights | None:
        """Weights for an architecture that may itself be absent."""
        entries = [*(one for _, one in self._ledger.get(arch, ())), *self._declared.get(arch, ())]
        return entries[0] if entries else None

    def _belongs(self, weights: Weights, backbone: Backbone) -> bool:
        plugin, slash, _ = weights.backbone.rpartition("/")
        if slash:
            return plugin == backbone.plugin
        providers = self.backbones.get(backbone.name, [backbone])
        if len(providers) == 1:
            return True
        if weights.plugin and weights.plugin not in self.builtin and any(p.plugin == weights.plugin for p in providers):
            return backbone.plugin == weights.plugin
        # The built-ins that share a name build one network.
        best = self.best(backbone.name)
        if best is None:
            return True
        return backbone.plugin == best.plugin or (best.plugin in self.builtin and backbone.plugin in self.builtin)

    # -- clashes ---------------------------------------------------------------------------------------------------

    def clashes(self) -> dict[str, str]:
        """Third-party plugin -> which of its names others have too."""
        taken: dict[str, list[str]] = {}
        shared: list[Sequence[Backbone | Strategy]] = [*self.backbones.values(), *self.strategies.values()]
        for providers in shared:
            if len(providers) > 1:
                for one in providers[1 if providers[0].plugin in self.builtin else 0 :]:
                    if one.plugin not in self.builtin:
                        taken.setdefault(one.plugin, []).append(one.name)
        return {
            plugin: f"other plugins have the names {', '.join(found[:3])}{' ...' if len(found) > 3 else ''} too; "
            f"write {plugin}/{found[0]}"
            for plugin, found in taken.items()
        }


def _precedence(plugin: Loaded) -> tuple[int, str]:
    if not plugin.builtin:
        return 2, plugin.name
    return int(plugin.name == CATCH_ALL), plugin.name

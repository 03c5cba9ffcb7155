"""From a written name to the spec it means, or to an error that helps."""

from __future__ import annotations

import re
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Final

from zoo.catalog import ledger, names
from zoo.catalog.index import Index
from zoo.catalog.loaded import Loaded
from zoo.catalog.near import did_you_mean, plain
from zoo.catalog.pickles import is_pickle, refusal
from zoo.catalog.plugins import Host
from zoo.catalog.spec import TAG, Backbone, Strategy, Weights
from zoo.errors import NotFoundError, RegistryError, UsageError
from zoo.settings import expanded

#: Plugins that an error about a name says could explain it.
SHOWN: Final = 8
_STATES: Final = {"failed": "failed", "disabled": "is off", "shadowed": "is shadowed"}
_NOT_IN_TAGS: Final = re.compile(r"[^A-Za-z0-9_.-]+")


class Lookup:
    """Names -> specs over one index.

    Args:
        index: what is listed.
        host: the plugins, asked for what nobody listed.
    """

    def __init__(self, index: Index, host: Host) -> None:
        self._index: Final = index
        self._host: Final = host

    # -- backbones -------------------------------------------------------------------------------------------------

    def backbone(self, written: str) -> Backbone:
        """See `Registry.backbone`."""
        parsed = self._parse(written)
        return self._backbone(parsed.arch, parsed.plugin, written)

    def _parse(self, written: str) -> names.Name:
        return names.parse(ledger.follow(written, self._index.aliases))

    def _backbone(self, arch: str, plugin: str | None, written: str) -> Backbone:
        if plugin is not None:
            plugin = self.plugin(plugin, written)
        found = self._listed(arch, plugin)
        if found is None:
            for spec in self._host.find_backbone(arch, plugin):
                self._index.add(spec)
            found = self._listed(arch, plugin)
        if found is None:
            listed = self._index.backbones
            hidden = (one.full_name for providers in listed.values() if len(providers) > 1 for one in providers)
            raise self.missing("backbone", written, [*listed, *self._index.aliases, *hidden], arch)
        return found

    def _listed(self, arch: str, plugin: str | None) -> Backbone | None:
        providers = self._index.backbones.get(arch, [])
        if plugin is not None:
            return next((one for one in providers if one.plugin == plugin), None)
        best = self._index.best(arch)
        if best is None and providers and self._index.pinned(arch) is None:
            offers = sorted(one.full_name for one in providers)
            raise UsageError(
                f"several plugins have a backbone {arch!r}: {', '.join(offers)}",
                hint=f'Write one of these, or pin it in a registry file: [aliases] {arch} = "{offers[0]}"',
            )
        return best

    # -- weights ---------------------------------------------------------------------------------------------------

    def resolve(self, written: str | Backbone, weights: str | PathLike[str] | None) -> tuple[Backbone, Weights | None]:
        """See `Registry.resolve`."""
        wanted = weights if weights is None or isinstance(weights, str) else str(Path(weights).absolute())
        if isinstance(written, Backbone):
            backbone, chosen = written, self._choose(written, wanted)
        elif (parsed := self._parse(written)).tag is None:
            backbone = self._backbone(parsed.arch, parsed.plugin, written)
            chosen = self._choose(backbone, wanted)
        else:
            backbone, chosen = self.tagged(parsed, written)
            if wanted != "default" and wanted not in (chosen.tag, chosen.name, str(parsed), written):
                raise UsageError(
                    f"{written!r} already says which weights, and {wanted or 'none'!r} says others",
                    hint=f"Write {backbone.name!r} to choose the weights apart.",
                )
        if chosen is not None:
            _check_options(backbone, chosen)
        return backbone, chosen

    def tagged(self, parsed: names.Name, written: str) -> tuple[Backbone, Weights]:
        """The weights `arch.tag` and whose they are."""
        full = f"{parsed.arch}.{parsed.tag}"
        if parsed.plugin is not None or parsed.arch not in self._index.backbones:
            providers = [self._backbone(parsed.arch, parsed.plugin, written)]
        else:
            providers = self._index.backbones[parsed.arch]
        found = [(one, w) for one in providers for w in self._index.weights_of(one) if w.name == full]
        if not found:
            known = [w.name for one in providers for w in self._index.weights_of(one)]
            raise self.missing("weights", written, known, fallback=f"See `zoo show {parsed.arch}`.")
        best = self._index.best(parsed.arch)
        for pair in found:
            if pair[0] is best or len(found) == 1:
                return pair
        if found[0][0].plugin in self._index.builtin:
            return found[0]
        offers = ", ".join(f"{one.full_name}.{parsed.tag}" for one, _ in found)
        raise UsageError(f"several plugins have weights {written!r}: {offers}", hint="Write one of these.")

    def _choose(self, backbone: Backbone, wanted: str | None) -> Weights | None:
        if wanted is None or wanted == "none":
            return None
        if wanted == "default":
            return self._default(backbone)
        if names.is_path(wanted):
            return _from_path(backbone, wanted)
        fitting = {one.name: one for one in self._index.weights_of(backbone)}
        if TAG.fullmatch(wanted) and (chosen := fitting.get(f"{backbone.name}.{wanted}")) is not None:
            return chosen
        parsed = self._parse(wanted)
        if parsed.tag is not None:
            full = f"{parsed.arch}.{parsed.tag}"
            if parsed.plugin in (None, backbone.plugin) and full in fitting:
                return fitting[full]
            if parsed.arch != backbone.name and parsed.arch in self._index.backbones:
                raise UsageError(
                    f"the weights {wanted!r} are for {parsed.arch!r}, not for {backbone.name!r}",
                    hint=f"See what fits: zoo show {backbone.name}",
                )
        if is_pickle(wanted):
            raise refusal(Path(wanted))
        known = [*fitting, *(one.tag for one in fitting.values())]
        fallback = f"It has {', '.join(fitting)}." if fitting else "It has none; None or 'none' means random weights."
        raise self.missing(f"weights of {backbone.name!r} called", wanted, known, fallback=fallback)

    def _default(self, backbone: Backbone) -> Weights:
        if (chosen := self._index.default_of(backbone)) is None:
            have = ", ".join(one.name for one in self._index.weights_of(backbone))
            raise NotFoundError(
                f"{backbone.name!r} has no default weights",
                hint=f"It has {have}." if have else "For random weights say weights=None, or -w none.",
            )
        return chosen

    # -- strategies and plugins ------------------------------------------------------------------------------------

    def strategy(self, written: str) -> Strategy:
        """See `Registry.strategy`."""
        names.expect_text(written)
        plugin, slash, short = written.rpartition("/")
        providers = self._index.strategies.get(plain(short), [])
        if slash:
            plugin = self.plugin(plugin, written)
            providers = [one for one in providers if one.plugin == plugin]
        if not providers:
            known = (one[0].name for one in self._index.strategies.values())
            raise self.missing("strategy", written, known, fallback="See `zoo strategies`.")
        if len(providers) > 1 and providers[0].plugin not in self._index.builtin:
            offers = ", ".join(f"{one.plugin}/{one.name}" for one in providers)
            raise UsageError(f"several plugins have a strategy {short!r}: {offers}", hint="Write one of these.")
        return providers[0]

    def anything(self, written: str) -> Backbone | Weights | Strategy:
        """See `Registry.find`."""
        names.expect_text(written)
        if plain(written.rpartition("/")[2]) in self._index.strategies:
            return self.strategy(written)
        parsed = self._parse(written)
        if parsed.tag is not None:
            return self.tagged(parsed, written)[1]
        try:
            return self._backbone(parsed.arch, parsed.plugin, written)
        except NotFoundError:
            if parsed.plugin is not None:
                raise
        strategies = (one[0].name for one in self._index.strategies.values())
        known = [*self._index.backbones, *self._index.aliases, *strategies]
        raise self.missing("backbone, weights or strategy", written, known, parsed.arch)

    def plugin(self, name: str, written: str | None = None) -> str:
        """The plugin's name as it spells it; `-` and `_` are the same.

        Args:
            name: of the plugin.
            written: the whole name that it is part of, if it is.
        """
        if name in self._host.plugins:
            return name
        for known in self._host.plugins:
            if plain(known) == plain(name):
                return known
        within = f", which {written!r} names" if written is not None else ""
        hint = did_you_mean(name, self._host.plugins) or "See `zoo plugins`."
        unread = self.absent(one for one in self._host.absent() if one.candidate.fault)
        raise NotFoundError(f"no plugin {name!r}{within}", why="\n".join(unread) or None, hint=hint)

    def absent(self, absent: Iterable[Loaded] | None = None) -> list[str]:
        """A sentence on each plugin (of these) that may have had what nobody has; those turned off come last."""
        ordered = sorted(self._host.absent() if absent is None else absent, key=lambda one: one.state == "disabled")
        more = len(ordered) - SHOWN
        rest = [f"{more} more plugins failed, are shadowed or are off: zoo plugins."] if more > 0 else []
        return [*map(_reason, ordered[:SHOWN]), *rest]

    # -- errors ----------------------------------------------------------------------------------------------------

    def missing(
        self,
        kind: str,
        written: str,
        known: Iterable[str],
        arch: str | None = None,
        *,
        fallback: str = "See `zoo list`.",
    ) -> NotFoundError:
        """The error for a name that nobody has: what is near, and what failed and may have had it.

        Args:
            kind: of what.
            written: the name.
            known: the names there are.
            arch: where weights may be declared for it all the same.
            fallback: the hint when nothing is near.
        """
        reasons = []
        if arch is not None and arch not in self._index.backbones:
            weights = self._index.declares(arch)
            if weights is not None:
                reasons.append(f"{weights.origin or weights.plugin} has weights for it, but no plugin the backbone.")
        reasons += self.absent()
        hint = did_you_mean(written, known) or fallback
        return NotFoundError(f"no {kind} {written!r}", why="\n".join(reasons) or None, hint=hint)


def _reason(one: Loaded) -> str:
    brought = f" ({one.candidate.brought_by})" if one.candidate.brought_by else ""
    return f"The plugin {one.name!r} {_STATES[one.state]}{brought}: {one.problems[0].rstrip('.')}."


def _check_options(backbone: Backbone, weights: Weights) -> None:
    for key in weights.options:
        if key not in backbone.options:
            allowed = f"It allows {', '.join(backbone.options)}." if backbone.options else "It allows none."
            raise RegistryError(
                f"{weights.origin or weights.plugin}: {weights.name}: {backbone.full_name} has no option {key!r}",
                hint=did_you_mean(key, backbone.options) or allowed,
            )


def _from_path(backbone: Backbone, written: str) -> Weights:
    path = expanded(written).absolute()
    if not path.is_file():
        raise NotFoundError(
            f"{path} is a folder, not a weights file" if path.is_dir() else f"no weights file {path}",
            why="It is read as a path, for it ends in .safetensors or starts with '.', / or ~.",
            hint=f"Give the path of a .safetensors file, or the name of weights (zoo list '{backbone.name}.*').",
        )
    if is_pickle(path.name):
        raise refusal(path)
    tag = _NOT_IN_TAGS.sub("_", path.name.removesuffix(".safetensors")).lstrip("_.-")[:128] or "file"
    return Weights(
        name=f"{backbone.name}.{tag}",
        backbone=backbone.full_name,
        source=f"file:{path.as_posix()}",
        origin=str(path),
        plugin=backbone.plugin,
    )

"""From names to specs: every backbone, strategy and set of weights that the plugins and registry files offer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any, Final

from zoo.catalog import ledger, names, policy
from zoo.catalog.discover import find, given
from zoo.catalog.index import Index
from zoo.catalog.near import did_you_mean, plain
from zoo.catalog.plugins import Host, PluginReport
from zoo.catalog.spec import TAG, Backbone, Strategy, Weights
from zoo.errors import NotFoundError, PluginError, RegistryError, UsageError
from zoo.settings import Settings


class Registry:
    """What exists. Made cheaply; plugins are loaded when something is first asked.

    Args:
        plugins: objects with hooks (modules, classes or instances), or a mapping of names to them.
        settings: None = read from the environment.
        builtins: whether the zoo's own plugins are part of it.
        entry_points: whether installed plugins are.
        files: the registry files, lowest layer first; None = the standard layers (see `zoo.catalog.ledger`).

    Every method that asks for something may raise `UsageError` (a filter names an absent plugin), `RegistryError` (a
    registry file breaks the schema), `NotFoundError` (a registry file that was asked for is absent) or, under
    `Settings.strict`, `PluginError`.
    """

    def __init__(
        self,
        plugins: Iterable[Any] | Mapping[str, Any] | None = None,
        *,
        settings: Settings | None = None,
        builtins: bool = True,
        entry_points: bool = True,
        files: Iterable[str | PathLike[str]] | None = None,
    ) -> None:
        self.settings: Final = settings or Settings()
        self._sources: Final = {"builtins": builtins, "entry_points": entry_points}
        named = plugins.items() if isinstance(plugins, Mapping) else ((None, plugin) for plugin in plugins or ())
        self._given: Final = [given(plugin, name) for name, plugin in named]
        self._files: Final = None if files is None else tuple(Path(path) for path in files)
        self._ledgers: list[ledger.LedgerFile] = []
        self._seen: object = None
        self._host: Host | None = None
        self._required: Mapping[str, str] = {}
        self._index: Index | None = None

    # -- backbones -------------------------------------------------------------------------------------------------

    def backbones(
        self,
        pattern: str | None = None,
        *,
        pretrained: bool | None = None,
        family: str | None = None,
        plugin: str | None = None,
        license: str | None = None,
        max_params: float | None = None,
        input: str | None = None,
        pulled: bool | None = None,
        shadowed: bool = False,
    ) -> list[Backbone]:
        """The backbones that pass every filter, in natural order of their names.

        Args:
            pattern: a name, an alias, or a glob over `arch` and `arch.tag` (with `/`: over `plugin/arch[.tag]`).
            pretrained: with weights (True), or without (False).
            family: a glob.
            plugin: only this plugin's, the shadowed ones included.
            license: a glob over the licences of its weights; case does not count.
            max_params: at most this many parameters.
            input: "image", "audio", "text", "table" ...
            pulled: with weights on this machine (True), or without (False).
            shadowed: also those that another plugin's of the same name hides.

        Raises:
            NotFoundError: no plugin is called `plugin`.
        """
        index = self._current()
        if plugin is not None:
            plugin = self._plugin_name(plugin)
        shadowed = shadowed or plugin is not None or (pattern is not None and "/" in pattern)
        found = (
            [one for providers in index.backbones.values() for one in providers]
            if shadowed
            else [
                providers[0] if len(providers) == 1 else index.shown(arch)
                for arch, providers in index.backbones.items()
            ]
        )
        if plugin is not None:
            found = [one for one in found if one.plugin == plugin]
        if input is not None:
            found = [one for one in found if one.input == input]
        if max_params is not None:
            found = [one for one in found if one.params <= max_params]
        if family is not None:
            fits = names.matcher(family)
            found = [one for one in found if fits(one.family)]
        if pattern is not None:
            found = self._matching(index, found, pattern)
        if pretrained is not None:
            found = [one for one in found if bool(index.weights_of(one)) is pretrained]
        if license is not None:
            fits = names.matcher(license.casefold())
            found = [one for one in found if any(fits((w.license or "").casefold()) for w in index.weights_of(one))]
        if pulled is not None:
            is_pulled = self._pulled()
            found = [one for one in found if any(map(is_pulled, index.weights_of(one))) is pulled]
        found.sort(key=lambda one: names.natural(one.name))
        return found

    def backbone(self, name: str) -> Backbone:
        """The backbone called `arch` or `plugin/arch`, or an alias; a tag is allowed and passed over.

        Raises:
            NotFoundError: nobody has it; names what is near, and the plugins that failed and may have had it.
            UsageError: several third parties have it and nothing says which.
        """
        index = self._current()
        parsed = names.parse(ledger.follow(name, index.aliases))
        return self._backbone(parsed.arch, parsed.plugin, name)

    def _backbone(self, arch: str, plugin: str | None, written: str) -> Backbone:
        index = self._current()
        if plugin is not None:
            plugin = self._plugin_name(plugin, written)
        for asked in (False, True):
            providers = index.backbones.get(arch, [])
            if plugin is not None:
                providers = [one for one in providers if one.plugin == plugin]
            best = index.best(arch) if plugin is None else (providers or [None])[0]
            if best is not None:
                return best
            if providers and index.pinned(arch) is None:
                offers = sorted(one.full_name for one in providers)
                raise UsageError(
                    f"several plugins have a backbone {arch!r}: {', '.join(offers)}",
                    hint=f"Write one of them, or pin it in a registry file: [aliases] {arch} = {offers[0]!r}",
                )
            if not asked and self._load().find_backbone(arch, plugin):
                self._index = None
                index = self._current()
        raise self._missing(
            "backbone",
            written,
            [one.full_name for p in index.backbones.values() for one in p[1:]]
            + list(index.backbones)
            + list(index.aliases),
            arch,
        )

    # -- weights ---------------------------------------------------------------------------------------------------

    def weights(self, pattern: str | None = None) -> list[Weights]:
        """Every set of weights, in natural order; those for an absent backbone included.

        Args:
            pattern: a name, an alias, or a glob over `arch.tag` and `arch` (with `/`: over `plugin/arch.tag`).
        """
        index = self._current()
        found = index.all_weights()
        if pattern is not None:
            fits = names.matcher(ledger.follow(pattern, index.aliases))
            slash = "/" in pattern
            found = [
                one
                for one in found
                if (fits(self._full_name(index, one)) if slash else fits(one.name) or fits(one.arch))
            ]
        return sorted(found, key=lambda one: names.natural(one.name))

    def weights_of(self, backbone: Backbone) -> list[Weights]:
        """The weights that fit a backbone: those of registry files first, then those of plugins."""
        return list(self._current().weights_of(backbone))

    def default_weights(self, backbone: Backbone) -> Weights | None:
        """The default of the highest registry layer that names one, else the plugin's, else None."""
        return self._current().default_of(backbone)

    def resolve(self, name: str, weights: str | PathLike[str] | None = "default") -> tuple[Backbone, Weights | None]:
        """A backbone and its weights.

        Args:
            name: `arch`, `arch.tag`, `plugin/arch[.tag]` or an alias.
            weights: "default"; None or "none" = random; a tag; `arch.tag`; an alias; or a path to a safetensors file.

        Raises:
            NotFoundError: no such backbone, weights or file, or the backbone has no default weights.
            UsageError: `name` holds a tag and `weights` says something else; or weights of another backbone.
            RegistryError: the weights hold options that the backbone does not allow.
        """
        index = self._current()
        parsed = names.parse(ledger.follow(name, index.aliases))
        wanted = weights if weights is None or isinstance(weights, str) else str(Path(weights).absolute())
        if parsed.tag is None:
            backbone = self._backbone(parsed.arch, parsed.plugin, name)
            chosen = self._choose(backbone, wanted)
        else:
            backbone, chosen = self._tagged(parsed, name)
            if wanted != "default" and wanted not in (chosen.tag, chosen.name, str(parsed), name):
                raise UsageError(
                    f"{name!r} already says which weights, and {wanted or 'none'!r} says others",
                    hint=f"Write {backbone.name!r} to choose the weights apart.",
                )
        if chosen is not None:
            _check_options(backbone, chosen)
        return backbone, chosen

    def _choose(self, backbone: Backbone, wanted: str | None) -> Weights | None:
        if wanted is None or wanted == "none":
            return None
        index = self._current()
        if wanted == "default":
            if (chosen := index.default_of(backbone)) is None:
                tags = [one.name for one in index.weights_of(backbone)]
                raise NotFoundError(
                    f"{backbone.name!r} has no default weights",
                    hint=f"It has {', '.join(tags)}." if tags else "For random weights say weights=None or -w none.",
                )
            return chosen
        if names.is_path(wanted):
            return _from_path(backbone, wanted)
        fitting = {one.name: one for one in index.weights_of(backbone)}
        if (chosen := fitting.get(f"{backbone.name}.{wanted}")) is not None:
            return chosen
        target = ledger.follow(wanted, index.aliases)
        parsed = names.parse(target) if TAG.fullmatch(target) is None or "." in target else None
        if parsed is not None and parsed.tag is not None:
            full = f"{parsed.arch}.{parsed.tag}"
            if parsed.arch == backbone.name and parsed.plugin in (None, backbone.plugin) and full in fitting:
                return fitting[full]
            if parsed.arch != backbone.name and parsed.arch in index.backbones:
                raise UsageError(
                    f"the weights {wanted!r} are for {parsed.arch!r}, not for {backbone.name!r}",
                    hint=f"See what fits: zoo show {backbone.name}",
                )
        known = [*fitting, *(one.tag for one in fitting.values())]
        raise self._missing(f"weights of {backbone.name!r} called", wanted, known)

    def _tagged(self, parsed: names.Name, written: str) -> tuple[Backbone, Weights]:
        index = self._current()
        full = f"{parsed.arch}.{parsed.tag}"
        if parsed.plugin is not None or parsed.arch not in index.backbones:
            providers = [self._backbone(parsed.arch, parsed.plugin, written)]
        else:
            best = index.best(parsed.arch)
            providers = [*([best] if best else ()), *(p for p in index.backbones[parsed.arch] if p is not best)]
        index = self._current()
        found = [(p, one) for p in providers for one in index.weights_of(p) if one.name == full]
        if not found:
            known = [one.name for p in providers for one in index.weights_of(p)]
            raise self._missing("weights", written, known or index.backbones, parsed.arch)
        if len(found) > 1 and found[0][0] is not index.best(parsed.arch):
            offers = ", ".join(f"{p.full_name}.{parsed.tag}" for p, _ in found)
            raise UsageError(f"several plugins have weights {written!r}: {offers}", hint="Write one of these.")
        return found[0]

    # -- strategies ------------------------------------------------------------------------------------------------

    def strategies(self) -> list[Strategy]:
        """Every strategy by its short name."""
        index = self._current()
        return [providers[0] for _, providers in sorted(index.strategies.items())]

    def strategy(self, name: str) -> Strategy:
        """The strategy called `name` or `plugin/name`; `-` and `_` are the same.

        Raises:
            NotFoundError: nobody has it; names what is near.
            UsageError: several third parties have it and none is built in.
        """
        index = self._current()
        plugin, slash, short = name.rpartition("/")
        providers = index.strategies.get(plain(short), [])
        if slash:
            plugin = self._plugin_name(plugin, name)
            providers = [one for one in providers if one.plugin == plugin]
        if not providers:
            raise self._missing("strategy", name, [one[0].name for one in index.strategies.values()])
        if len(providers) > 1 and providers[0].plugin not in index.builtin:
            offers = ", ".join(f"{one.plugin}/{one.name}" for one in providers)
            raise UsageError(f"several plugins have a strategy {short!r}: {offers}", hint="Write one of these.")
        return providers[0]

    # -- anything --------------------------------------------------------------------------------------------------

    def find(self, name: str) -> Backbone | Weights | Strategy:
        """What `name` names: weights where it holds a tag, else a backbone, else a strategy.

        Raises:
            NotFoundError: nothing; names what is near among all.
        """
        index = self._current()
        if plain(name.rpartition("/")[2]) in index.strategies:
            return self.strategy(name)
        parsed = names.parse(ledger.follow(name, index.aliases))
        if parsed.tag is not None:
            return self._tagged(parsed, name)[1]
        try:
            return self._backbone(parsed.arch, parsed.plugin, name)
        except NotFoundError as error:
            if type(error) is NotFoundError and parsed.plugin is None:
                known = [*index.backbones, *index.aliases, *(one[0].name for one in index.strategies.values())]
                raise self._missing("backbone, weights or strategy", name, known, parsed.arch) from None
            raise

    # -- plugins ---------------------------------------------------------------------------------------------------

    def reports(self) -> list[PluginReport]:
        """One report for each plugin found, by name, the failed, disabled and shadowed ones included."""
        host = self._load()
        clashes = self._built().clashes
        from dataclasses import replace

        return [
            replace(one, problem="; ".join(filter(None, (one.problem, clashes[one.name]))))
            if one.state == "ok" and one.name in clashes
            else one
            for one in host.reports()
        ]

    def register(self, plugin: Any, name: str | None = None) -> str:
        """Add a plugin object; returns its name. A class registered again, as a notebook does, replaces itself.

        A plugin that fails is reported by `reports()` and in errors about names it could explain.

        Raises:
            UsageError: the name is taken by another plugin.
        """
        host = self._load()
        candidate = given(plugin, name)
        if (there := host.plugins.get(candidate.name)) is not None:
            if (there.candidate.origin, there.candidate.where) != ("object", candidate.where):
                raise UsageError(f"the plugin name {candidate.name!r} is taken", hint="Give another: name=...")
            host.remove(candidate.name)
        self._index = None
        host.add(candidate)
        return candidate.name

    def unregister(self, name: str) -> None:
        """Take a plugin out again, whatever it came from.

        Raises:
            NotFoundError: there is none of that name.
        """
        self._load().remove(self._plugin_name(name))
        self._index = None

    def tell(self, hook: str, **arguments: Any) -> None:
        """Tell every plugin that has `hook`; one that fails is reported and never stops the caller."""
        self._load().tell(hook, **arguments)

    def fetchers(self) -> list[tuple[str, Any]]:
        """(plugin, `function(weights, target) -> bool`) for each plugin with a source scheme of its own."""
        return self._load().fetchers()

    # -- files -----------------------------------------------------------------------------------------------------

    @property
    def files(self) -> list[ledger.LedgerFile]:
        """The registry files in force, lowest layer first, those of plugins included."""
        self._current()
        return self._all_files()

    @property
    def aliases(self) -> Mapping[str, str]:
        """Alias -> the name it stands for."""
        return self._current().aliases

    @property
    def notes(self) -> list[str]:
        """What a person should know about the registry files: names that the project's own file redefines."""
        index = self._current()
        found = []
        for file in self._ledgers:
            if file.layer == "project":
                below = {
                    name: "the shipped registry"
                    for low in self._ledgers
                    if low.layer == "shipped"
                    for name in low.weights
                }
                for one in self._load().plugins.values():
                    shipped = [*one.weights, *(name for low in one.ledgers for name in low.weights)]
                    below.update(dict.fromkeys(shipped, f"the plugin {one.name!r}"))
                found += [f"{file.path} redefines {name}, of {below[name]}" for name in file.weights if name in below]
                found += [
                    f"{file.path} redefines {name}, as {to}"
                    for name, to in file.aliases.items()
                    if name in index.backbones
                ]
        return found

    # -- inside ----------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        paths = (
            ledger.standard_paths(self.settings) if self._files is None else [("given", path) for path in self._files]
        )
        seen = tuple(paths), ledger.signature(path for _, path in paths)
        if seen != self._seen:
            self._ledgers = [ledger.read(path, layer) for layer, path in paths]
            self._seen, self._index = seen, None

    def _load(self) -> Host:
        if self._host is None:
            self._read()
            found = find(**self._sources, folder=self.settings.plugins_dir)
            for one in self._given:
                other = next((two for two in found if two.name == one.name and two.shadowed_by is None), None)
                one.shadowed_by = f"the {other.origin} plugin {other.where}" if other is not None else None
                found.append(one)
            off = policy.disabled(found, self.settings, self._ledgers)
            self._required = policy.required_names(found, self._ledgers)
            host = Host(strict=self.settings.strict)
            for one in found:
                host.add(one, disabled=off.get(one.name))
            self._host = host
        return self._host

    def _current(self) -> Index:
        self._read()
        for name, path in self._required.items():
            loaded = self._load().plugins.get(name)
            if loaded is not None and loaded.state == "failed":
                raise PluginError(f"{path} requires the plugin {name!r}, which failed", why="; ".join(loaded.problems))
        return self._built()

    def _built(self) -> Index:
        if self._index is None:
            self._index = Index(self._load().plugins.values(), self._all_files())
        return self._index

    def _all_files(self) -> list[ledger.LedgerFile]:
        shipped = [file for one in self._load().plugins.values() for file in one.ledgers]
        return sorted([*self._ledgers, *shipped], key=lambda file: file.rank)

    def _plugin_name(self, name: str, written: str | None = None) -> str:
        plugins = self._load().plugins
        for known in plugins:
            if plain(known) == plain(name):
                return known
        raise (
            self._missing("plugin", name, plugins)
            if written is None
            else NotFoundError(
                f"no plugin {name!r}, which {written!r} names", why=self._absent(), hint=did_you_mean(name, plugins)
            )
        )

    def _matching(self, index: Index, found: list[Backbone], pattern: str) -> list[Backbone]:
        if not names.is_glob(pattern):
            target = ledger.follow(pattern, index.aliases)
            if target != pattern:
                parsed = names.parse(target)
                found = [one for one in found if parsed.plugin in (None, one.plugin)]
                pattern = f"{parsed.arch}.{parsed.tag}" if parsed.tag else parsed.arch
        fits = names.matcher(pattern)
        if "/" in pattern:
            return [
                one
                for one in found
                if fits(one.full_name) or any(fits(f"{one.plugin}/{w.name}") for w in index.weights_of(one))
            ]
        return [one for one in found if fits(one.name) or any(fits(w.name) for w in index.weights_of(one))]

    def _full_name(self, index: Index, weights: Weights) -> str:
        plugin, slash, _ = weights.backbone.rpartition("/")
        best = index.best(weights.arch)
        owner = plugin if slash else weights.plugin or (best.plugin if best else "")
        return f"{owner}/{weights.name}"

    def _pulled(self) -> Any:
        from zoo.weights.store import Store

        return Store(self.settings).is_pulled

    def _missing(self, kind: str, name: str, known: Iterable[str], arch: str | None = None) -> NotFoundError:
        reasons = [self._absent()]
        index = self._built()
        if arch is not None and arch not in index.backbones and (weights := index.declares(arch)) is not None:
            reasons.insert(0, f"{weights.origin or weights.plugin} has weights for it, but no plugin has the backbone.")
        hint = did_you_mean(name, known) or ("See `zoo strategies`." if kind == "strategy" else "See `zoo list`.")
        return NotFoundError(f"no {kind} {name!r}", why="\n".join(filter(None, reasons)) or None, hint=hint)

    def _absent(self) -> str | None:
        lines = [
            f"The plugin {one.name!r} {one.state if one.state == 'failed' else 'is disabled'}: {one.problems[0]}."
            for one in self._load().absent()
        ]
        return "\n".join(lines) or None


def _check_options(backbone: Backbone, weights: Weights) -> None:
    for key in weights.options:
        if key not in backbone.options:
            raise RegistryError(
                f"{weights.origin or weights.plugin}: {weights.name}: {backbone.full_name} has no option {key!r}",
                hint=did_you_mean(key, backbone.options)
                or (f"It allows {', '.join(backbone.options)}." if backbone.options else "It allows none."),
            )


def _from_path(backbone: Backbone, written: str) -> Weights:
    import re

    path = Path(written).expanduser().absolute()
    if not path.is_file():
        raise NotFoundError(f"no weights file {path}", hint="A name neither ends in .safetensors nor starts with . / ~")
    tag = re.sub(r"[^A-Za-z0-9_.-]+", "_", path.name.removesuffix(".safetensors")).lstrip("_.-")[:128] or "file"
    return Weights(
        name=f"{backbone.name}.{tag}",
        backbone=backbone.full_name,
        source=f"file:{path.as_posix()}",
        origin=str(path),
        plugin=backbone.plugin,
    )


@cache
def default() -> Registry:
    """The registry behind `zoo.list_backbones` and its kin, made when first asked."""
    return Registry()


def reset_default() -> None:
    """Forget the default registry; the next use reads the environment and finds plugins anew."""
    default.cache_clear()

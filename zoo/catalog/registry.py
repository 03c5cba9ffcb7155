"""From names to specs: every backbone, strategy and set of weights that the plugins and registry files offer."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any, Final

from zoo import __version__
from zoo.catalog import ledger, names, policy, select
from zoo.catalog.discover import find, given
from zoo.catalog.index import Index
from zoo.catalog.loaded import Loaded, PluginReport
from zoo.catalog.lookup import Lookup
from zoo.catalog.plugins import Host
from zoo.catalog.rows import backbone_cells, backbone_row, plugin_cells, strategy_cells, weights_cells
from zoo.catalog.spec import Backbone, Strategy, Weights
from zoo.catalog.tables import Listing
from zoo.errors import PluginError, UsageError
from zoo.settings import Settings

#: Whether a registry loads its plugins in this thread.
_LOADING: Final = ContextVar("loading", default=False)


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
        self._lock: Final = threading.Lock()
        self._store: Any = None
        self._blobs = False

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
            plugin = self._lookup().plugin(plugin)
        everything = shadowed or plugin is not None or (pattern is not None and "/" in pattern)
        found = select.listed(index, shadowed=everything)
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
            found = select.matching(index, found, pattern)
        if pretrained is not None:
            found = [one for one in found if bool(index.weights_of(one)) is pretrained]
        if license is not None:
            found = select.licensed(index, found, license)
        if pulled is not None:
            found = select.pulled(index, found, pulled, self._is_pulled)
        return Listing(sorted(found, key=lambda one: names.natural(one.name)), backbone_cells)

    def backbone(self, name: str) -> Backbone:
        """The backbone called `arch` or `plugin/arch`, or an alias; a tag is allowed and passed over.

        Raises:
            NotFoundError: nobody has it; names what is near, and the plugins that failed and may have had it.
            UsageError: several third parties have it and nothing says which; or `name` is not a name.
        """
        return self._lookup().backbone(name)

    def row(self, backbone: Backbone) -> dict[str, Any]:
        """A backbone as plain values, with the keys of `zoo list --json` (see `zoo.catalog.rows`)."""
        index = self._built()
        return backbone_row(backbone, index.weights_of(backbone), index.default_of(backbone), self._is_pulled)

    # -- weights ---------------------------------------------------------------------------------------------------

    def weights(self, pattern: str | None = None) -> list[Weights]:
        """Every set of weights, in natural order; those for an absent backbone included.

        Args:
            pattern: a name, an alias, or a glob over `arch.tag` and `arch` (with `/`: over `plugin/arch[.tag]`).
        """
        found = select.matching_weights(self._current(), pattern)
        return Listing(sorted(found, key=lambda one: names.natural(one.name)), weights_cells)

    def weights_of(self, backbone: Backbone) -> list[Weights]:
        """The weights that fit a backbone: those of registry files first, then those of plugins."""
        return list(self._current().weights_of(backbone))

    def default_weights(self, backbone: Backbone) -> Weights | None:
        """The default of the highest registry layer that names one, else the plugin's, else None."""
        return self._current().default_of(backbone)

    def resolve(
        self, name: str | Backbone, weights: str | PathLike[str] | None = "default"
    ) -> tuple[Backbone, Weights | None]:
        """A backbone and its weights.

        Args:
            name: `arch`, `arch.tag`, `plugin/arch[.tag]` or an alias; or a spec, which is taken as it is.
            weights: "default"; None or "none" = random; a tag; `arch.tag`; an alias; or a path to a safetensors file.

        Raises:
            NotFoundError: no such backbone, weights or file, or the backbone has no default weights.
            UsageError: `name` holds a tag and `weights` says something else; or weights of another backbone.
            RegistryError: the weights hold options that the backbone does not allow.
        """
        return self._lookup().resolve(name, weights)

    def is_pulled(self, weights: Weights) -> bool:
        """Whether weights can be loaded without the network. No byte is hashed."""
        self._read()
        return self._is_pulled(weights)

    # -- strategies ------------------------------------------------------------------------------------------------

    def strategies(self) -> list[Strategy]:
        """Every strategy, each short name once."""
        found = (providers[0] for _, providers in sorted(self._current().strategies.items()))
        return Listing(found, strategy_cells)

    def strategy(self, name: str) -> Strategy:
        """The strategy called `name` or `plugin/name`; `-` and `_` are the same.

        Raises:
            NotFoundError: nobody has it; names what is near.
            UsageError: several third parties have it and none is built in.
        """
        return self._lookup().strategy(name)

    def find(self, name: str) -> Backbone | Weights | Strategy:
        """What `name` names: a strategy, weights where it holds a tag, else a backbone.

        Raises:
            NotFoundError: nothing; names what is near among all.
        """
        return self._lookup().anything(name)

    # -- plugins ---------------------------------------------------------------------------------------------------

    def reports(self) -> list[PluginReport]:
        """One report for each plugin found, by name, the failed, disabled and shadowed ones included."""
        self._built()
        return Listing(self._load().reports(), plugin_cells)

    def loaded(self, plugin: str) -> Loaded:
        """What is known of one plugin; `-` and `_` are the same.

        Raises:
            NotFoundError: there is none of that name.
        """
        return self._load().plugins[self._lookup().plugin(plugin)]

    @contextmanager
    def blaming(self, *plugins: str | None) -> Iterator[None]:
        """An error that a plugin's code raises inside is given a note with plugin, distribution and version.

        Args:
            plugins: of the backbone and the strategy at hand.
        """
        try:
            yield
        except Exception as error:
            from zoo.catalog.blame import blame

            blame(error, self._load().plugins.values(), *plugins)
            raise

    def requirements(self) -> list[tuple[PluginReport | None, str, str | None]]:
        """What another machine must install to have these plugins: (plugin, requirement, why it cannot be followed).

        The zoo itself comes first, with None for the plugin; the built-in ones come with it.
        """
        from zoo.catalog.installed import ZOO, own

        zoo = own()
        found: list[tuple[PluginReport | None, str, str | None]] = [
            (None, *zoo.requirement()) if zoo else (None, f"{ZOO}=={__version__}", "run from a folder, not installed")
        ]
        for one in self._load().everyone():
            report, dist = one.report(), one.candidate.dist
            if dist is not None and dist.name is not None:
                line, why = dist.requirement()
                found.append((report, line, why or (report.problem if report.state != "ok" else None)))
            elif report.origin == "file":
                found.append((report, report.where, "a plugin file: copy it"))
        return found

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
        host.load([candidate], {})
        return candidate.name

    def unregister(self, name: str) -> None:
        """Take a plugin out again, whatever it came from.

        Raises:
            NotFoundError: there is none of that name.
        """
        self._load().remove(self._lookup().plugin(name))
        self._index = None

    def tell(self, hook: str, **arguments: Any) -> None:
        """Tell every plugin that has `hook`; one that fails is reported and never stops the caller."""
        self._load().tell(hook, **arguments)

    def fetchers(self) -> list[tuple[str, Any]]:
        """(plugin, `function(weights, target) -> bool`) for each plugin with a source scheme of its own."""
        return self._load().fetchers()

    def absent(self) -> list[str]:
        """A sentence on each plugin that failed, is shadowed or is off, for errors that it could explain."""
        return self._lookup().absent()

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
        project = [file for file in self._ledgers if file.layer == "project"]
        if not project:
            return []
        below = {name: str(file.path) for file in self._ledgers if file.layer == "shipped" for name in file.weights}
        for one in self._load().plugins.values():
            shipped = [*one.weights, *(name for file in one.ledgers for name in file.weights)]
            below.update(dict.fromkeys(shipped, f"the plugin {one.name!r}"))
        return [
            f"{file.path} redefines {name}, {old}"
            for file in project
            for name, old in (
                *((name, f"of {below[name]}") for name in file.weights if name in below),
                *((name, f"as {to}") for name, to in file.aliases.items() if name in index.backbones),
            )
        ]

    def reload(self) -> None:
        """Read the registry files again now. A change of theirs is also noticed by itself, by size and time."""
        self._seen = None
        self._read()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        self._store = None  # what was pulled since is to be seen
        self._blobs = self.settings.blobs.is_dir()
        paths = (
            ledger.standard_paths(self.settings) if self._files is None else [("given", path) for path in self._files]
        )
        seen = tuple(paths), ledger.signature(path for _, path in paths)
        if seen != self._seen:
            self._ledgers = [ledger.read(path, layer) for layer, path in paths]
            self._seen, self._index = seen, None

    def _load(self) -> Host:
        if self._host is None:
            if _LOADING.get():
                raise UsageError(
                    "the registry was asked while plugins are being loaded",
                    why="A plugin's import and its zoo_* hooks give specs; those of others are not known yet.",
                )
            with self._lock:  # a second thread waits for the first
                if self._host is None:
                    token = _LOADING.set(True)
                    try:
                        self._host = self._loaded()
                    finally:
                        _LOADING.reset(token)
        return self._host

    def _loaded(self) -> Host:
        self._read()
        found = find(**self._sources, folder=self.settings.plugins_dir)
        for one in self._given:
            other = next((two for two in found if two.name == one.name and two.shadowed_by is None), None)
            if other is not None:
                one.shadowed_by = f"its name is taken by the {other.origin} plugin {other.where}"
            found.append(one)
        off = policy.disabled(found, self.settings, self._ledgers)
        self._required = policy.required_names(found, self._ledgers)
        host = Host(strict=self.settings.strict)
        with _allocating():
            host.load(found, off)
        return host

    def _current(self) -> Index:
        self._read()
        for name, path in self._required.items():
            loaded = self._load().plugins.get(name)
            if loaded is not None and loaded.state == "failed":
                raise PluginError(f"{path} requires the plugin {name!r}, which failed", why="; ".join(loaded.problems))
        return self._built()

    def _built(self) -> Index:
        if self._index is None:
            host, files = self._load(), self._all_files()
            with _allocating():
                self._index = Index(host.plugins.values(), files)
            for name, clash in self._index.clashes().items():
                host.note_clash(name, clash)
        return self._index

    def _all_files(self) -> list[ledger.LedgerFile]:
        shipped = [file for one in self._load().plugins.values() for file in one.ledgers]
        return sorted([*self._ledgers, *shipped], key=lambda file: file.rank)

    def _lookup(self) -> Lookup:
        return Lookup(self._current(), self._load())

    def _is_pulled(self, weights: Weights) -> bool:
        if self._store is None:
            # Without a blob nothing is pulled but files; not importing the store halves the start of `zoo list`.
            if not self._blobs and not weights.source.startswith("file:"):
                return False
            from zoo.weights.store import Store

            self._store = Store(self.settings)
        return bool(self._store.is_pulled(weights))


@contextmanager
def _allocating() -> Iterator[None]:
    """Many objects are made and none dropped: looking for garbage meanwhile would double the time of 100,000 specs."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@cache
def default() -> Registry:
    """The registry behind `zoo.list_backbones` and its kin, made when first asked."""
    return Registry()


def reset_default() -> None:
    """Forget the default registry; the next use reads the environment and finds plugins anew."""
    default.cache_clear()

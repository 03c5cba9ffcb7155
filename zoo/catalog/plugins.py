"""Load plugins so that none can break another: each import, hook and result is tried on its own.

A plugin that fails at any of these loses all it would have given, is reported once, and the rest goes on. Under
`Settings.strict` its failure is raised.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import pluggy

from zoo.catalog import hookspecs
from zoo.catalog.discover import Candidate
from zoo.catalog.near import nearest
from zoo.catalog.spec import NAME, Backbone, Strategy, Weights, check_backbone, check_strategy, check_weights
from zoo.errors import PluginError, RegistryError, ZooError

if TYPE_CHECKING:
    from zoo.catalog.ledger import LedgerFile

#: What a plugin's top module must not import: each costs a second or more.
HEAVY: Final = ("torch", "timm", "torchvision", "numpy", "transformers", "tensorflow", "jax")


@dataclass(frozen=True, slots=True)
class PluginReport:
    """What became of one plugin.

    Args:
        name: its name.
        version: of its distribution, if it has one.
        origin: "built-in", "entry-point", "object" or "file".
        state: "ok", "failed", "disabled" or "shadowed".
        gives: how many of what: {"backbones": 2, "weights": 1}; other hooks count as 1.
        problem: what is wrong, in one line; None if nothing.
        distribution: what was installed to get it.
        where: module, file or class.
        stage: where it failed: "import", "register" or a hook's name.
        traceback: of the failure.
        seconds: its import took.
    """

    name: str
    version: str | None
    origin: str
    state: str
    gives: Mapping[str, int]
    problem: str | None
    distribution: str | None = None
    where: str = ""
    stage: str | None = None
    traceback: str | None = None
    seconds: float = 0.0


@dataclass(slots=True)
class Loaded:
    """One candidate and what came of it."""

    candidate: Candidate
    state: str = "ok"
    problems: list[str] = field(default_factory=list)
    stage: str | None = None
    traceback: str | None = None
    seconds: float = 0.0
    #: hook name -> implementation
    hooks: dict[str, Any] = field(default_factory=dict)
    backbones: dict[str, Backbone] = field(default_factory=dict)
    strategies: dict[str, Strategy] = field(default_factory=dict)
    weights: dict[str, Weights] = field(default_factory=dict)
    ledgers: list[LedgerFile] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.candidate.name

    @property
    def builtin(self) -> bool:
        return self.candidate.origin == "built-in"

    def report(self) -> PluginReport:
        """The state as others may see it."""
        counts = {
            "backbones": len(self.backbones),
            "strategies": len(self.strategies),
            "weights": len(self.weights) + sum(len(file.weights) for file in self.ledgers),
            **{hook: 1 for hook in sorted(self.hooks) if hook not in _SPECS},
        }
        one = self.candidate
        return PluginReport(
            name=one.name,
            version=one.version,
            origin=one.origin,
            state=self.state,
            gives=MappingProxyType({kind: count for kind, count in counts.items() if count}),
            problem="; ".join(self.problems) or None,
            distribution=one.distribution,
            where=one.where,
            stage=self.stage,
            traceback=self.traceback,
            seconds=self.seconds,
        )


#: hook -> (type of its items, their check)
_SPECS: Final[dict[str, tuple[type, Callable[[Any], None]]]] = {
    "zoo_backbones": (Backbone, check_backbone),
    "zoo_strategies": (Strategy, check_strategy),
    "zoo_weights": (Weights, check_weights),
}
#: Every hook there is.
_HOOKS: Final = tuple(name for name in vars(hookspecs) if name.startswith("zoo_"))


class Host:
    """The plugins of one registry.

    Args:
        strict: raise a plugin's failure as `PluginError` instead of reporting it.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.strict: Final = strict
        #: By name; shadowed candidates are in `shadowed`.
        self.plugins: Final[dict[str, Loaded]] = {}
        self.shadowed: Final[list[Loaded]] = []
        self._manager: Final = pluggy.PluginManager("zoo")
        self._manager.add_hookspecs(hookspecs)

    # -- loading ---------------------------------------------------------------------------------------------------

    def add(self, candidate: Candidate, *, disabled: str | None = None) -> Loaded:
        """Load one plugin and gather what it gives.

        Args:
            candidate: where it is.
            disabled: why it must not be imported, if so.
        """
        loaded = Loaded(candidate)
        if candidate.shadowed_by is not None:
            loaded.state = "shadowed"
            loaded.problems.append(f"its name is taken by {candidate.shadowed_by}")
            self.shadowed.append(loaded)
            return loaded
        self.plugins[candidate.name] = loaded
        if disabled is not None:
            loaded.state = "disabled"
            loaded.problems.append(disabled)
            return loaded
        started = time.perf_counter()
        plugin = self._try(loaded, "import", candidate.load)
        loaded.seconds = time.perf_counter() - started
        if loaded.state == "ok":
            self._try(loaded, "register", self._register, loaded, plugin)
        for hook in _SPECS:
            if loaded.state == "ok" and hook in loaded.hooks:
                self._try(loaded, hook, self._gather, loaded, hook)
        return loaded

    def remove(self, name: str) -> Loaded | None:
        """Forget one plugin; None if there is none of that name."""
        loaded = self.plugins.pop(name, None)
        if loaded is not None and self._manager.has_plugin(name):
            self._manager.unregister(name=name)
        return loaded

    def _register(self, loaded: Loaded, plugin: Any) -> None:
        if not NAME.fullmatch(loaded.name):
            raise RegistryError(f"a plugin's name must match {NAME.pattern}")
        self._manager.register(plugin, name=loaded.name)
        unknown, marked = [], False
        for caller in self._manager.get_hookcallers(plugin) or ():
            for hook in caller.get_hookimpls():
                if hook.plugin is not plugin:
                    continue
                marked = True
                if hook.wrapper or hook.hookwrapper:
                    raise RegistryError(f"{caller.name} is marked as a wrapper; zoo hooks have none")
                if caller.has_spec():
                    loaded.hooks[caller.name] = hook
                elif not hook.optionalhook:
                    unknown.append(caller.name)
        if unknown:
            raise RegistryError("; ".join(map(_unknown_hook, unknown)))
        unmarked = [name for name in _own_functions(plugin, "zoo_") if name not in loaded.hooks]
        if not marked:
            named = f" ({', '.join(unmarked)} is not)" if unmarked else ""
            raise RegistryError(f"no function is marked with @zoo.hookimpl{named}")
        loaded.problems += [
            f"{name} is not marked with @zoo.hookimpl and is never called" for name in unmarked if name in _HOOKS
        ]

    def _gather(self, loaded: Loaded, hook: str) -> None:
        kind, check = _SPECS[hook]
        result = loaded.hooks[hook].function()
        if isinstance(result, kind) or not hasattr(result, "__iter__"):
            raise RegistryError(f"gave {type(result).__name__}, not an iterable of {kind.__name__}")
        items: list[Any] = list(result)
        if hook == "zoo_weights":
            items = self._read_ledgers(loaded, items)
        kept: dict[str, Any] = {}
        for item in items:
            if not isinstance(item, kind):
                raise RegistryError(f"gave {type(item).__name__} where {kind.__name__} was due")
            spec: Any = item
            check(spec)
            if spec.name in kept:
                raise RegistryError(f"gave the name {spec.name!r} twice")
            kept[spec.name] = _stamp(spec, loaded.name)
        if kind is Backbone:
            loaded.backbones = kept
        elif kind is Strategy:
            loaded.strategies = kept
        else:
            loaded.weights = kept

    def _read_ledgers(self, loaded: Loaded, items: list[Any]) -> list[Any]:
        from zoo.catalog import ledger

        paths = [Path(os.fspath(item)) for item in items if isinstance(item, str | os.PathLike)]
        loaded.ledgers = [ledger.read(path, "plugin", plugin=loaded.name) for path in paths]
        return [item for item in items if not isinstance(item, str | os.PathLike)]

    # -- calling ---------------------------------------------------------------------------------------------------

    def find_backbone(self, name: str, plugin: str | None = None) -> list[Backbone]:
        """Ask each plugin (or one) whether it can build `name`; what it gives is kept."""
        found = []
        for loaded in list(self.plugins.values()):
            if "zoo_find_backbone" in loaded.hooks and plugin in (None, loaded.name):
                spec = self._try(loaded, "zoo_find_backbone", self._ask, loaded, name)
                if spec is not None:
                    loaded.backbones[name] = spec
                    found.append(spec)
        return found

    def _ask(self, loaded: Loaded, name: str) -> Backbone | None:
        spec = _call(loaded.hooks["zoo_find_backbone"], {"name": name})
        if spec is None:
            return None
        if not isinstance(spec, Backbone):
            raise RegistryError(f"gave {type(spec).__name__} where Backbone or None was due")
        check_backbone(spec)
        if spec.name != name:
            raise RegistryError(f"was asked for {name!r} and gave {spec.name!r}")
        return _stamp(spec, loaded.name)

    def tell(self, hook: str, **arguments: Any) -> None:
        """Call a hook of every plugin that has it. A plugin that fails is reported once and not told this again.

        What it prints goes to stderr: stdout is for data.
        """
        for loaded in list(self.plugins.values()):
            if hook in loaded.hooks:
                self._try(loaded, hook, _call, loaded.hooks[hook], arguments, told=True)

    def fetchers(self) -> list[tuple[str, Callable[[Weights, Path], bool]]]:
        """(plugin, function) of every `zoo_fetch`. The function is true when it wrote the target.

        It raises `PluginError`, or the plugin's own `ZooError`, when the plugin fails.
        """
        return [(one.name, self._fetcher(one)) for one in self.plugins.values() if "zoo_fetch" in one.hooks]

    def _fetcher(self, loaded: Loaded) -> Callable[[Weights, Path], bool]:
        def fetch(weights: Weights, target: Path) -> bool:
            try:
                with contextlib.redirect_stdout(sys.stderr):
                    return bool(_call(loaded.hooks["zoo_fetch"], {"weights": weights, "target": target}))
            except ZooError:
                raise
            except (Exception, SystemExit) as error:
                raise PluginError(
                    f"plugin {loaded.name!r} failed to fetch {weights.source}", why=_sentence(error)
                ) from error

        return fetch

    # -- isolation -------------------------------------------------------------------------------------------------

    def _try(
        self, loaded: Loaded, stage: str, function: Callable[..., Any], *arguments: Any, told: bool = False
    ) -> Any:
        printed = io.StringIO()
        heavy = _heavy()
        try:
            with contextlib.redirect_stdout(sys.stderr if told else printed):
                return function(*arguments)
        except (Exception, SystemExit) as error:
            self._fail(loaded, stage, error)
            return None
        finally:
            if printed.getvalue():
                loaded.problems.append(f"printed to stdout at {stage}, which is for data")
            if not told and (more := _heavy() - heavy):
                loaded.problems.append(f"imported {', '.join(sorted(more))} at {stage}; a plugin's top module is light")

    def _fail(self, loaded: Loaded, stage: str, error: BaseException) -> None:
        import traceback

        loaded.hooks.pop(stage, None)
        if loaded.state == "ok":
            loaded.state, loaded.stage = "failed", stage
            loaded.traceback = "".join(traceback.format_exception(error))
        loaded.problems.insert(0, f"{stage}: {_sentence(error)}")
        if stage in ("import", "register", *_SPECS):
            for batch in (loaded.hooks, loaded.backbones, loaded.strategies, loaded.weights, loaded.ledgers):
                batch.clear()
            if self._manager.has_plugin(loaded.name):
                self._manager.unregister(name=loaded.name)
        if self.strict:
            raise PluginError(f"plugin {loaded.name!r} failed at {stage}", why=_sentence(error)) from error

    # -- reporting -------------------------------------------------------------------------------------------------

    def reports(self) -> list[PluginReport]:
        """One for each plugin, by name."""
        everyone = [*self.plugins.values(), *self.shadowed]
        return [loaded.report() for loaded in sorted(everyone, key=lambda one: (one.name, one.state == "shadowed"))]

    def absent(self) -> Iterator[Loaded]:
        """The plugins that give nothing because they failed or are disabled."""
        return (one for one in self.plugins.values() if one.state in ("failed", "disabled"))


def _stamp(spec: Any, plugin: str) -> Any:
    # In place while unstamped: a copy of each of 100,000 frozen specs would cost half a second.
    if spec.plugin == "":
        object.__setattr__(spec, "plugin", plugin)
    elif spec.plugin != plugin:
        from dataclasses import replace

        return replace(spec, plugin=plugin)
    return spec


def _call(hook: Any, arguments: Mapping[str, Any]) -> Any:
    return hook.function(*(arguments[name] for name in hook.argnames))


def _heavy() -> set[str]:
    return {name for name in HEAVY if name in sys.modules}


def _sentence(error: BaseException) -> str:
    if isinstance(error, ZooError):
        return error.message
    if isinstance(error, SystemExit):
        return f"called sys.exit({error.code!r})"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _unknown_hook(name: str) -> str:
    near = nearest(name, _HOOKS, 1)
    return f"unknown hook {name}" + (f" (did you mean {near[0]}?)" if near else "")


def _own_functions(plugin: Any, prefix: str) -> list[str]:
    import inspect

    names = (name for name in dir(plugin) if name.startswith(prefix))
    return [name for name in names if inspect.isroutine(inspect.getattr_static(plugin, name, None))]

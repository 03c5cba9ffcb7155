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
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pluggy

from zoo import __version__
from zoo.catalog import hookspecs
from zoo.catalog.discover import Candidate
from zoo.catalog.loaded import SPECS, Loaded, PluginReport
from zoo.catalog.near import nearest
from zoo.catalog.spec import NAME, Backbone, Strategy, Weights, check_backbone
from zoo.errors import PluginError, RegistryError, ZooError

if TYPE_CHECKING:
    from zoo.catalog.ledger import LedgerFile
    from zoo.catalog.watch import Watch

#: What a plugin's top module must not import: each costs a second or more.
HEAVY: Final = ("torch", "timm", "torchvision", "numpy", "transformers", "tensorflow", "jax")


#: A plugin that takes this many seconds for its import, or for one hook, is named on stderr.
DEADLINE: Final = 5.0
#: Specs of one kind that one plugin may give.
MOST: Final = 1_000_000
#: Characters of an error that are shown in one line.
_LINE: Final = 500
#: Hooks called after loading: one that fails costs the plugin that hook, not what it gave.
_TOLD: Final = ("zoo_find_backbone", "zoo_composed", "zoo_epoch_end")
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
        self._watch: Watch | None = None

    # -- loading ---------------------------------------------------------------------------------------------------

    def load(self, candidates: Iterable[Candidate], disabled: Mapping[str, str]) -> None:
        """Load plugins, and say on stderr which one is waited for when it takes long.

        Args:
            candidates: where they are.
            disabled: name of each that must not be imported -> why.
        """
        candidates = tuple(candidates)
        with self._watching(any(one.origin != "built-in" for one in candidates)):
            for one in candidates:
                self.add(one, disabled=disabled.get(one.name))

    def add(self, candidate: Candidate, *, disabled: str | None = None) -> Loaded:
        """Load one plugin and gather what it gives.

        Args:
            candidate: where it is.
            disabled: why it must not be imported, if so.
        """
        loaded = Loaded(candidate)
        if candidate.shadowed_by is not None:
            loaded.state = "shadowed"
            self.shadowed.append(loaded)
            if disabled is None:
                self._object(loaded, "find", candidate.shadowed_by)
            else:
                loaded.add_problem("find", candidate.shadowed_by)
            return loaded
        self.plugins[candidate.name] = loaded
        if disabled is not None:
            loaded.state = "disabled"
            loaded.problems.append(disabled)
            return loaded
        self._try(loaded, "find", _check_found, candidate)
        if loaded.state == "ok":
            self._try(loaded, "requires", _check_zoo, candidate)
        if loaded.state == "ok":
            started = time.perf_counter()
            plugin = self._try(loaded, "import", candidate.load)
            loaded.seconds = time.perf_counter() - started
        if loaded.state == "ok":
            self._try(loaded, "register", self._register, loaded, plugin)
        for hook in SPECS:
            if loaded.state == "ok" and hook in loaded.hooks:
                self._try(loaded, hook, self._gather, loaded, hook)
        return loaded

    def remove(self, name: str) -> Loaded | None:
        """Forget one plugin; None if there is none of that name."""
        loaded = self.plugins.pop(name, None)
        if loaded is not None and self._manager.has_plugin(name):
            self._manager.unregister(name=name)
        return loaded

    def note_clash(self, name: str, text: str) -> None:
        """Note that specs of a plugin have names that others' have too."""
        self._object(self.plugins[name], "names", text)

    def _register(self, loaded: Loaded, plugin: Any) -> None:
        self._manager.register(plugin, name=loaded.name)
        unknown, marked = [], False
        for caller in self._manager.get_hookcallers(plugin) or ():
            for hook in caller.get_hookimpls():
                if hook.plugin is not plugin:
                    continue
                marked = True
                if hook.wrapper or hook.hookwrapper:
                    raise RegistryError(f"{caller.name} is marked as a wrapper; zoo hooks have none")
                if caller.name in loaded.hooks:
                    raise RegistryError(f"{caller.name} is implemented twice; one of them would be lost")
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
        for name in unmarked:
            if name in _HOOKS:
                self._object(loaded, "register", f"{name} is not marked with @zoo.hookimpl and is never called")

    def _gather(self, loaded: Loaded, hook: str) -> None:
        kind, check = SPECS[hook]
        result = loaded.hooks[hook].function()
        if isinstance(result, kind) or not hasattr(result, "__iter__"):
            raise RegistryError(f"gave {type(result).__name__}, not an iterable of {kind.__name__}")
        kept: dict[str, Any] = {}
        try:
            for item in result:
                if not isinstance(item, kind):
                    if hook == "zoo_weights" and isinstance(item, str | os.PathLike):
                        loaded.ledgers.append(_read_ledger(item, loaded.name))
                        continue
                    raise RegistryError(f"gave {type(item).__name__} where {kind.__name__} was due")
                spec: Any = item
                check(spec)
                if spec.name in kept:
                    raise RegistryError(f"gave the name {spec.name!r} twice")
                kept[spec.name] = _stamp(spec, loaded.name)
                if len(kept) > MOST:
                    raise RegistryError(f"gave more than {MOST:,} and did not end")
        finally:
            if isinstance(result, Generator):
                result.close()  # here, where what its clean-up raises is the plugin's; else Python prints it at exit
        if kind is Backbone:
            loaded.backbones = kept
        elif kind is Strategy:
            loaded.strategies = kept
        else:
            loaded.weights = kept

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
                if hook not in loaded.hooks:
                    _say(f"The {loaded.candidate.known_as} failed and is told no more: {loaded.problems[-1]}")

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
                    f"{loaded.candidate.known_as} failed to fetch {weights.source}", why=_sentence(error)
                ) from error

        return fetch

    # -- isolation -------------------------------------------------------------------------------------------------

    def _try(
        self, loaded: Loaded, stage: str, function: Callable[..., Any], *arguments: Any, told: bool = False
    ) -> Any:
        """Call `function`; whatever it does stays with the plugin. None when it failed."""
        printed, heavy = io.StringIO(), _heavy()
        result: Any = None
        failure: BaseException | None = None
        try:
            with self._watched(loaded, stage), contextlib.redirect_stdout(sys.stderr if told else printed):
                result = function(*arguments)
        except KeyboardInterrupt as stop:
            if not (self.strict and self._is_late(loaded)):
                stop.add_note(f"The {loaded.candidate.known_as} was at {stage}. {_without(loaded.name)}")
                raise
            failure = stop
        except BaseException as error:  # SystemExit, and what test frameworks and event loops derive from it
            failure = error
        if self._is_late(loaded):
            self._object(loaded, stage, f"took more than {DEADLINE:g} s at {stage}", raised=failure)
        if not told:
            self._inspect(loaded, stage, printed, heavy, failure)
        if failure is not None:
            self._fail(loaded, stage, failure)
        return result

    def _inspect(
        self, loaded: Loaded, stage: str, printed: io.StringIO, heavy: set[str], failure: BaseException | None
    ) -> None:
        """Note what a plugin did on the side."""
        if printed.closed:
            self._object(loaded, stage, f"closed stdout at {stage}, which is not its own", raised=failure)
        elif printed.getvalue():
            self._object(loaded, stage, f"printed to stdout at {stage}, which is for data", raised=failure)
        if more := _heavy() - heavy:
            self._object(
                loaded,
                stage,
                f"imported {', '.join(sorted(more))} at {stage}; a plugin's top module is light",
                raised=failure,
            )

    def _object(self, loaded: Loaded, stage: str, text: str, *, raised: BaseException | None = None) -> None:
        """Note a fault that a plugin survives; under `strict` raise it, unless something worse is raised anyway."""
        loaded.add_problem(stage, text)
        if self.strict and raised is None:
            raise PluginError(f"{loaded.candidate.known_as} has a fault at {stage}", why=text)

    def _fail(self, loaded: Loaded, stage: str, error: BaseException) -> None:
        import traceback

        loaded.hooks.pop(stage, None)
        if loaded.state == "ok":
            loaded.state = "failed"
            loaded.traceback = "".join(traceback.format_exception(error))
            loaded.add_problem(stage, f"{stage}: {_sentence(error)}", first=True)
        else:
            loaded.add_problem(stage, f"{stage}: {_sentence(error)}")
        if stage not in _TOLD:
            for batch in (loaded.hooks, loaded.backbones, loaded.strategies, loaded.weights, loaded.ledgers):
                batch.clear()
            if self._manager.has_plugin(loaded.name):
                self._manager.unregister(name=loaded.name)
        if self.strict:
            raise PluginError(f"{loaded.candidate.known_as} failed at {stage}", why=_sentence(error)) from error

    @contextlib.contextmanager
    def _watching(self, needed: bool) -> Iterator[None]:
        if not needed:
            yield
            return
        from zoo.catalog.watch import Watch

        with Watch(_say, DEADLINE, interrupt=self.strict) as self._watch:
            try:
                yield
            finally:
                self._watch = None

    def _watched(self, loaded: Loaded, stage: str) -> contextlib.AbstractContextManager[None]:
        if self._watch is None or loaded.builtin:
            return contextlib.nullcontext()
        return self._watch.over(
            f"The {loaded.candidate.known_as} has been at {stage} for {DEADLINE:g} s, and everything waits for it. "
            f"Ctrl-C ends the wait. {_without(loaded.name)}"
        )

    def _is_late(self, loaded: Loaded) -> bool:
        return self._watch is not None and not loaded.builtin and self._watch.late

    # -- reporting -------------------------------------------------------------------------------------------------

    def reports(self) -> list[PluginReport]:
        """One for each plugin, by name."""
        return [loaded.report() for loaded in self.everyone()]

    def everyone(self) -> list[Loaded]:
        """Every plugin by name, the shadowed ones after the one that has their name."""
        return sorted((*self.plugins.values(), *self.shadowed), key=lambda one: (one.name, one.state == "shadowed"))

    def absent(self) -> Iterator[Loaded]:
        """The plugins that failed, are disabled or are shadowed: they may have had what nobody has."""
        return (one for one in (*self.plugins.values(), *self.shadowed) if one.state != "ok")


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
    """An error in one line; nothing in it can fail."""
    if isinstance(error, SystemExit):
        return f"called sys.exit({error.code!r})"
    try:
        text = " ".join(str(error.message if isinstance(error, ZooError) else error).split())
    except Exception:
        text = "its message cannot be read"
    text = text if len(text) <= _LINE else f"{text[:_LINE]} ..."
    if isinstance(error, ZooError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _check_found(candidate: Candidate) -> None:
    if candidate.fault is not None:
        raise RegistryError(candidate.fault)
    if not NAME.fullmatch(candidate.name):
        raise RegistryError(f"a plugin's name must match {NAME.pattern}")


def _check_zoo(candidate: Candidate) -> None:
    if candidate.dist is not None and (unmet := candidate.dist.unmet()) is not None:
        raise RegistryError(unmet)


def _read_ledger(path: str | os.PathLike[str], plugin: str) -> LedgerFile:
    from zoo.catalog import ledger

    return ledger.read(Path(os.fspath(path)), "plugin", plugin=plugin)


def _say(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)


def _without(name: str) -> str:
    return f"To go on without it: zoo -p no:{name} ..., or ZOO_DISABLE={name}."


def _unknown_hook(name: str) -> str:
    near = nearest(name, _HOOKS, 1)
    return (
        f"unknown hook {name} ({f'did you mean {near[0]}?' if near else f'a newer zoo than {__version__} may have it'})"
    )


def _own_functions(plugin: Any, prefix: str) -> list[str]:
    import inspect

    names = (name for name in dir(plugin) if name.startswith(prefix))
    return [name for name in names if inspect.isroutine(inspect.getattr_static(plugin, name, None))]

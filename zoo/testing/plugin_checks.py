"""What a plugin is held to before anything of it is built."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from zoo.catalog.discover import Candidate, find, given
from zoo.catalog.near import nearest
from zoo.catalog.plugins import Host, Loaded
from zoo.catalog.spec import Backbone, Weights
from zoo.errors import NotFoundError
from zoo.settings import Settings
from zoo.testing.findings import SkippedCheck, expect, fail, named


class PluginBench:
    """One plugin, loaded alone.

    Args:
        plugin: the name of an installed or built-in one, or a module, class or object with hooks.

    Raises:
        NotFoundError: no plugin has that name.
    """

    def __init__(self, plugin: Any) -> None:
        self.candidate = _named(plugin) if isinstance(plugin, str) else given(plugin)
        self.name = self.candidate.name
        host = Host()
        self.loaded: Loaded = host.add(self.candidate)
        self.plugin: Any = None
        if self.loaded.stage != "import":
            self.plugin = self.candidate.load()

    @property
    def builtin(self) -> bool:
        """Whether the zoo brings it."""
        return self.candidate.origin == "built-in"

    @cached_property
    def others(self) -> dict[str, set[str]]:
        """ "backbones" and "strategies": the names that the zoo's own plugins give."""
        from zoo.catalog.registry import Registry

        registry = Registry(entry_points=False, files=())
        return {
            "backbones": {spec.name for spec in registry.backbones()},
            "strategies": {spec.name.replace("_", "-") for spec in registry.strategies()},
        }

    @cached_property
    def import_facts(self) -> dict[str, Any]:
        """What importing it in a fresh process does; see `zoo.testing.import_probe`."""
        module, folder = self._module()
        done = subprocess.run(
            [sys.executable, "-P", "-m", "zoo.testing.import_probe", module, folder],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        try:
            facts: dict[str, Any] = json.loads(done.stderr.rsplit("\n", 2)[-2])
        except (IndexError, ValueError):
            fail(
                f"the import ended the process with exit code {done.returncode}",
                "Do nothing at import: keep the top module to specs.",
            )
        return facts

    def _module(self) -> tuple[str, str]:
        """The module's name, and the folder it needs on `sys.path` ("" = none)."""
        one = self.candidate
        if one.origin == "file":
            path = Path(one.where)
            return path.stem, str(path.parent)
        if one.origin in ("built-in", "entry-point"):
            return one.where.partition(":")[0], ""
        if hasattr(self.plugin, "__file__"):
            return str(self.plugin.__name__), ""
        raise SkippedCheck("an object has no module of its own to import; check the module that is installed")


def _named(name: str) -> Candidate:
    found = {one.name: one for one in find(folder=Settings().plugins_dir) if one.shadowed_by is None}
    if name not in found:
        near = nearest(name, found)
        raise NotFoundError(
            f"no plugin called {name!r}",
            hint=f"Did you mean {' or '.join(near)}?" if near else "Install it (pip install -e .), or give its module.",
        )
    return found[name]


def light_import(bench: PluginBench) -> None:
    """Its top module, and listing its specs, import no heavy library: `zoo list` imports every plugin."""
    facts = bench.import_facts
    if facts["error"]:
        fail(f"it cannot be imported: {facts['error']}", "Mend its top module; `zoo plugins` shows the same.")
    expect(
        not facts["heavy"],
        f"importing it imports {', '.join(facts['heavy'])}",
        'Move that into the module that builds, and name it by a string: build="package.module:function".',
    )


def no_requests(bench: PluginBench) -> None:
    """Importing it and listing its specs asks the network for nothing."""
    asked = bench.import_facts["asked"]
    expect(
        not asked,
        f"importing it asks the network for {', '.join(asked[:3])}",
        "Open no connection at import or while listing; only zoo_fetch may reach out.",
    )


def silent(bench: PluginBench) -> None:
    """Importing it and listing its specs prints nothing to stdout."""
    printed = bench.import_facts["printed"]
    expect(
        not printed,
        f"importing it prints {printed[:60]!r} to stdout, which is for data",
        "Take the print away, or use logging.",
    )


def hooks(bench: PluginBench) -> None:
    """It loads; every hook is known and marked, and gives what it must."""
    loaded = bench.loaded
    elsewhere = ("; a plugin's top module is light", "printed to stdout")  # checks of their own
    problems = [text for text in loaded.problems if not any(words in text for words in elsewhere)]
    expect(
        loaded.state == "ok" and not problems,
        "; ".join(problems) or f"it is {loaded.state}",
        "Mend that hook: docs/plugins.md has every hook with its arguments.",
    )
    expect(
        loaded.hooks,
        "it implements no hook",
        "Mark a function of it with @zoo.hookimpl: zoo_backbones or zoo_strategies, for instance.",
    )


def names(bench: PluginBench) -> None:
    """No name of its is hidden by one of the zoo's own."""
    mine: dict[str, Mapping[str, Any]] = {"backbones": bench.loaded.backbones, "strategies": bench.loaded.strategies}
    for kind, specs in mine.items():
        hidden = [
            name for name in specs if (name.replace("_", "-") if kind == "strategies" else name) in bench.others[kind]
        ]
        expect(
            not hidden,
            f"the name {', '.join(hidden)} belongs to one of the zoo's own {kind}",
            f"Rename it; as it is, people must write {bench.name}/{''.join(hidden[:1])}.",
        )


def weights(bench: PluginBench) -> None:
    """Each set of weights it declares is for a backbone that exists and takes its options; files it ships are there."""
    loaded = bench.loaded
    declared = [*loaded.weights.values(), *(one for file in loaded.ledgers for one in file.weights.values())]
    for one in declared:
        short = one.backbone.rpartition("/")[2]
        spec = loaded.backbones.get(short)
        expect(
            spec is not None or short in bench.others["backbones"],
            f"the weights {one.name} are for the backbone {one.backbone}, which neither this plugin nor the zoo has",
            "Give that backbone from zoo_backbones, or correct `backbone`.",
        )
        if spec is not None:
            _fit(one, spec)


def _fit(weights: Weights, spec: Backbone) -> None:
    refused = sorted(set(weights.options) - set(spec.options))
    expect(
        not refused,
        f"the weights {weights.name} give the builder {', '.join(refused)}, which {spec.name} does not allow",
        f"Add it to options=(...) of the backbone {spec.name}, or take it from the weights.",
    )
    if weights.source.startswith("file:"):
        path = Path(weights.source.removeprefix("file:"))
        expect(
            path.is_file(),
            f"the weights {weights.name} are to lie in {path}, and do not",
            "Ship the file as package data of your distribution.",
        )


CHECKS = named((light_import, no_requests, silent, hooks, names, weights))

"""The contract that every plugin is held to, the zoo's own included; in pytest, or by `check`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any

from zoo.catalog.spec import Backbone, Strategy
from zoo.testing import plugin_checks
from zoo.testing.findings import Case, Finding, SkippedCheck, find_out

if TYPE_CHECKING:
    from zoo.testing.strategy_bench import Given


class PluginContract:
    """Checks of one plugin, one test each. Subclass it in a test file:

        class TestTiny(PluginContract):
            plugin = "tiny"

    Attributes:
        plugin: the plugin's entry-point name; or its module, or a class or object with hooks.
        runs: globs of the backbones that are built with memory and run. Of the others only the declared facts are
            compared, on torch's `meta` device. For plugins of many or large backbones.
        backbones: globs of the backbones that are looked at.
        given: strategy -> `Given(options=, fit=)`: what it needs and the kit does not know.
        skip: glob of a test's name ("backbone-tiny-batches", "*-gmacs") -> why it is not run.
    """

    plugin: Any = None
    backbones: Sequence[str] = ("*",)
    runs: Sequence[str] = ("*",)
    given: Mapping[str, Given] = {}
    skip: Mapping[str, str] = {}

    def example(self, spec: Backbone, rows: int) -> Any:
        """A batch of `rows` rows of what the backbone eats: a tensor, a tuple of tensors, or a mapping.

        Override it for what is not one tensor of floats (rows, *input_size).
        """
        from zoo.testing.backbone_bench import example

        return example(spec, rows)

    def cases(self) -> Iterator[Case]:
        """Every check of everything that the plugin gives."""
        if self.plugin is None:
            return
        bench = plugin_checks.PluginBench(self.plugin)
        for check, function in plugin_checks.CHECKS.items():
            if not (check == "names" and bench.builtin):
                yield Case("plugin", bench.name, check, partial(function, bench))
        last = _Last()
        for backbone in bench.loaded.backbones.values():
            if _any(self.backbones, backbone.name):
                yield from self._of_backbone(backbone, last)
        for strategy in bench.loaded.strategies.values():
            yield from self._of_strategy(strategy, bench.plugin, last)

    def _of_backbone(self, spec: Backbone, last: _Last) -> Iterator[Case]:
        from zoo.testing.backbone_bench import BackboneBench
        from zoo.testing.backbone_checks import NUMBER_CHECKS, SHAPE_CHECKS

        runs = _any(self.runs, spec.name)
        for check, function in {**SHAPE_CHECKS, **(NUMBER_CHECKS if runs else {})}.items():
            if check in ("channels", "gmacs") and (spec.input != "image" or (check == "gmacs" and spec.gmacs is None)):
                continue
            make = partial(BackboneBench, spec, self.example, runs=runs)
            yield Case("backbone", spec.name, check, partial(last.run, function, (spec.name, "backbone"), make))

    def _of_strategy(self, spec: Strategy, plugin: Any, last: _Last) -> Iterator[Case]:
        from zoo.testing.strategy_bench import StrategyBench
        from zoo.testing.strategy_checks import CHECKS, KINDS

        for check, function in CHECKS.items():
            if KINDS.get(check, spec.kind) == spec.kind:
                make = partial(StrategyBench, spec, plugin, self.given.get(spec.name))
                yield Case("strategy", spec.name, check, partial(last.run, function, (spec.name, "strategy"), make))

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Make one test of each case."""
        if "case" in metafunc.fixturenames:
            metafunc.parametrize("case", list(self.cases()), ids=str)

    def test_contract(self, case: Case) -> None:
        """One check of one thing."""
        import pytest

        __tracebackhide__ = True
        for pattern, reason in self.skip.items():
            if fnmatchcase(str(case), pattern):
                pytest.skip(reason)
        try:
            case.run()
        except SkippedCheck as reason:
            pytest.skip(str(reason))


def check(
    plugin: Any, *, only: str = "*", example: Callable[[Backbone, int], Any] | None = None, **attributes: Any
) -> Iterator[Finding]:
    """Hold a plugin to the contract without pytest, one finding at a time; nothing is raised for what it does.

    Args:
        plugin: as `PluginContract.plugin`.
        only: glob of the names of checks, e.g. "backbone-tiny-*" or "*-params".
        example: as `PluginContract.example`.
        attributes: `backbones`, `runs` and `given` of `PluginContract`.

    Raises:
        NotFoundError: no plugin has that name.
    """
    contract = PluginContract()
    contract.plugin = plugin
    if example is not None:
        attributes["example"] = example
    for name, value in attributes.items():
        setattr(contract, name, value)
    return (find_out(case) for case in contract.cases() if fnmatchcase(str(case), only))


class _Last:
    """Keeps the bench of the thing that was checked last: its network is built once, and only one is held."""

    def __init__(self) -> None:
        self.key: Any = None
        self.bench: Any = None

    def run(self, function: Callable[[Any], None], key: Any, make: Callable[[], Any]) -> None:
        if key != self.key:
            self.bench = None
            self.key, self.bench = key, make()
        function(self.bench)


def _any(patterns: Sequence[str], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)

"""What became of a plugin: as the host keeps it, and as others see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from zoo.catalog.discover import Candidate
from zoo.catalog.spec import Backbone, Strategy, Weights, check_backbone, check_strategy, check_weights

if TYPE_CHECKING:
    from zoo.catalog.ledger import LedgerFile

#: A hook that gives specs -> (type of its items, their check)
SPECS: Final[dict[str, tuple[type, Callable[[Any], None]]]] = {
    "zoo_backbones": (Backbone, check_backbone),
    "zoo_strategies": (Strategy, check_strategy),
    "zoo_weights": (Weights, check_weights),
}


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
        stage: where it failed, or else its first problem is: "find" (its metadata, its name, another of that name),
            "requires" (another zoo), "import", "register", a hook's name, or "names" (others have its specs' names).
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

    def _repr_html_(self) -> str:
        from zoo.catalog.tables import changed, facts_table

        facts = changed(self)
        return facts_table(f"Plugin {facts.pop('name')}", facts)


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

    def add_problem(self, stage: str, text: str, *, first: bool = False) -> None:
        """Note what is wrong; what was noted before is not noted again."""
        if text not in self.problems:
            self.problems.insert(0 if first else len(self.problems), text)
        if first or self.stage is None:
            self.stage = stage

    def report(self) -> PluginReport:
        """The state as others may see it."""
        counts = {
            "backbones": len(self.backbones),
            "strategies": len(self.strategies),
            "weights": len(self.weights) + sum(len(file.weights) for file in self.ledgers),
            **{hook: 1 for hook in sorted(self.hooks) if hook not in SPECS},
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

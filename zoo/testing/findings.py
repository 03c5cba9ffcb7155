"""How a check says what is wrong, and what the author must change."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any, NoReturn

from zoo.errors import ZooError


class ContractError(AssertionError):
    """A plugin breaks the contract.

    Args:
        what: what was found.
        change: what its author must change.
        who: the thing that was checked, for the message.
    """

    def __init__(self, what: str, change: str, who: str = "") -> None:
        super().__init__(f"{who}{what}\n{change}")
        self.what = what
        self.change = change


class SkippedCheck(Exception):  # noqa: N818  (nothing is wrong)
    """A check that means nothing here; its text says why."""


def fail(what: str, change: str) -> NoReturn:
    """Raise `ContractError`."""
    raise ContractError(what, change)


def expect(holds: Any, what: str, change: str) -> None:
    """Raise `ContractError` unless `holds`."""
    if not holds:
        raise ContractError(what, change)


@dataclass(frozen=True)
class Case:
    """One check of one thing.

    Args:
        kind: "plugin", "backbone" or "strategy".
        name: of the plugin, backbone or strategy.
        check: e.g. "num-features".
        function: raises `ContractError` where the check fails, `SkippedCheck` where it means nothing.
    """

    kind: str
    name: str
    check: str
    function: Callable[[], None]

    def __str__(self) -> str:
        return f"{self.kind}-{self.name}-{self.check}"

    def run(self) -> None:
        """Run it, without network.

        Raises:
            ContractError: it fails; every other error of the plugin's code is turned into one.
            SkippedCheck: it means nothing here.
        """
        from zoo.testing.offline import no_network

        __tracebackhide__ = True
        who = f"{self.kind} {self.name}: "
        printed = io.StringIO()
        with no_network() as asked:
            try:
                with redirect_stdout(printed):
                    self.function()
            except ContractError as error:
                raise ContractError(error.what, error.change, who) from error.__cause__
            except SkippedCheck:
                raise
            except (Exception, SystemExit) as error:
                if not asked:
                    what = error.message if isinstance(error, ZooError) else f"{type(error).__name__}: {error}"
                    change = "Mend what its traceback, above, names."
                    if isinstance(error, ZooError):
                        change = "\n".join(filter(None, (error.why, error.hint))) or change
                    raise ContractError(f"{self.check} failed with {what}", change, who) from error
        if asked:
            raise ContractError(
                f"{self.check} asked the network for {asked[0]}",
                "Let nothing but zoo_fetch reach out: declare weights in zoo_weights, and the core pulls them.",
                who,
            )
        if text := printed.getvalue():
            print(text, end="", file=sys.stderr)
            raise ContractError(
                f"{self.check} printed {text[:60]!r} to stdout, which is for data",
                "Take the print away, or use logging.",
                who,
            )


@dataclass(frozen=True)
class Finding:
    """What one check of one thing came to.

    Args:
        kind: "plugin", "backbone" or "strategy".
        name: of the plugin, backbone or strategy.
        check: e.g. "num-features".
        state: "ok", "failed" or "skipped".
        what: what was found, or why it was skipped.
        change: what the author must change.
    """

    kind: str
    name: str
    check: str
    state: str
    what: str = ""
    change: str = ""


def find_out(case: Case) -> Finding:
    """Run one case and say what it came to; nothing is raised."""
    state, what, change = "ok", "", ""
    try:
        case.run()
    except ContractError as error:
        state, what, change = "failed", error.what, error.change
    except SkippedCheck as reason:
        state, what = "skipped", str(reason)
    return Finding(case.kind, case.name, case.check, state, what, change)


def named(checks: tuple[Callable[..., None], ...]) -> dict[str, Callable[..., None]]:
    """Check functions by the names that people see: `num_features` is "num-features"."""
    return {check.__name__.replace("_", "-"): check for check in checks}

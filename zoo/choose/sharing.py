"""A ranking that several processes share through a folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from zoo.choose.candidates import Candidate, candidates
from zoo.choose.queue import Queue, open_queue
from zoo.choose.ranking import Ranked
from zoo.data.dataset import Split
from zoo.errors import IntegrityError, UsageError

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry

#: What must be the same for all who share a ranking, and what it is called in a message.
_COMPARED: Final = {
    "data": "DATA",
    "folds": "--folds",
    "seed": "--seed",
    "group_by": "--group-by",
    "halving": "--halving",
    "precision": "--precision",
    "zoo": "the version of zoo",
}


@dataclass(frozen=True)
class Trial:
    """One candidate on some rows: its figures, and the error of each held-out row."""

    candidate: Candidate
    row: Ranked
    errors: np.ndarray


class Attempts(Protocol):
    """Tries candidates."""

    def all(self, number: int, chosen: list[Candidate], part: Split, *, last: bool) -> list[Trial]:
        """The trials of round `number` on the rows of `part`, in the order of `chosen`; some may be left out."""

    def one(self, candidate: Candidate, part: Split) -> Trial | str:
        """One of them, or why it cannot be had here."""

    def say(self, text: str) -> None:
        """Tell the user."""


def join(
    folder: Path,
    patterns: list[str],
    chosen: list[Candidate],
    wanted: Mapping[str, Any],
    registry: Registry,
    alone: Attempts,
) -> tuple[list[Candidate], Attempts]:
    """Begin to share a ranking, or join one.

    Args:
        folder: of the queue.
        patterns: what the user gave.
        chosen: the candidates they stand for here. Elsewhere other weights may be on the disk, so that whoever gave the
            same patterns takes the candidates of who was first.
        wanted: what must be the same for all.
        registry: where candidates of others are looked up.
        alone: does what this process does.

    Raises:
        UsageError: it was begun otherwise; what differs is named.
    """
    listed = [{"weights": one.weights.name, "sha256": one.weights.sha256, "named": one.named} for one in chosen]
    queue, found = open_queue(folder, {**wanted, "asked": patterns, "candidates": listed})
    different = [f"{name}: {found.get(key)!r} there, {wanted[key]!r} now" for key, name in _COMPARED.items()
                 if found.get(key) != wanted[key]]  # fmt: skip
    there = _candidates(found, folder)
    if found.get("asked") == patterns:
        here = {one.weights.name: one for one in candidates([one["weights"] for one in there], registry)[0]}
        chosen = [dataclasses.replace(here[one["weights"]], named=bool(one["named"])) for one in there]
    names = [one.weights.name for one in chosen]
    if names != [one["weights"] for one in there]:
        different.append(f"-b: {' '.join(one['weights'] for one in there)} there, {' '.join(names)} now")
    else:
        different += [
            f"the sha256 of {mine.weights.name}: {other['sha256']} there, {mine.weights.sha256} now"
            for mine, other in zip(chosen, there, strict=True)
            if None not in (mine.weights.sha256, other["sha256"]) and mine.weights.sha256 != other["sha256"]
        ]
    if different:
        raise UsageError(
            f"the ranking in {folder} was begun otherwise, so this process cannot share it",
            why="; ".join(different),
            hint="Give what it was begun with, or choose another folder.",
        )
    return chosen, _Shared(queue, alone)


def _candidates(found: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    listed = found.get("candidates")
    if not isinstance(listed, list) or not all(
        isinstance(one, dict) and isinstance(one.get("weights"), str) and {"sha256", "named"} <= set(one)
        for one in listed
    ):
        raise IntegrityError(
            f"{folder} is damaged", why="its header lists no candidates", hint="Remove it, and begin again."
        )
    return listed


class _Shared:
    """Tries those candidates that nobody else tries, and takes the trials of the others."""

    def __init__(self, queue: Queue, alone: Attempts) -> None:
        self.queue, self.alone = queue, alone
        self.say = alone.say

    def all(self, number: int, chosen: list[Candidate], part: Split, *, last: bool) -> list[Trial]:
        by_name = {one.weights.name: one for one in chosen}
        reasons: dict[str, str] = {}

        def do(name: str) -> dict[str, Any] | None:
            trial = self.one(by_name[name], part)
            if isinstance(trial, str):
                reasons[name] = trial
                return None
            return {"row": asdict(trial.row), "errors": trial.errors.tolist()}

        results = self.queue.work(number, list(by_name), do, waiting=self._wait, again=last)
        trials = []
        for candidate, result in zip(chosen, results, strict=True):
            name = candidate.weights.name
            if not result.get("lacking"):
                trials.append(Trial(candidate, Ranked(**result["row"]), np.asarray(result["errors"], dtype=np.float64)))
            else:
                self.say(f"{name} is left out: {reasons.get(name) or 'nobody who shares this could have it'}")
        return trials

    def one(self, candidate: Candidate, part: Split) -> Trial | str:
        return self.alone.one(candidate, part)

    def _wait(self, names: list[str]) -> None:
        self.say(f"waiting for others, who are at {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}")

"""What a report rests on: a run's record, and what its data still say."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor

from zoo.adapt.again import find_again
from zoo.adapt.evaluation import Evaluation
from zoo.adapt.learner import judged
from zoo.adapt.source import NamedSource
from zoo.adapt.strategy import probabilities
from zoo.choose.audit import Audit, audit
from zoo.choose.guard import guard
from zoo.data.dataset import Data, Split
from zoo.errors import DataError
from zoo.report.feature_map import FeatureMap, chosen_rows, lay_out
from zoo.report.mistakes import Mistake, worst
from zoo.report.occlusion import Occlusion, occlude
from zoo.weights.store import Store

if TYPE_CHECKING:
    from zoo.adapt.learner import Learner

Progress = Callable[[str, int, int], None]
#: Rows above which an audit is not part of a report.
AUDITED: Final = 20_000


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a report shows.

    Attributes:
        evaluation: measured again where the data are there, else the recorded one.
        where: what it was measured on, in words.
        parity: how far the primary score that was measured again is from the recorded one; None where no row was.
        data: all of it; None where it is not there.
        split: the rows of the evaluation.
        mistakes: the worst of them.
        occlusions: (row, what its prediction rests on).
        map: of all rows of `data`, numbered through its splits.
        audit: of `data`.
        absent: what is left out and why, by section: "data", "audit", "map", "occlusion".
    """

    evaluation: Evaluation
    where: str
    parity: float | None = None
    data: Data | None = None
    split: Split | None = None
    outputs: np.ndarray | None = None
    mistakes: tuple[Mistake, ...] = ()
    occlusions: tuple[tuple[int, Occlusion], ...] = ()
    map: FeatureMap | None = None
    audit: Audit | None = None
    absent: Mapping[str, str] | None = None

    def place(self, split: Split, index: int) -> str:
        """Where a sample is, below the data's folder where it can be said so."""
        return self.shorter(split.location(index))

    def shorter(self, text: str) -> str:
        """Without the path of the data's folder."""
        if self.data is None or self.data.path is None:
            return text
        folder = self.data.path if self.data.path.is_dir() else self.data.path.parent
        return text.replace(f"{folder}{os.sep}", "")


def collect(
    learner: Learner,
    given: Any = None,
    *,
    guarded: bool,
    audited: bool,
    method: str | None,
    explain: int,
    skip_bad: bool,
    progress: Progress | None,
) -> Evidence:
    """Find the data, and measure, look and compare.

    Args:
        learner: fitted or loaded.
        given: data to report on instead of, or that is, the data of the fit; None = where the record says.
        guarded: compare with baselines, unless the record has a verdict on these rows.
        audited: audit the data.
        method: of the map of features, or None.
        explain: how many predictions are explained.
        skip_bad: go on without the samples of `given` that cannot be read.
        progress: called with (what, done, total).

    Raises:
        DataError: `given` does not fit the learner, or what a guard needs is not there.
        NotFoundError: `given` is nowhere.
    """
    recorded = learner.evaluation
    absent: dict[str, str] = {}
    data, split, train, why = _find(learner, given, skip_bad)
    own = train is not None
    if data is None or split is None:
        absent["data"] = why
        if guarded:
            raise DataError(f"a guard needs the data of the fit: {why}", hint="Say where it is: --data DATA.")
        return Evidence(recorded, f"{recorded.split}, as the fit recorded it", absent=absent)
    outputs = learner.outputs(split)
    found = judged(outputs, split, learner.task, split.name, detailed=True)
    if own:
        found = replace(found, guard=recorded.guard, beside=recorded.beside)
    if guarded and found.guard is None:
        found = replace(found, guard=guard(learner, split, outputs, train, progress=progress).as_json())
    audit_found = _audit(learner, data, audited, absent, progress)
    chances = probabilities(outputs, learner.task).numpy()
    wrong = tuple(worst(chances, np.asarray(split.targets), learner.task))
    return Evidence(
        found,
        f"{split.name} of {data.name}"
        + (", the rows that the fit reported on" if own else ", which is not the data of the fit"),
        abs(found.value - recorded.value) if own else None,
        data,
        split,
        chances,
        wrong,
        _explained(learner, split, chances, wrong, explain, absent, progress),
        _map(learner, data, audit_found, method, absent, progress),
        audit_found,
        absent,
    )


def numbered(data: Data) -> list[tuple[Split, int]]:
    """(split, index) of every row, in the order that `Evidence.map` counts them."""
    return [(split, index) for split in data.splits.values() for index in range(len(split))]


def _find(learner: Learner, given: Any, skip_bad: bool) -> tuple[Data | None, Split | None, Split | None, str]:
    """The data, the rows to evaluate, what was learned from where these are the fit's own; or why there are none."""
    place = given
    if given is not None:
        place = learner.open(given, skip_bad=skip_bad or bool(learner.call.get("skip_bad")))
    try:
        again = find_again(learner, place)
    except DataError as error:
        if place is None:
            return None, None, None, " ".join(filter(None, (error.message, error.why)))
        return place, place.held_out, None, ""
    if again.report is not None:
        return again.data, again.report, again.train, ""
    if place is None:
        return None, None, None, "the rows that the fit reported on lie elsewhere, or have changed since"
    return again.data, again.data.held_out, None, ""


def _audit(
    learner: Learner, data: Data, wanted: bool, absent: dict[str, str], progress: Progress | None
) -> Audit | None:
    if not wanted:
        absent["audit"] = "It was not asked for."
    elif len(data) > AUDITED:
        absent["audit"] = f"The data have {len(data):,} rows: zoo audit looks at them in its own time."
    else:
        return audit(
            data,
            _here(learner),
            accelerator=str(learner.placement.device),
            precision=learner.placement.precision,
            seed=learner.seed,
            registry=learner.registry,
            store=learner.store,
            progress=progress,
        )
    return None


def _here(learner: Learner) -> str | None:
    """The source weights, where they are on this disk: a report pulls nothing."""
    source = learner.source
    if not isinstance(source, NamedSource) or source.weights is None:
        return None
    known = [one for one in learner.registry.weights_of(source.spec) if one.name == source.weights.name]
    return known[0].name if known and Store(learner.registry.settings).is_pulled(known[0]) else None


def _map(
    learner: Learner,
    data: Data,
    found: Audit | None,
    method: str | None,
    absent: dict[str, str],
    progress: Progress | None,
) -> FeatureMap | None:
    if method is None:
        absent["map"] = "It was not asked for."
        return None
    starts = dict(zip(data.splits, np.cumsum([0, *map(len, data.splits.values())]), strict=False))
    suspects = [int(starts[one["split"]]) + one["index"] for one in found.label_suspects] if found else []
    rows = chosen_rows(len(data), suspects, learner.seed)
    features: list[Tensor] = []
    told = (lambda done, total: progress("map", done, total)) if progress else None
    for name, split in data.splits.items():
        inside = rows[(rows >= starts[name]) & (rows < starts[name] + len(split))] - starts[name]
        if len(inside):
            part = split.subset(inside)
            features.append(learner.store.features(learner.model.backbone, part, learner.placement, progress=told))
    return lay_out(torch.cat(features), rows, len(data), method, learner.seed)


def _explained(
    learner: Learner,
    split: Split,
    chances: np.ndarray,
    wrong: tuple[Mistake, ...],
    explain: int,
    absent: dict[str, str],
    progress: Progress | None,
) -> tuple[tuple[int, Occlusion], ...]:
    """Half of them mistakes where there are enough, the others the surest of the different classes."""
    if explain == 0:
        absent["occlusion"] = "It was not asked for."
        return ()
    rows = [one.index for one in wrong[: explain // 2]]
    said, surest = chances.argmax(axis=1), np.argsort(-chances.max(axis=1), kind="stable")
    mistaken = {one.index for one in wrong}
    right = [int(i) for i in surest if int(i) not in mistaken]
    first = [next(i for i in right if said[i] == code) for code in dict.fromkeys(said[right].tolist())] if right else []
    rows += list(dict.fromkeys([*first, *right]))[: explain - len(rows)]
    found = []
    for done, row in enumerate(rows):
        one = occlude(learner, split, row)
        if one is None:
            absent["occlusion"] = "There are no pictures here, or too small ones."
            break
        found.append((row, one))
        if progress:
            progress("occlusion", done + 1, len(rows))
    return tuple(found)

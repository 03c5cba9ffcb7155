"""The rows of a fit, found again from what its record says and proved by their hashes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.adapt.rows import SPLITS, split_id
from zoo.data.dataset import Data, Split
from zoo.data.open import label_in, open_data
from zoo.data.split import choose, divide
from zoo.errors import DataError, NotFoundError, UsageError, ZooError

if TYPE_CHECKING:
    from zoo.adapt.learner import Learner


@dataclass(frozen=True, eq=False)
class Again:
    """What a fit saw.

    Attributes:
        data: the data set that was learned from, as it is now.
        train: the rows that were learned from.
        report: the rows that were reported on; None where they are elsewhere, or have changed.
    """

    data: Data
    train: Split
    report: Split | None


def find_again(learner: Learner, given: Any = None) -> Again:
    """Open a fit's data again and divide it as the fit did.

    Args:
        learner: fitted or loaded.
        given: the data, if it moved; None = the place that the record names.

    Raises:
        DataError: the data is nowhere, or not what the learner was fitted on.
    """
    call, record = learner.call, learner.record["data"]
    place = call.get("data") if given is None else given
    if place is None or isinstance(place, Mapping):
        why = "no record says where it is" if place is None else "it was given as objects, and is not at hand"
        raise DataError(
            f"the data that this learner was fitted on cannot be read: {why}",
            hint="Give it again: evaluate(test, guard=True, train=DATA) or --train DATA.",
        )
    try:
        data = open_data(
            place,
            kind=learner.kind,
            label=label_in(place, call.get("label")),
            task_classes=learner.task,
            skip_bad=bool(call.get("skip_bad")),
            group_by=call.get("group_by"),
        )
    except (NotFoundError, UsageError) as error:
        raise DataError(
            f"the data that this learner was fitted on cannot be read: {error.message}",
            hint="Say where it is now: --train DATA.",
        ) from error
    val = call.get("val")
    inside = val is None or (isinstance(val, str) and val in (*SPLITS, *data.splits))
    # Another data set to report on leaves all of train to be learned from, whatever it was.
    chosen = choose(data, val if inside else data, labels_per_class=call.get("labels_per_class"), seed=learner.seed)
    train = chosen.train
    if record["rows"].get("inner"):  # a choice was made on a fifth of them
        train = train.subset(divide(train, learner.seed)[0])
    if split_id(train) != record.get("split_ids", {}).get("train"):
        raise DataError(
            f"{data.name} is not the data that this learner was fitted on",
            why="The fingerprint of its training rows differs from the one in run.json.",
            hint="Give the data as it was: --train DATA; or fit again.",
        )
    report = chosen.report.renamed(chosen.report_name) if inside else _elsewhere(learner, val)
    same = report is not None and split_id(report) == record.get("split_ids", {}).get(report.name)
    return Again(data, train, report if same else None)


def learned_from(learner: Learner, given: Any, judged: Split) -> int:
    """How many rows of `judged`, a split of `given`, a learner was fitted on; 0 where that cannot be known.

    Args:
        learner: fitted or loaded.
        given: the data that is judged by. Where the run does not say which samples it learned from, as one that was
            pushed does not, rows are told apart only if this is what the fit was given.
        judged: the rows.
    """
    if learner.fitted is not None and learner.fitted.learned is not None:
        return learner.fitted.learned.count(judged)
    try:
        learned = set(find_again(learner, given).train.digests())
    except ZooError:  # other data
        return 0
    return sum(digest in learned for digest in judged.digests())


def _elsewhere(learner: Learner, place: Any) -> Split | None:
    """The reported rows of a data set of their own."""
    if isinstance(place, Mapping):
        return None
    try:
        data = learner.open(place, skip_bad=bool(learner.call.get("skip_bad")))
    except (NotFoundError, UsageError, DataError):
        return None
    held = data.held_out
    return held if held.name in SPLITS[1:] else held.renamed(SPLITS[1])

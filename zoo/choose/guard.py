"""Does the transfer help? A fitted learner against baselines that borrow nothing, row by row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor

from zoo.adapt import clusters
from zoo.adapt.again import find_again
from zoo.adapt.evaluation import accuracy_interval, few_groups
from zoo.adapt.solve import solve_head
from zoo.adapt.source import NamedSource
from zoo.catalog.tables import counted
from zoo.choose.compare import holm, paired_p, row_errors, too_few
from zoo.choose.raw import raw_outputs
from zoo.data.dataset import Split
from zoo.data.sound import SOUND
from zoo.data.table import KIND
from zoo.data.task import CLASSES, REGRESSION, Task

if TYPE_CHECKING:
    from zoo.adapt.learner import Learner

HELPS: Final = "helps"
NO_EVIDENCE: Final = "no-evidence"
NEGATIVE: Final = "negative-transfer"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Baseline:
    """What does without the pretrained network.

    Attributes:
        name: "majority"; "raw" (a classic model of the raw samples, see `zoo.choose.raw`);
            "random-weights" (the same architecture, untrained, with a probe); or "from-scratch".
        accuracy: on the same rows; None for regression.
        interval: 95 % interval of it, as an evaluation's.
        gain: mean over the rows of (its error - the learner's): accuracy points for classes.
        gain_interval: 95 % interval by paired bootstrap, of whole groups where rows have some.
        p_value: of equal errors (McNemar's exact test for classes, else a paired t test; where rows have groups, the
            exact test that flips whole groups), Holm-corrected.
    """

    name: str
    accuracy: float | None
    interval: tuple[float, float] | None
    gain: float
    gain_interval: tuple[float, float]
    p_value: float


@dataclass(frozen=True)
class Guard:
    """The verdict.

    Attributes:
        verdict: "helps" (better than every baseline, beyond chance), "negative-transfer" (some baseline is better,
            beyond chance) or "no-evidence".
        gain: over the best baseline: accuracy for classes, else mean error per row.
        interval: 95 % interval of the gain, by paired bootstrap.
        against: the best baseline.
        n: rows that all were judged by.
        groups: of how many groups they are, which are what is counted; None where no two rows are of one.
        baselines: all of them, best first.
        advice: what to do.
        notes: what could not be compared, and why; what makes the verdict less sure than it looks.
    """

    verdict: str
    gain: float
    interval: tuple[float, float]
    against: str
    n: int
    baselines: tuple[Baseline, ...]
    advice: str
    notes: tuple[str, ...] = ()
    groups: int | None = None

    def as_json(self) -> dict[str, Any]:
        """All of it, in types that JSON has, and `words`."""
        record = asdict(self)
        for one in record["baselines"]:
            one["interval"] = None if one["interval"] is None else list(one["interval"])
            one["gain_interval"] = list(one["gain_interval"])
        baselines, notes = list(record["baselines"]), list(self.notes)
        if self.groups is None:
            del record["groups"]
        return {**record, "interval": list(self.interval), "baselines": baselines, "notes": notes, "words": str(self)}

    def sentence(self) -> str:
        """The verdict in one line."""
        low, high = self.interval
        return (
            f"guard: {self.verdict}: {self.gain:+.3f} [{low:+.3f}, {high:+.3f}] against {self.against} "
            f"on {rows_of(self.n, self.groups)}. {self.advice}"
        )

    def __str__(self) -> str:
        lines = [self.sentence()]
        for one in self.baselines:
            seen = "" if one.accuracy is None else f"accuracy {one.accuracy:.3f}, "
            low, high = one.gain_interval
            lines.append(f"  {one.name}: {seen}gain {one.gain:+.3f} [{low:+.3f}, {high:+.3f}], p = {one.p_value:.2g}")
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


def rows_of(n: int, groups: int | None) -> str:
    """ "225 rows", or "225 rows of 12 groups"."""
    return counted(n, "row") + (f" of {counted(groups, 'group')}" if groups else "")


def guard(
    learner: Learner,
    test: Split,
    outputs: Tensor,
    train: Any = None,
    *,
    scratch: bool = False,
    progress: Progress | None = None,
) -> Guard:
    """Compare a fitted learner with baselines that learn from the same rows and borrow nothing.

    Args:
        learner: fitted or loaded.
        test: labelled rows that nobody learned from.
        outputs: the learner's, (N, C).
        train: the data it learned from, or the very rows; None = the place that its record names.
        scratch: train the same architecture from scratch too, at the strategy's default budget.
        progress: called with (what, done, total).

    Raises:
        DataError: the training data is not the one that the learner was fitted on, or is nowhere.
    """
    task, targets = learner.task, np.asarray(test.targets)
    learned = train if isinstance(train, Split) else find_again(learner, train).train
    notes: list[str] = []
    if leaked := len(set(learned.digests()) & set(test.digests())):
        notes.append(f"{leaked} of {len(test)} rows were learned from: this verdict is too good")
    if learned.groups is not None and test.groups is None:
        notes.append("groups of the rows that are judged by are not known: they are counted as independent")
    errors = row_errors(outputs.double(), targets, task)
    made = _baselines(learner, learned, test, scratch, notes, progress)
    p_values = holm([paired_p(errors, other, test.groups) for other in made.values()])
    baselines = [
        _baseline(name, errors, other, p, task, test.groups)
        for (name, other), p in zip(made.items(), p_values, strict=True)
    ]
    baselines.sort(key=lambda one: one.gain)
    best, groups = baselines[0], clusters.count(test.groups)
    if groups and groups < clusters.FEW:
        notes.append(few_groups(groups))
    unseen = too_few(groups, len(baselines))
    notes += [unseen] if unseen else []
    return Guard(
        verdict := _verdict(baselines),
        best.gain,
        best.gain_interval,
        best.name,
        len(test),
        tuple(baselines),
        _advice(verdict, best, rows_of(len(test), groups), bool(unseen), test.samples.kind),
        tuple(notes),
        groups,
    )


def _baselines(
    learner: Learner, train: Split, test: Split, scratch: bool, notes: list[str], progress: Progress | None
) -> dict[str, np.ndarray]:
    """Name -> error (N,) of each test row."""
    task, truth = learner.task, np.asarray(test.targets)
    codes = np.asarray(train.targets)
    found: dict[str, np.ndarray] = {"majority": row_errors(_constant(codes, task, len(test)), truth, task)}
    network = learner.model.backbone
    raw = raw_outputs(network, train, test, task)
    if raw is None:
        notes.append("raw: the input is no single array, or not one word, so that nothing can be learned from it")
    else:
        found["raw"] = row_errors(raw, truth, task)
    source = learner.source
    if isinstance(source, NamedSource):
        plain = NamedSource(
            source.spec, None, source.registry, in_chans=network.in_chans, tap=source.tap, seed=learner.seed
        )
        plain.reads_as(network)
        untrained = plain.network(progress).to(learner.placement.device)
        untrained.preprocessing = network.preprocessing
        x = [learner.store.features(untrained, part, learner.placement) for part in (train, test)]
        head = solve_head(x[0], codes, task, seed=learner.seed, groups=train.groups)
        with torch.no_grad():
            found["random-weights"] = row_errors(head(x[1].float()).double(), truth, task)
        if scratch:
            found["from-scratch"] = row_errors(_from_scratch(learner, train, test, progress), truth, task)
    else:
        notes.append("random-weights: a module of your own cannot be built anew")
    return found


def _constant(codes: np.ndarray, task: Task, n: int) -> Tensor:
    """Outputs of who knows the training targets and nothing of the rows."""
    if task.kind == CLASSES:
        counts = np.bincount(codes, minlength=task.outputs).astype(np.float64)
        return torch.from_numpy(counts).repeat(n, 1)
    mean = codes.reshape(len(codes), -1).mean(axis=0).astype(np.float64)
    return torch.from_numpy(mean if task.kind == REGRESSION else mean - 0.5).repeat(n, 1)


def _from_scratch(learner: Learner, train: Split, test: Split, progress: Progress | None) -> Tensor:
    from zoo.adapt.compose import compose
    from zoo.data.dataset import TRAIN, VAL, Data

    source = learner.source
    assert isinstance(source, NamedSource)
    fresh = compose(
        source.spec,
        "from-scratch",
        weights=None,
        accelerator=str(learner.placement.device),
        precision=learner.placement.precision,
        seed=learner.seed,
        in_chans=source.in_chans,
        registry=learner.registry,
        store=learner.store,
    )
    assert isinstance(fresh.source, NamedSource)
    fresh.source.reads_as(learner.model.backbone)
    parts = {TRAIN: train.renamed(TRAIN), VAL: test.renamed(VAL)}
    fresh.fit(Data("guard", learner.task, parts, divided=True), progress=progress)
    return fresh.outputs(test).double()


def _baseline(
    name: str, errors: np.ndarray, other: np.ndarray, p: float, task: Task, groups: np.ndarray | None
) -> Baseline:
    right, known = other == 0, task.kind != REGRESSION
    return Baseline(
        name,
        float(right.mean()) if known else None,
        accuracy_interval(right, groups) if known else None,
        float((other - errors).mean()),
        clusters.mean_interval(other - errors, groups),
        p,
    )


def _verdict(baselines: list[Baseline]) -> str:
    if all(one.gain_interval[0] > 0 and one.p_value < clusters.LEVEL for one in baselines):
        return HELPS
    if any(one.gain_interval[1] < 0 and one.p_value < clusters.LEVEL for one in baselines):
        return NEGATIVE
    return NO_EVIDENCE


def _advice(verdict: str, best: Baseline, rows: str, unseen: bool, kind: str) -> str:
    if verdict == HELPS:
        return "Keep it."
    if unseen:
        return f"On {rows} nothing can be told of other groups: judge by more groups, or take what is simpler."
    half = (best.gain_interval[1] - best.gain_interval[0]) / 2
    if verdict == NO_EVIDENCE:
        return (
            f"On {rows} differences below {half:.3f} cannot be seen: judge by more rows, try another backbone "
            "(zoo rank), or take what is simpler."
        )
    raw = "a model on the raw numbers is enough"
    if kind == KIND:
        raw = "take boosted trees (scikit-learn's HistGradientBoosting), which are the raw baseline here"
    elif kind == SOUND.kind:
        raw = "logistic regression on the recordings' cepstra is enough"
    instead = {"from-scratch": "train from scratch (-s from-scratch)", "raw": raw}
    return f"{instead.get(best.name, best.name + ' is better')}; or try another backbone (zoo rank)."

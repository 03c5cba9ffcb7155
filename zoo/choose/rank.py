"""Which backbone? Cross-validated probes on shared features, with errors and ties that a reviewer would accept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from zoo import __version__
from zoo.adapt import clusters
from zoo.adapt.evaluation import evaluate, few_groups
from zoo.adapt.features import FeatureStore, shared_store
from zoo.adapt.source import NamedSource, kind_of
from zoo.adapt.targets import target_columns
from zoo.choose import compare
from zoo.choose.candidates import Candidate, candidates
from zoo.choose.compare import (
    first_alike,
    fold_of_rows,
    holm,
    nested_order,
    out_of_fold,
    paired_p,
    rounds,
    row_errors,
    too_few,
)
from zoo.choose.ranking import Ranked, Ranking
from zoo.choose.scores import h_score, knn_accuracy, leep, log_me
from zoo.choose.sharing import Attempts, Trial, join
from zoo.data.dataset import KINDS, Split, eats, expect_kind
from zoo.data.open import open_data
from zoo.data.split import choose
from zoo.data.task import CLASSES, MULTI_LABEL, Task
from zoo.errors import DownloadError, NotFoundError, UsageError
from zoo.models.accelerator import Placement
from zoo.models.accelerator import choose as choose_accelerator
from zoo.models.network import Network

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry

#: Called with (what, done, total).
Progress = Callable[[str, int, int], None]


def rank(
    backbones: str | Iterable[str],
    data: Any,
    *,
    accelerator: str = "auto",
    precision: str = "auto",
    seed: int = 0,
    folds: int = 5,
    halving: bool | None = None,
    many: bool = False,
    skip_bad: bool = False,
    queue: str | Path | None = None,
    label: str | None = None,
    group_by: str | None = None,
    registry: Registry | None = None,
    store: FeatureStore | None = None,
    progress: Progress | None = None,
    note: Callable[[str], None] | None = None,
) -> Ranking:
    """Compare pretrained backbones on the training rows of `data`. Rows that a fit would report on are not seen.

    Args:
        backbones: names and globs (see `zoo.choose.candidates`); none = all weights on this disk.
        data: what `fit` takes.
        accelerator, precision: as in `compose`.
        seed: of the folds.
        folds: of the cross-validation; the same for all candidates.
        halving: try all on part of the rows and let the better half go on, and all that a paired test cannot tell from
            the best, doubling the rows each round; None = from three candidates and 1,000 training rows on; False =
            never. Of more than 20,000 rows a seeded sample of so many takes part, and the notes say so.
        many: allow globs to pull more than 20 sets of weights.
        skip_bad: go on without samples that cannot be read.
        queue: a folder through which several processes, on machines that see it, share the candidates: each calls this
            with the same arguments, and all get the same ranking. None = this process does all.
        label: the column of the target, where the data have columns; None = the one named `label`.
        group_by: a column of the data; rows that have the same there are in one fold.
        registry: None = the default one.
        store: where features are kept; None = the store of this process.
        progress: called with (what, done, total).
        note: told at once what will be pulled and what was left out; `Ranking.notes` keeps it too.

    Returns:
        Rows, best first. Those that a paired test (McNemar's exact test, Holm-corrected, 5 %; with groups the exact
        test that flips whole groups) cannot tell from the best are marked as tied.

    Raises:
        NotFoundError: a name that matches nothing, or nothing that can be had offline.
        UsageError: nothing to compare, or a queue that was begun otherwise.
        DataError: data that cannot be learned from, or too few rows for the folds.
    """
    from zoo.catalog.registry import default

    if folds < 2:
        raise UsageError(f"folds is {folds}", hint="Give 2 or more; 5 is usual.")
    registry = registry or default()
    patterns = [backbones] if isinstance(backbones, str) else list(backbones)
    chosen, left_out = candidates(patterns, registry, many=many)
    placement = choose_accelerator(accelerator, precision)
    kinds = [kind_of(NamedSource(one.spec, one.weights, registry).preprocessing) for one in chosen]
    kind = kinds[0] if len(set(kinds)) == 1 else None
    opened = open_data(data, kind=kind, label=label, skip_bad=skip_bad, group_by=group_by)
    notes: list[str] = []

    def say(text: str) -> None:
        notes.append(text)
        if note:
            note(text)

    for text in (*left_out, *opened.notes):
        say(text)
    train = choose(opened, None, seed=seed).train
    assert train.task is not None
    fitting = [eats(one, train.samples.kind) for one in kinds]
    if not any(fitting):
        expect_kind(train.samples.kind, kinds[0], opened.name)
    if odd := [one.weights.name for one, fits in zip(chosen, fitting, strict=True) if not fits]:
        say(f"left out, as they do not take {KINDS[train.samples.kind]}: {', '.join(odd)}")
    chosen = [one for one, fits in zip(chosen, fitting, strict=True) if fits]
    for text in _alike(train):
        say(text)
    _say_pulls(chosen, say)
    trier = _Trier(train.task, placement, registry, store or shared_store(), seed, folds, progress)
    attempts: Attempts = _Alone(trier, say)
    if queue is not None:
        wanted = {
            "data": opened.fingerprint(),
            "folds": folds,
            "seed": seed,
            "group_by": group_by,
            "halving": halving,
            "precision": placement.precision,
            "zoo": __version__,
        }
        chosen, attempts = join(Path(queue), patterns, chosen, wanted, registry, attempts)
    rows = _race(train, chosen, trier, halving, say, attempts)
    if unseen := too_few(clusters.count(train.groups), len(rows) - 1) if len(rows) > 1 else "":
        say(unseen)
    measure = {CLASSES: "accuracy", MULTI_LABEL: "f1"}.get(train.task.kind, "r2")
    return Ranking(rows, data=opened.name, measure=measure, notes=notes)


def _alike(train: Split) -> list[str]:
    """What the user should know where rows are not independent."""
    found = []
    first = first_alike(train.digests())
    if copies := int((first != np.arange(len(first))).sum()):
        told = f"{copies:,} of {len(train):,} training rows are exact copies of others"
        if train.groups is None:
            found.append(f"{told}: they are in one fold, but tests count them as rows (zoo audit lists them)")
        elif (train.groups != train.groups[first]).any():
            found.append(f"{told}, some in other groups: scores are too good (zoo audit lists them)")
    groups = clusters.count(train.groups)
    if groups and groups < clusters.FEW:
        found.append(few_groups(groups))
    return found


def _say_pulls(chosen: list[Candidate], say: Callable[[str], None]) -> None:
    missing = [one for one in chosen if not one.pulled]
    if missing:
        size = sum(one.bytes_to_pull or 0 for one in missing)
        unknown = sum(one.bytes_to_pull is None for one in missing)
        sure = [f"{size / 1e6:,.0f} MB"] * (size > 0) + [f"{unknown} of unknown size"] * (unknown > 0)
        say(f"to pull: {', '.join(one.weights.name for one in missing)} ({' and '.join(sure)})")


def _race(
    train: Split,
    chosen: list[Candidate],
    trier: _Trier,
    halving: bool | None,
    say: Callable[[str], None],
    attempts: Attempts,
) -> list[Ranked]:
    """All candidates, best first; those dropped in an early round stand behind those that went further.

    Dropped is what is not in a round's better half and told from its best by the paired test, so that no tie is lost.
    """
    order = nested_order(np.asarray(train.targets), trier.task, trier.seed)[: compare.MOST]
    if len(order) < len(train):
        say(f"{len(order):,} of {len(train):,} training rows are ranked on, a seeded sample")
    behind: list[Ranked] = []
    sizes = rounds(len(order), len(chosen), halving)
    for number, size in enumerate(sizes):
        part = train.subset(np.sort(order[:size]))
        trials = _sorted(attempts.all(number, chosen, part, last=size == len(order)))
        if not trials:
            raise NotFoundError(
                "none of the candidates could be had",
                hint="Pull them when connected: zoo pull NAME; `zoo list --pulled`.",
            )
        judged = _judged(trials, part.groups)
        if size == len(order):
            return judged + behind
        half = max(2, math.ceil(len(trials) / 2))
        stays = [place < half or row.tied_with_best for place, row in enumerate(judged)]
        say(f"on {size} rows: {sum(stays)} of {len(trials)} candidates go on")
        behind = [row for row, stay in zip(judged, stays, strict=True) if not stay] + behind
        chosen = [trial.candidate for trial, stay in zip(trials, stays, strict=True) if stay]
    raise AssertionError("the last round has all rows")


class _Alone:
    """Tries all candidates in this process."""

    def __init__(self, trier: _Trier, say: Callable[[str], None]) -> None:
        self.trier, self.say = trier, say
        self.unreachable = False

    def all(self, number: int, chosen: list[Candidate], part: Split, *, last: bool) -> list[Trial]:
        """The trials of a round."""
        trials = []
        for candidate in chosen:
            trial = self.one(candidate, part)
            if isinstance(trial, Trial):
                trials.append(trial)
            else:
                self.say(f"{candidate.weights.name} is left out: {trial}")
        return trials

    def one(self, candidate: Candidate, part: Split) -> Trial | str:
        """Try one. Why, where only a glob brought it and it cannot be had."""
        if self.unreachable and not candidate.pulled and not candidate.named:
            return "the network failed before"
        try:
            return self.trier.attempt(candidate, part)
        except (NotFoundError, DownloadError) as error:
            if candidate.named:
                raise
            self.unreachable = self.unreachable or isinstance(error, DownloadError)
            return error.message


def _sorted(trials: list[Trial]) -> list[Trial]:
    return sorted(trials, key=lambda trial: (-trial.row.score, -trial.row.logme, trial.row.weights))


def _judged(trials: list[Trial], groups: np.ndarray | None) -> list[Ranked]:
    """The rows, with what the paired tests against the best say. With groups every row was held out once."""
    best = trials[0]
    adjusted = holm([paired_p(trial.errors, best.errors, groups) for trial in trials[1:]])
    others = [
        replace(trial.row, p_value=p, tied_with_best=p >= clusters.LEVEL)
        for trial, p in zip(trials[1:], adjusted, strict=True)
    ]
    return [replace(best.row, tied_with_best=True), *others]


@dataclass(frozen=True)
class _Trier:
    """Tries one candidate after the other on the same folds."""

    task: Task
    placement: Placement
    registry: Registry
    store: FeatureStore
    seed: int
    folds: int
    progress: Progress | None

    def attempt(self, candidate: Candidate, part: Split) -> Trial:
        """Features, a probe per fold, and the scores that need none."""
        began = time.perf_counter()
        weights, spec = candidate.weights, candidate.spec
        source = NamedSource(spec, weights, self.registry, seed=self.seed)
        network = source.network(self.progress).to(self.placement.device)
        features, speed = self._features(network, part, weights.name)
        targets = np.asarray(part.targets)
        fold = fold_of_rows(targets, self.task, self.folds, self.seed, part.groups, first_alike(part.digests()))
        held = fold >= 0
        outputs = out_of_fold(features, targets, self.task, fold, self.seed, part.groups)
        seen = evaluate(outputs[held], targets[held], self.task, split="train")
        errors = row_errors(outputs[held], targets[held], self.task)
        if self.task.kind == CLASSES:
            stderr = clusters.standard_error(errors, part.groups)
        else:
            parts = [fold == number for number in range(self.folds)]
            values = [evaluate(outputs[one], targets[one], self.task, split="train").value for one in parts]
            stderr = float(np.std(values, ddof=1)) / math.sqrt(len(values))
        return Trial(
            candidate,
            Ranked(
                backbone=spec.name,
                weights=weights.name,
                plugin=spec.plugin,
                score=seen.value,
                stderr=stderr,
                tied_with_best=False,
                p_value=None,
                rows=len(part),
                logme=log_me(features.double().numpy(), target_columns(features, targets, self.task).numpy()),
                **self._opinions(network, features, targets),
                published=weights.metrics.get("top1"),
                params=spec.params,
                license=weights.license,
                bytes_to_pull=candidate.bytes_to_pull,
                images_per_second=speed,
                seconds=round(time.perf_counter() - began, 3),
            ),
            errors,
        )

    def _features(self, network: Network, part: Split, name: str) -> tuple[Tensor, float | None]:
        """Features (N, D), and rows a second where any had to be computed."""
        computed, began = 0, time.perf_counter()

        def told(done: int, total: int) -> None:
            nonlocal computed
            computed = done
            if self.progress:
                self.progress(name, done, total)

        features = self.store.features(network, part, self.placement, progress=told)
        spent = time.perf_counter() - began
        return features, round(computed / spent, 1) if computed else None

    def _opinions(self, network: Network, features: Tensor, targets: np.ndarray) -> dict[str, float | None]:
        """The scores that need classes."""
        if self.task.kind != CLASSES:
            return dict.fromkeys(("h_score", "leep", "knn"))
        head = network.source_head
        return {
            "h_score": h_score(features.double().numpy(), targets),
            "leep": leep(self._source_probabilities(head, features), targets) if isinstance(head, nn.Linear) else None,
            "knn": knn_accuracy(features, targets),
        }

    def _source_probabilities(self, head: nn.Linear, features: Tensor) -> np.ndarray:
        """(N, Z) of the classifier that came with the weights, at its own features."""
        with torch.inference_mode():
            logits = head(features.to(self.placement.device)).float().cpu()
        return logits.double().softmax(dim=1).numpy()

"""A backbone and a strategy, composed: fit, evaluate, predict, save, publish."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from zoo.adapt import call
from zoo.adapt.evaluation import Evaluation, evaluate
from zoo.adapt.features import FeatureStore, shared_store, to_device
from zoo.adapt.fitting import solve
from zoo.adapt.fitting import train as train_model
from zoo.adapt.group import ALONE, Group, apart, join
from zoo.adapt.inputs import Inputs
from zoo.adapt.learned import Learned
from zoo.adapt.randomness import deterministic, seeded
from zoo.adapt.rows import Rows, gather
from zoo.adapt.source import ModuleSource, Source, kind_of
from zoo.adapt.strategy import ClosedForm, Context, Gradient, Model, probabilities
from zoo.adapt.underway import UnderWay, under_way
from zoo.catalog.spec import Strategy
from zoo.catalog.tables import facts_table
from zoo.data.dataset import Data, Split
from zoo.data.open import has_column, label_in, open_data
from zoo.data.preprocess import check_rows
from zoo.data.task import CLASSES, MULTI_LABEL, Task
from zoo.data.views import viewed
from zoo.errors import DataError, UsageError
from zoo.models.accelerator import Placement
from zoo.models.network import Network
from zoo.weights.pull import tell

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry

P = ParamSpec("P")
T = TypeVar("T")

#: Called with (what, done, total) while something long runs.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Fitted:
    """What `fit` made, or `zoo.load` read.

    Attributes:
        model: backbone and head, in evaluation mode, on the learner's device.
        task: kind and classes of the targets.
        evaluation: of the reported split.
        history: one dict per epoch; empty for closed forms.
        record: what `run.json` keeps about the data and the time spent.
        learned: the samples it was learned from; None where nobody kept them.
    """

    model: Model
    task: Task
    evaluation: Evaluation
    history: list[dict[str, Any]]
    record: dict[str, Any]
    learned: Learned | None = None


def _blaming(method: Callable[Concatenate[Learner, P], T]) -> Callable[Concatenate[Learner, P], T]:
    """What a plugin raises inside names it; see `zoo.catalog.blame`."""

    @functools.wraps(method)
    def wrapped(self: Learner, *args: P.args, **kwargs: P.kwargs) -> T:
        with self.registry.blaming(*(one.plugin for one in (self.source.spec, self.spec) if one is not None)):
            return method(self, *args, **kwargs)

    return wrapped


class Learner:
    """What `zoo.compose` gives. `model`, `task`, `evaluation`, `history` and `record` are there once it is fitted.

    Attributes:
        source: where the network comes from.
        strategy: the strategy object with its hyper-parameters.
        spec: the strategy's spec; None for an object of your own.
        placement: device and precision, and why.
        fitted: what the fit made; None before.
        notes: sentences the user should read.
        seen: what the last `evaluate` or `predict` noticed of its rows.
    """

    def __init__(
        self,
        source: Source,
        strategy: ClosedForm | Gradient,
        spec: Strategy | None,
        *,
        placement: Placement,
        seed: int,
        registry: Registry,
        store: FeatureStore | None = None,
    ) -> None:
        self.source = source
        self.strategy = strategy
        self.spec = spec
        self.placement = placement
        self.seed = seed
        self.registry = registry
        self.store = store or shared_store(registry.settings)
        self.batch_size: int | None = None
        self.fitted: Fitted | None = None
        #: What composing noticed; every fit begins its notes with it.
        self.advice: list[str] = []
        #: What `compose` and `fit` were given, in words (see `zoo.adapt.call`).
        self.call: dict[str, Any] = {}
        #: The folder of a fit that was given `resume`; `save` ends it there.
        self.run: Path | None = None
        #: The folder that the last `fit` was given as `resume`, from its beginning on.
        self.folder: Path | None = None
        #: The command that goes on with a fit of this learner, without `-o RUN`; None = `zoo fit --resume`.
        self.again: str | None = None
        #: run.json of the run it was loaded from.
        self.saved: Mapping[str, Any] | None = None
        self.notes: list[str] = []
        self.seen: list[str] = []
        #: The processes that a fit under way shares its work with; see `zoo.adapt.group`.
        self.group: Group = ALONE
        #: How many processes the fit had, and whether this is the one that writes.
        self.processes = 1
        self.leads = True

    # -- learning --------------------------------------------------------------------------------------------------

    @_blaming
    def fit(
        self,
        train: Any,
        val: Any = None,
        target: Any = None,
        *,
        resume: str | Path | None = None,
        labels_per_class: int | None = None,
        ignore_target_labels: bool = False,
        skip_bad: bool = False,
        guard: bool = False,
        batch_size: int | None = None,
        label: str | None = None,
        group_by: str | None = None,
        progress: Progress | None = None,
    ) -> Learner:
        """Learn from data and report on rows that were not learned from.

        Args:
            train: a folder, a file of records (CSV, JSON lines, Parquet), `(X, y)`, a table in memory, a dataset, or
                the name of a built-in set (see `zoo.data.open.open_data`).
            val: another data set to report on, or the name of a split ("val", "test"). None = the `val` split, else a
                seeded stratified 20 % of the training rows.
            target: rows without labels, for strategies that use them; "rest" = the rows that `labels_per_class` set
                aside.
            resume: a run's folder. The fit is begun there, and keeps checkpoints as it goes; or it goes on from the
                newest whole one, and ends as if it had never been broken off. `save` to the same folder ends the
                run; one that is done already is loaded.
            labels_per_class: learn from this many labelled rows a class only.
            ignore_target_labels: accept a `target` that has labels, and never look at them.
            skip_bad: go on without the samples that cannot be read.
            guard: compare with baselines on the reported rows, as `evaluate` does; the record keeps the verdict.
            batch_size: rows of one forward pass when features are computed; None = chosen by the size of a sample.
            label: the column of the target, where the data have columns; None = the one named `label`. `evaluate` and
                `predict` remember it.
            group_by: a column of the training data; rows that have the same there are never divided between what is
                learned from and what is reported (see `zoo.data.open.open_data`). Another data set to report on must
                not share a group, if it has that column.
            progress: called with (what, done, total).

        Returns:
            This learner, fitted; `evaluation` holds the reported figures.

        Raises:
            DataError: the data cannot be learned from.
            TrainingError: the loss became non-finite, or a frozen tensor changed.
            UsageError: `resume` names a run that was begun with other choices or data.
        """
        began = time.perf_counter()
        self.batch_size = batch_size
        self.run = self.saved = None
        self.folder = None if resume is None else Path(resume)
        rows = gather(
            train,
            val,
            target,
            needs=self.needs,
            labels_per_class=labels_per_class,
            ignore_target_labels=ignore_target_labels,
            skip_bad=skip_bad,
            seed=self.seed,
            kind=self.kind,
            label=label,
            group_by=group_by,
            self_supervised=isinstance(self.strategy, Gradient) and self.strategy.self_supervised,
        )
        if isinstance(self.strategy, Gradient) and self.strategy.early_stop:
            rows = rows.hold_out(self.seed)
        if guard and rows.own_numbers:
            raise UsageError("a guard compares what is said of labels, and there are none", hint="Leave guard out.")
        self.call |= {
            "data": call.place(train),
            "val": call.place(val),
            "target": call.place(target),
            "labels_per_class": labels_per_class,
            "ignore_target_labels": ignore_target_labels,
            "skip_bad": skip_bad,
            "guard": guard,
            "batch_size": batch_size,
            "label": label,
            "group_by": group_by,
        }
        # Of the inner split nothing is learned, its columns' means included; targets play no part in this.
        self.source = self.source.fitted_on(rows.all)
        with self._together() as group:
            progress = progress if group.leads else None
            with group.in_turn():  # what is pulled is pulled once
                network = self.source.network(progress).to(self.placement.device)
            read = network.reader()
            noticed = [note for part in (rows.all, rows.report) for note in check_rows(read, part)]
            rows = rows.with_own_numbers(read)
            described = rows.describe()
            with self._under_way(resume if group.leads else None, network, rows, described) as run:
                if group.first(run is not None and run.done):
                    return self._take(Path(resume))  # type: ignore[arg-type]
                notes = [*self.advice, *self.source.notes, *rows.notes, *group.notes]
                notes += noticed
                with seeded(self.seed), deterministic():
                    model, history, facts, figures = self._learn(network, rows, notes, progress, run)
                outputs = self._outputs(model.eval(), rows.report, progress)
        evaluation = judged(outputs, rows.report, rows.task, rows.report_name)
        if figures:
            evaluation = replace(evaluation, beside=figures)
            notes += evaluation.warnings()
        facts["seconds"]["total"] = time.perf_counter() - began
        self.notes = [*notes, *self.store.said()]
        self.run = run.path if run else None
        learned = Learned.of(rows.train.digests())
        self.fitted = Fitted(model, rows.task, evaluation, history, {"data": described, **facts}, learned)
        if guard and self.leads:
            with apart():
                guarded = self._guarded(evaluation, rows.report, outputs, rows.train, False, progress)
            self.fitted = replace(self.fitted, evaluation=guarded)
        return self

    @contextmanager
    def _together(self) -> Iterator[Group]:
        """The processes of this fit, for as long as they work together."""
        self.group = join(self.placement.device)
        self.leads, self.processes = self.group.leads, self.group.size
        try:
            yield self.group
        finally:
            self.group = ALONE

    @contextmanager
    def _under_way(
        self, resume: str | Path | None, network: Network, rows: Rows, described: dict[str, Any]
    ) -> Iterator[UnderWay | None]:
        if resume is None:
            yield None
            return
        from zoo.adapt.describe import begin

        with under_way(Path(resume), begin(self, network, rows.task, described), again=self.again) as run:
            yield run

    def _take(self, run: Path) -> Learner:
        """Become what was saved there."""
        from zoo.adapt.saved import load

        own = self.source.module if isinstance(self.source, ModuleSource) else None
        found = load(
            run,
            backbone=own,
            accelerator=str(self.placement.device),
            precision=self.placement.precision,
            registry=self.registry,
        )
        self.fitted, self.notes = found.fitted, found.notes
        return self

    @property
    def kind(self) -> str:
        """The kind of raw samples that its backbone eats: "image", "audio", "text", "table", or "tensor"."""
        return kind_of(self.source.preprocessing)

    @property
    def needs(self) -> frozenset[str]:
        """What the strategy must be given."""
        return frozenset(self.strategy.needs) | frozenset(self.spec.needs if self.spec else ())

    def _learn(
        self, network: Network, rows: Rows, notes: list[str], progress: Progress | None, run: UnderWay | None
    ) -> tuple[Model, list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
        passes: list[float] = []

        def timed(split: Split, what: str) -> Tensor:
            start = time.perf_counter()
            found = self._features(network, split, progress, what)
            passes.append(time.perf_counter() - start)
            return found

        def features(view: int = 0) -> tuple[Tensor, np.ndarray]:
            return timed(viewed(rows.train, view), "features"), _targets(rows.train)

        def inputs(which: str, most: int | None = None) -> Inputs:
            split = rows.unlabelled if which == "target" else rows.train
            return Inputs.of(network, split, self.placement, batch_size=self.batch_size, most=most)

        figures: dict[str, Any] = {}

        def beside(name: str, head: torch.nn.Module) -> None:
            outputs = self._outputs(Model(network, head.to(self.placement.device)), rows.report, progress)
            found = judged(outputs, rows.report, rows.task, rows.report_name)
            figures[name] = found.headline()

        resolved: dict[str, Any] = {}
        context = Context(
            task=rows.task,
            placement=self.placement,
            seed=self.seed,
            rows=len(rows.all),
            targets=rows.train.targets,
            groups=rows.train.groups,
            features=features,
            teacher=self._teacher(network, rows, notes, progress, resolved),
            resolved=resolved,
            target=(lambda: timed(rows.unlabelled, "target")) if len(rows.unlabelled) else None,
            inputs=inputs,
            beside=beside,
            source_head=network.source_head,
            pretrained=self.source.pretrained,
            notes=notes,
        )
        start = time.perf_counter()
        if isinstance(self.strategy, ClosedForm):
            model = solve(self, network, context)
            history: list[dict[str, Any]] = []
        else:
            model, history = train_model(self, network, rows, context, progress, run)
        spent = time.perf_counter() - start
        seconds = {"features": sum(passes), "fit": spent - sum(passes)}
        return model, history, {"seconds": seconds, "resolved": context.resolved, **context.facts}, figures

    def _teacher(
        self, network: Network, rows: Rows, notes: list[str], progress: Progress | None, resolved: dict[str, Any]
    ) -> Any:
        if "teacher" not in self.needs:
            return None
        from zoo.adapt.teacher import Asked, resolve_teacher

        teacher = resolve_teacher(
            getattr(self.strategy, "teacher", None), registry=self.registry, placement=self.placement, store=self.store
        )
        notes += teacher.notes(rows.task)
        resolved["taught_by"] = teacher.made_of
        asked = Asked(network.preprocessing, seed=self.seed, group=self.group, progress=progress)
        if isinstance(self.strategy, Gradient):
            strategy = self.strategy
            asked = replace(asked, policy=strategy.augmentation(), view=strategy.view, cache=strategy.caches_teacher())
        return teacher.on(rows.all, rows.task, asked)

    def _features(
        self, network: Network, split: Split, progress: Progress | None, what: str, *, keep: bool = True
    ) -> Tensor:
        told = (lambda done, total: progress(what, done, total)) if progress else None
        return self.store.features(
            network, split, self.placement, batch_size=self.batch_size, keep=keep, progress=told, group=self.group
        )

    # -- using -----------------------------------------------------------------------------------------------------

    @_blaming
    def evaluate(
        self,
        test: Any,
        guard: bool = False,
        *,
        train: Any = None,
        scratch: bool = False,
        label: str | None = None,
        skip_bad: bool = False,
        group_by: str | None = None,
        progress: Progress | None = None,
    ) -> Evaluation:
        """Evaluate on labelled data: its `test` split, else `val`, else all of it.

        Args:
            test: labelled data.
            guard: also compare with baselines that borrow nothing (see `zoo.choose.guard`); the verdict is in
                `Evaluation.guard`.
            train: for the guard: the data this learner was fitted on; None = where its record says.
            scratch: for the guard: train the architecture from scratch too.
            label: the column of the target; None = the one that `fit` was given.
            skip_bad: go on without the samples that cannot be read.
            group_by: a column of `test`; rows that have the same there are not counted as independent. None = the one
                that the fit was given, where `test` has it.
            progress: called with (what, done, total).

        Raises:
            DataError: labels that this learner does not know, or training data that has changed.
        """
        split = self.open(test, label=label, skip_bad=skip_bad, group_by=group_by).held_out
        self._look_at(split, said=not isinstance(test, (Data, Split)))
        outputs = self._outputs(self.model, split, progress)
        found = judged(outputs, split, self.task, split.name, detailed=True)
        return self._guarded(found, split, outputs, train, scratch, progress) if guard else found

    def open(self, data: Any, *, label: str | None = None, skip_bad: bool = False, group_by: str | None = None) -> Data:
        """Labelled data as this learner sees them: of its kind, for its task, target and groups in the fit's columns.

        Args:
            data, skip_bad: as in `open_data`.
            label: the column of the target; None = the one that `fit` was given.
            group_by: the column of the groups; None = the one that `fit` was given, where `data` have it.
        """
        label = label or label_in(data, self.call.get("label"))
        column = self.call.get("group_by")
        if group_by is None and column is not None and has_column(data, column):
            group_by = column
        return open_data(
            data, kind=self.kind, label=label, task_classes=self.task, skip_bad=skip_bad, group_by=group_by
        )

    def _guarded(
        self, found: Evaluation, test: Split, outputs: Tensor, train: Any, scratch: bool, progress: Progress | None
    ) -> Evaluation:
        from zoo.choose.guard import guard

        return replace(found, guard=guard(self, test, outputs, train, scratch=scratch, progress=progress).as_json())

    def predict(self, x: Any) -> np.ndarray:
        """Predict raw samples.

        Args:
            x: arrays, tensors, PIL images, paths, a folder, a file of records; for a backbone of texts, texts in a
                list; for one of tables, rows as dicts, or a DataFrame. Of data that names splits, what `evaluate`
                uses. uint8 arrays (N, H, W[, C]) are raw
                samples and are preprocessed; floating ones pass unchanged.

        Returns:
            (N,) class names; (N, C) of 0/1 for several labels; (N,) or (N, C) numbers for regression.
        """
        task = self.task
        found = self.predict_proba(x)
        if task.kind == CLASSES:
            return np.asarray(task.classes)[found.argmax(axis=1)]
        if task.kind == MULTI_LABEL:
            return (found > 0.5).astype(np.int64)
        return found[:, 0] if found.shape[1] == 1 else found

    @_blaming
    def predict_proba(self, x: Any) -> np.ndarray:
        """(N, C) probabilities in the order of `classes`; for regression the numbers themselves."""
        model = self.model
        split = x if isinstance(x, Split) else self.unlabelled(x).held_out
        self._look_at(split, said=not isinstance(x, Split))
        return probabilities(self._outputs(model, split, None, keep=False), self.task).numpy()

    def _look_at(self, split: Split, *, said: bool) -> None:
        """Note what the reader notices of rows before they are read, and say it to those who did not open them."""
        self.seen = check_rows(self.model.backbone.reader(), split)
        for note in self.seen if said else ():
            tell(note)

    def unlabelled(self, x: Any, *, skip_bad: bool = False) -> Data:
        """Raw samples as this learner sees them: of its kind, without the column of its target."""
        label = label_in(x, self.call.get("label"))
        return open_data(x, kind=self.kind, label=label, labelled=False, skip_bad=skip_bad)

    def outputs(self, split: Split) -> Tensor:
        """(N, C) outputs of the rows of a split, on the CPU: logits, or numbers for regression."""
        return self._outputs(self.model, split, None)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the outputs."""
        return self.task.classes

    def _outputs(self, model: Model, split: Split, progress: Progress | None, *, keep: bool = True) -> Tensor:
        """(N, C) float32 outputs on the CPU; `keep` = the features may be kept on disk."""
        found = self._features(model.backbone, split, progress, "predict", keep=keep)
        with torch.inference_mode():
            return torch.cat(
                [model.head(to_device(part, self.placement)).float().cpu() for part in found.split(4096)]
            ).clone()

    # -- what the fit made -----------------------------------------------------------------------------------------

    def _fitted(self) -> Fitted:
        if self.fitted is None:
            raise UsageError("this learner is not fitted yet", hint="Call fit(train) first, or load a run.")
        return self.fitted

    @property
    def model(self) -> Model:
        """Backbone and head."""
        return self._fitted().model

    @property
    def task(self) -> Task:
        """Kind and classes of the targets."""
        return self._fitted().task

    @property
    def evaluation(self) -> Evaluation:
        """Of the reported split."""
        return self._fitted().evaluation

    @property
    def history(self) -> list[dict[str, Any]]:
        """One dict per epoch; empty for closed forms."""
        return self._fitted().history

    @property
    def record(self) -> dict[str, Any]:
        """What `run.json` keeps about the data and the time spent."""
        return self._fitted().record

    def summary(self) -> dict[str, Any]:
        """What `zoo fit --json` says of the fit."""
        return {
            "backbone": self.source.name,
            "weights": self.source.weights.name if self.source.weights else None,
            "strategy": self.strategy_name,
            "seed": self.seed,
            "metrics": self.evaluation.headline(),
            "trainable_params": self.record.get("trainable_params"),
            "seconds": self.record["seconds"],
            "device": str(self.placement.device),
            "precision": self.placement.precision,
            "processes": self.processes,
        }

    @property
    def strategy_name(self) -> str:
        """The strategy's name; for an object of your own its class."""
        return self.spec.name if self.spec else type(self.strategy).__name__

    # -- keeping ---------------------------------------------------------------------------------------------------

    def save(self, run: str | Path, *, embed: bool = True) -> Path:
        """Write a run folder: run.json, model.safetensors, history.jsonl, README.md.

        Of several processes that fitted together only the leading one writes.

        Args:
            run: a folder that does not exist yet, or the one that `fit` was given as `resume`.
            embed: store every tensor, so that the run loads anywhere; False stores only those that differ from the
                source weights, with their sha256.

        Raises:
            UsageError: the folder exists, or `embed=False` without source weights.
        """
        from zoo.adapt.saved import save

        self._fitted()
        return save(self, Path(run), embed=embed) if self.leads else Path(run)

    def report(
        self,
        path: str | Path,
        data: Any = None,
        *,
        guard: bool = False,
        audit: bool = True,
        map: str | None = "tsne",
        explain: int = 4,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> Path:
        """Write an HTML page of one file: figures, charts, mistakes, the data, composition, how to reproduce it.

        Args:
            path: the page; one that an earlier call wrote is replaced.
            data: the data of the fit, if it moved, or other labelled data; None = where the record says.
            guard: compare with baselines that borrow nothing.
            audit: look at the data too.
            map: how features are laid out: "tsne", "pca", or None for no map.
            explain: how many predictions are explained by covering parts of their pictures.
            skip_bad: go on without the samples of `data` that cannot be read.
            progress: called with (what, done, total).

        Raises:
            UsageError: something else is at `path`.
            DataError: `data` does not fit. Data of the fit that is gone or has changed is no error: the page says so.
        """
        from zoo.report.report import write_report

        self._fitted()
        return Path(
            write_report(
                self, path, data, guard=guard, audit=audit, map=map, explain=explain, skip_bad=skip_bad,
                progress=progress,
            )["path"]
        )  # fmt: skip

    def publish(
        self, name: str, *, license: str | None = None, replace: bool = False, default: bool | None = None
    ) -> Any:
        """Make the fitted backbone, with the head as its classifier, new weights in the user's registry.

        Args:
            name: `arch.tag`.
            license: of the new weights; None = that of the source weights, if any.
            replace: overwrite an entry of this name.
            default: whether it becomes the architecture's default; None = only if it has none yet.

        Returns:
            The new `zoo.Weights`.
        """
        from zoo.adapt.publish import publish

        self._fitted()
        if not self.leads:
            raise UsageError("of several processes only the leading one publishes", hint="Ask learner.leads first.")
        return publish(self, name, license=license, replace=replace, default=default)

    def _repr_html_(self) -> str:
        weights = self.source.weights.name if self.source.weights else None
        facts = {
            "backbone": self.source.name,
            "weights": weights or ("its own" if self.source.spec is None else "random"),
            "strategy": self.strategy_name,
            "tap": self.source.tap,
            "device": f"{self.placement.device}, {self.placement.precision}",
            "state": None if self.fitted else "not fitted",
        }
        found = self.fitted.evaluation._repr_html_() if self.fitted else ""
        return facts_table("Learner", facts) + found

    def export(self, path: str | Path, format: str | None = None) -> Any:
        """Write the network, head included, for other programs; see `zoo.report.export.export`."""
        from zoo.report.export import export

        self._fitted()
        return export(self, path, format)

    def push_to_hub(self, repo: str, *, private: bool = True, replace: bool = False, dry_run: bool = False) -> Any:
        """Put the run, with its model card, into a model repository on the Hub; see `zoo.report.push.push`."""
        from zoo.report.push import push_learner

        self._fitted()
        return push_learner(self, repo, private=private, replace=replace, dry_run=dry_run)

    def __repr__(self) -> str:
        weights = self.source.weights.name if self.source.weights else self.source.name
        state = self.fitted.evaluation.sentence() if self.fitted else "not fitted"
        return f"<Learner {weights} + {self.strategy_name}: {state}>"


def judged(outputs: Tensor, split: Split, task: Task, name: str, *, detailed: bool = False) -> Evaluation:
    """The figures of outputs (N, C) for the rows of a split; see `zoo.adapt.evaluation.evaluate`.

    Raises:
        DataError: the split has no targets.
    """
    return evaluate(outputs, _targets(split), task, split=name, groups=split.groups, detailed=detailed)


def _targets(split: Split) -> np.ndarray:
    if split.targets is None:
        raise DataError(f"{split.name} has no targets", hint="Give labelled data: (X, y), class folders or a manifest.")
    return split.targets

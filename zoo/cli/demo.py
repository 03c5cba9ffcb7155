"""demo: the main job from end to end, offline, on real handwritten digits."""

from __future__ import annotations

import dataclasses
import statistics
import time
from typing import TYPE_CHECKING, Any, Final

import click

from zoo.cli.options import open_registry
from zoo.cli.output import Output, modes
from zoo.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from zoo.adapt.learner import Learner
    from zoo.catalog.registry import Registry

SOURCE: Final = "glyphs"
PUBLISHED: Final = "source_cnn.glyphs"
#: Labels a class; None = all.
LABELS: Final = (2, 10, None)
SEEDS: Final = (0, 1, 2)
STRATEGIES: Final = ("from-scratch", "linear-probe", "fine-tune", "distillation")
#: Hyper-parameters that differ from the defaults: batches that suit a small network, epochs that suit a demo.
OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "pretrain": {"epochs": 4, "batch_size": 64},
    "from-scratch": {"batch_size": 64},
    "linear-probe": {},
    "fine-tune": {"batch_size": 64},
    "distillation": {"batch_size": 64, "epochs": 4},
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One place of the table: a strategy at a number of labels.

    Attributes:
        strategy: its name.
        labels: labelled rows learned from.
        right: per seed, whether each test row was predicted rightly.
    """

    strategy: str
    labels: int
    right: tuple[tuple[bool, ...], ...]

    @property
    def accuracies(self) -> tuple[float, ...]:
        """One per seed."""
        return tuple(statistics.fmean(rows) for rows in self.right)

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.fmean(self.accuracies)

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds; None with one seed."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else None

    def gain(self, base: Cell) -> tuple[float, float]:
        """Difference of the means to `base`, and half its 95 % interval.

        Both saw the same labels and the same test rows, so the difference is taken row by row and seed by seed; the
        interval counts the chance of the test rows and, with several seeds, of the labels drawn.
        """
        import numpy as np

        seeds = min(len(self.right), len(base.right))
        difference = np.asarray(self.right[:seeds], dtype=float) - np.asarray(base.right[:seeds], dtype=float)
        variance = difference.mean(axis=0).var(ddof=1) / difference.shape[1]
        if seeds > 1:
            variance += difference.mean(axis=1).var(ddof=1) / seeds
        return float(difference.mean()), 1.96 * float(variance) ** 0.5

    def as_json(self) -> dict[str, Any]:
        """What `zoo demo --json` says of it."""
        return {
            "strategy": self.strategy,
            "labels": self.labels,
            "accuracies": list(self.accuracies),
            "mean": self.mean,
            "spread": self.spread,
            "n": len(self.right[0]),
        }


@click.command("demo", short_help="The main job from end to end, offline.")
@modes
@click.pass_obj
def demo_verb(settings: Settings, out: Output) -> None:
    """The main job, offline: pretrain on rendered digits, publish, then adapt to real handwritten ones."""
    began = time.perf_counter()
    settings = dataclasses.replace(settings, offline=True)
    registry = open_registry(settings, out)
    steps: list[dict[str, Any]] = []

    def step(name: str, said: str, started: float, **facts: Any) -> None:
        seconds = time.perf_counter() - started
        steps.append({"step": name, "said": said, "seconds": round(seconds, 2), **facts})
        out.note(f"[{len(steps)}] {name}: {said} ({seconds:.0f} s)")

    with out.progress() as told:
        started = time.perf_counter()
        learner = pretrain(registry, told)
        source = learner.evaluation
        step("pretrain", f"source_cnn on rendered digits: {source.sentence()}", started, accuracy=source.accuracy)
        started = time.perf_counter()
        learner.publish(PUBLISHED, license="apache-2.0", replace=True)
        step("publish", f"{PUBLISHED}, in {settings.user_registry}", started, weights=PUBLISHED)
        started = time.perf_counter()
        backbones, strategies = registry.backbones(), registry.strategies()
        step(
            "list",
            f"{len(backbones)} backbones, {len(registry.weights())} weights, {len(strategies)} strategies; "
            f"source_cnn has {', '.join(found.name for found in registry.weights('source_cnn*'))}",
            started,
            backbones=len(backbones),
        )
        started = time.perf_counter()
        direct = transfer_without_adapting(registry)
        step(
            "before adapting",
            f"the pretrained network alone, on digits: {direct.sentence()}",
            started,
            accuracy=direct.accuracy,
        )
        started = time.perf_counter()
        table = compose_all(registry, told)
        step("compose", f"{sum(len(cell.accuracies) for cell in table)} fits", started)
    total = time.perf_counter() - began
    verdicts = judge(table)
    facts = {
        "steps": steps,
        "table": [cell.as_json() for cell in table],
        "verdicts": verdicts,
        "device": str(learner.placement.device),
        "precision": learner.placement.precision,
        "seconds": round(total, 1),
    }
    out.data(facts, lambda console: draw(console, table, verdicts, total))


def pretrain(registry: Registry, told: Any) -> Learner:
    """The article's network from random weights on the rendered digits."""
    from zoo.adapt.compose import compose

    return compose("source_cnn", "from-scratch", registry=registry, **OPTIONS["pretrain"]).fit(SOURCE, progress=told)


def transfer_without_adapting(registry: Registry) -> Any:
    """How well the published network, with its own head, does on the real digits."""
    from zoo.adapt.evaluation import evaluate
    from zoo.adapt.teacher import resolve_teacher
    from zoo.data.open import open_data
    from zoo.models.accelerator import choose

    split = open_data("digits").splits["test"]
    assert split.task is not None
    assert split.targets is not None
    teacher = resolve_teacher(PUBLISHED, registry=registry, placement=choose())
    return evaluate(teacher.on(split, split.task).logits, split.targets, split.task, split="test")


def compose_all(registry: Registry, told: Any) -> list[Cell]:
    """Every strategy at every number of labels, on the same test rows."""
    from zoo.data.open import open_data

    test = open_data("digits").splits["test"]
    assert test.task is not None
    assert test.targets is not None
    truth = [test.task.classes[target] for target in test.targets]
    right: dict[tuple[int, str], list[tuple[bool, ...]]] = {}
    plan = [
        # One seed is enough for what is slow and has all labels.
        (labels, seed, STRATEGIES if labels is not None or seed == SEEDS[0] else ("linear-probe",))
        for labels in LABELS
        for seed in SEEDS
    ]
    total, done = sum(len(strategies) for _, _, strategies in plan), 0
    for labels, seed, strategies in plan:
        tuned: Learner | None = None
        for strategy in strategies:
            learner = one_fit(registry, strategy, labels, seed, tuned, told)
            tuned = learner if strategy == "fine-tune" else tuned
            predicted = learner.predict(test)
            place = (learner.record["data"]["rows"]["train"], strategy)
            right.setdefault(place, []).append(tuple(bool(a == b) for a, b in zip(predicted, truth, strict=True)))
            done += 1
            if told:
                told("fits", done, total)
    return [Cell(strategy, labels, tuple(rows)) for (labels, strategy), rows in right.items()]


def one_fit(
    registry: Registry, strategy: str, labels: int | None, seed: int, tuned: Learner | None, told: Any
) -> Learner:
    """One strategy for `digits`; distillation has the fine-tuned network as its teacher, and the unlabelled rest."""
    from zoo.adapt.compose import compose

    options: dict[str, Any] = dict(OPTIONS[strategy])
    if strategy == "distillation":
        options["teacher"] = tuned
    backbone = "source_cnn" if strategy == "from-scratch" else PUBLISHED
    target = "rest" if strategy == "distillation" and labels is not None else None
    learner = compose(backbone, strategy, seed=seed, registry=registry, **options)
    return learner.fit("digits", val="test", target=target, labels_per_class=labels, progress=told)


def judge(table: list[Cell]) -> list[str]:
    """Where transfer helps and where it hurts, against from-scratch at the same labels."""
    scratch = {cell.labels: cell for cell in table if cell.strategy == "from-scratch"}
    verdicts = []
    for labels, base in scratch.items():
        parts = []
        for cell in table:
            if cell.labels != labels or cell is base:
                continue
            gain, margin = cell.gain(base)
            word = "helps" if gain > margin else "hurts" if gain < -margin else "makes no clear difference"
            parts.append(f"{cell.strategy} {word} ({100 * gain:+.1f} ± {100 * margin:.1f} points)")
        verdicts.append(f"{labels} labels: " + "; ".join(parts))
    return verdicts


def draw(console: Console, table: list[Cell], verdicts: list[str], seconds: float) -> None:
    """The table, what it says, and what to try next."""
    from rich.table import Table

    drawn = Table(title="Accuracy on 899 real digits, mean ± spread", title_justify="left")
    drawn.add_column("strategy", no_wrap=True)
    columns = list(dict.fromkeys(cell.labels for cell in table))
    for labels in columns:
        drawn.add_column(f"{labels} labels", justify="right", no_wrap=True)
    for strategy in STRATEGIES:
        row = [cell for cell in table if cell.strategy == strategy]
        best = {labels: max(cell.mean for cell in table if cell.labels == labels) for labels in columns}
        texts = [_text(cell, bold=cell.mean == best[cell.labels]) for cell in row]
        drawn.add_row(strategy, *texts)
    console.print()
    console.print(drawn)
    console.print("\nAgainst training from scratch on the same labels:")
    for verdict in verdicts:
        console.print(f"  {verdict}", highlight=False)
    console.print(f"\n{seconds:.0f} s. Next:")
    for line in (
        "zoo show source_cnn.glyphs",
        "zoo fit digits -b source_cnn.glyphs -s linear-probe --labels-per-class 10 --val test -o runs/probe",
        "zoo evaluate runs/probe digits",
        "zoo list 'resnet*' --max-params 30e6",
        "zoo fit FOLDER_OF_PHOTOS -b resnet18 -s linear-probe",
    ):
        console.print(f"  {line}", markup=False, highlight=False)


def _text(cell: Cell, *, bold: bool) -> Text:
    from rich.text import Text

    text = f"{100 * cell.mean:.1f}" + (f" ± {100 * cell.spread:.1f}" if cell.spread is not None else "")
    return Text(text, style="bold") if bold else Text(text)

"""Options that several verbs share."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from zoo.errors import UsageError
from zoo.settings import Settings

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry
    from zoo.cli.output import Output


def open_registry(settings: Settings, out: Output) -> Registry:
    """The registry of this call; what it noticed is said on stderr."""
    from zoo.catalog.registry import Registry
    from zoo.cli.output import stdout_for_data

    registry = Registry(settings=settings)
    with stdout_for_data():
        reports = registry.reports()
    out.notes(registry.notes)
    failed = [report.name for report in reports if report.state == "failed"]
    if failed:
        out.note(f"note: failed plugins: {', '.join(failed)} (zoo plugins says why)")
    return registry


class Params(click.ParamType):
    """A number of parameters: 30e6, 30_000_000, 30M, 500k, 1.5B."""

    name = "number"
    _UNITS: Final = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        number = value.strip().rstrip("kKmMgGbB")
        try:
            found = float(number) * self._UNITS[value.strip()[len(number) :].lower()]
        except (ValueError, KeyError):
            found = math.nan
        if not 0 <= found < math.inf:
            self.fail(f"{value!r} is no number of parameters: write 30e6, 30M, 500k or 1.5B.", param, ctx)
        return found


class RunPlace(click.ParamType):
    """A run's folder, or hf://OWNER/NAME[@REVISION]."""

    name = "run"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | Path:
        return value if not isinstance(value, str) or value.startswith("hf://") else Path(value)


class BatchSize(click.ParamType):
    """A whole number of at least 1, or "auto"."""

    name = "batch size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == "auto" else click.IntRange(1).convert(value, param, ctx)


def fitting(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of `fit` and `pretrain`."""
    for option in reversed(
        (
            click.option("-o", "--output", "run", type=click.Path(path_type=Path), metavar="RUN",
                         help="Where the run is saved; default runs/ARCH-STRATEGY-N."),
            click.option("--set", "settings", multiple=True, metavar="KEY=VALUE",
                         help="A hyper-parameter of the strategy; may be repeated."),
            click.option("--tap", metavar="STAGE", help="Read features at this stage, not before the classifier."),
            click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, metavar="N",
                         help="Of everything random; default 0."),
            click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps ..."),
            click.option("--precision", default="auto", show_default=True, help="auto, fp32, bf16 or fp16."),
            click.option("--in-chans", type=click.IntRange(1), default=3, show_default=True, help="Input channels."),
            click.option("--labels-per-class", type=click.IntRange(1), metavar="K", help="Learn from K labels each."),
            click.option("--val", metavar="SPLIT",
                         help="Report on this split (`test` then fits all of train), or on other DATA."),
            click.option("--target", metavar="DATA",
                         help="Unlabelled data; `rest` = the rows that --labels-per-class set aside."),
            click.option("--ignore-target-labels", is_flag=True, help="Accept a labelled target, unseen."),
            click.option("--label", metavar="COLUMN",
                         help="The column of DATA that is the target. Default: label."),
            click.option("--group-by", metavar="COLUMN",
                         help="A column of DATA (speaker, patient): its groups are never divided."),
            click.option("--batch-size", type=BatchSize(), metavar="N",
                         help="Rows a step and a forward pass; auto = what fits into memory."),
            click.option("--processes", type=click.IntRange(1), metavar="N",
                         help="Share each batch among N processes: one a GPU, or some of the cores each."),
            click.option("--skip-bad", is_flag=True, help="Go on without the samples that cannot be read."),
            click.option("--resume", is_flag=True,
                         help="Go on with the run in RUN; what is given must be what it was begun with."),
            click.option("--guard", is_flag=True, help="Compare with baselines that borrow nothing; the run keeps it."),
        )
    ):  # fmt: skip
        function = option(function)
    return function


def parse_settings(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Read `key=value` pairs; a value is JSON where it reads as JSON (3, 1e-3, true, null), else a string."""
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {pair} is not understood", hint="Write --set key=value, for instance epochs=5.")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        values[key.strip().replace("-", "_")] = value
    return values


def free_run(arch: str, strategy: str) -> Path:
    """The first of runs/ARCH-STRATEGY-1, -2 ... that does not exist."""
    number = 1
    while (path := Path("runs") / f"{arch}-{strategy}-{number}").exists():
        number += 1
    return path

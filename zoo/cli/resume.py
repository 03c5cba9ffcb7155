"""`--resume`: what a run was begun with, against what is given now."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from zoo.cli.options import parse_settings
from zoo.errors import NotFoundError, UsageError, ZooError
from zoo.settings import Settings

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry

#: Where runs without `-o` are.
RUNS: Final = Path("runs")
#: Parameter of the command line -> key of the record's call, where they differ.
_KEYS: Final = {"device": "accelerator", "settings": "options"}
#: Parameters that say how, not what.
_APART: Final = ("run", "resume", "json", "quiet", "name", "license", "replace", "processes")


@dataclasses.dataclass(frozen=True)
class Begun:
    """A run that was begun.

    Attributes:
        path: its folder.
        record: its run.json.
    """

    path: Path
    record: dict[str, Any]

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.record["state"] == "done"

    @property
    def call(self) -> dict[str, Any]:
        """What it was begun with."""
        found = self.record.get("call")
        return dict(found) if isinstance(found, Mapping) else {}

    def settings(self, settings: Settings) -> Settings:
        """With the registry file and the folder of plugins of back then, where none is given now."""
        kept = {name: self.call.get(name) for name in ("registry", "plugins_dir")}
        found = {name: Path(value) for name, value in kept.items() if value and getattr(settings, name) is None}
        return dataclasses.replace(settings, **found) if found else settings  # type: ignore[arg-type]

    def arguments(self) -> dict[str, Any]:
        """The arguments of `zoo.cli.learn.fit` that continue it.

        Raises:
            UsageError: it was begun in Python with something that has no name.
        """
        from zoo.adapt.call import objects

        call = self.call
        if not call or (unnamed := [*objects(call), *objects(call.get("options") or {})]):
            what = ", ".join(unnamed) if call else "its call"
            raise UsageError(
                f"the run {self.path} can only go on in Python", why=f"No record says in words what was given: {what}."
            )
        names = ("data", "backbone", "strategy", "weights", "options", "tap", "seed", "precision", "in_chans", "val")
        more = ("labels_per_class", "target", "ignore_target_labels", "skip_bad", "guard", "batch_size")
        columns = ("label", "group_by")
        found = {name: call.get(name) for name in (*names, *more, *columns)}
        return {**found, "device": call.get("accelerator"), "no_embed": bool(call.get("no_embed"))}

    def differences(self, given: Mapping[str, Any], registry: Registry) -> list[str]:
        """What of `given` is not what it was begun with: "--seed: 3 there, 4 now"."""
        from zoo.adapt import call as words

        call, strategy = self.call, self.record["composition"]["strategy"]
        options = {**strategy.get("options", {}), **(call.get("options") or {})}
        found = []
        for name, value in given.items():
            there: Any = call.get(_KEYS.get(name, name))
            now: Any = value
            if name == "settings":
                pairs = parse_settings(value)
                there = {key: options.get(key) for key in pairs}
                now = pairs
            elif name == "batch_size":
                there = options.get("batch_size", there)
                now = None if value == "auto" and "batch_size" not in options else value
            elif name == "no_embed":
                there = bool(there)
            elif name in ("data", "val", "target"):
                now = words.place(value)
            elif name == "strategy":
                spec = registry.strategy(value)
                there, now = f"{strategy['plugin']}/{strategy['name']}", f"{spec.plugin}/{spec.name}"
            elif name == "weights":
                now = words.weights(value)
            if there != now and not (name in ("backbone", "weights") and self._same_source(given, registry)):
                option = "DATA" if name == "data" else f"--{'set' if name == 'settings' else name.replace('_', '-')}"
                found.append(f"{option}: {there} there, {now} now")
        return found

    def _same_source(self, given: Mapping[str, Any], registry: Registry) -> bool:
        """Whether other words name the same backbone and weights."""
        composition = self.record["composition"]
        facts, weights = composition["backbone"], composition["weights"]
        named = str(given.get("backbone") or self.call.get("backbone"))
        tag = given.get("weights") or (None if weights is None else self.call.get("weights") or "default")
        try:
            spec, found = registry.resolve(named, tag)
        except ZooError:
            return False
        same = (spec.name, spec.plugin) == (facts["name"], facts.get("plugin"))
        return same and (found.name if found else None) == (weights["name"] if weights else None)


def read(run: Path) -> Begun | None:
    """The run in this folder; None where none was begun there."""
    from zoo.adapt.record import read_begun
    from zoo.adapt.underway import expect_runs_place

    expect_runs_place(run)
    try:
        return Begun(run, read_begun(run))
    except NotFoundError:
        return None


def find(given: Mapping[str, Any], registry: Registry) -> Begun | None:
    """The run below `runs` that goes with what is given: the one that has not ended, else the last that has.

    Raises:
        UsageError: several have not ended.
    """
    fits: list[Begun] = []
    for path in sorted(RUNS.glob("*/run.json"), key=lambda path: path.stat().st_mtime):
        try:
            begun = read(path.parent)
            if begun and not begun.differences(given, registry):
                fits.append(begun)
        except (ZooError, KeyError, TypeError, AttributeError):
            continue  # a damaged one is not what is looked for
    open_ = [begun for begun in fits if not begun.done]
    if len(open_) > 1:
        listed = ", ".join(str(begun.path) for begun in open_)
        raise UsageError("several runs could go on", why=listed, hint="Say which: --resume -o RUN.")
    found = open_ or fits
    return found[-1] if found else None


def given_now(ctx: click.Context) -> dict[str, Any]:
    """The parameters that stand on the command line and say what is to be fitted."""
    return {
        name: value
        for name, value in ctx.params.items()
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE and name not in _APART
    }


def expect_agreement(begun: Begun, given: Mapping[str, Any], registry: Registry) -> None:
    """Raise `UsageError`, naming what differs, where something else is given than the run was begun with."""
    if not begun.call and begun.done:
        return
    if different := begun.differences(given, registry):
        raise UsageError(
            f"the run {begun.path} was begun otherwise, so it cannot go on",
            why="; ".join(different),
            hint=f"Leave it out (zoo fit --resume -o {begun.path}), or choose another folder (-o).",
        )

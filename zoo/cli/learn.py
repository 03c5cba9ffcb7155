"""fit, pretrain: compose a backbone with a strategy and learn."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.catalog.spec import Weights, check_weights
from zoo.cli.options import fitting, free_run, open_registry, parse_settings
from zoo.cli.output import Output, modes
from zoo.errors import UsageError
from zoo.settings import Settings

if TYPE_CHECKING:
    from zoo.adapt.learner import Learner
    from zoo.catalog.registry import Registry


@click.command("fit", short_help="Compose a backbone with a strategy and learn from data.")
@click.argument("data")
@click.option("-b", "--backbone", required=True, metavar="NAME", help="arch, arch.tag, or plugin/arch.")
@click.option("-s", "--strategy", required=True, metavar="NAME", help="See `zoo strategies`.")
@click.option("-w", "--weights", metavar="NAME", help="A tag, arch.tag, a path, or none for random weights.")
@fitting
@modes
@click.pass_obj
def fit_verb(settings_: Settings, data: str, strategy: str, out: Output, **given: Any) -> None:
    """Compose a backbone with a strategy, learn from DATA, and save the run.

    DATA is a folder of class folders, a CSV manifest (path,label[,split]), or a built-in set: digits, glyphs.
    """
    registry = open_registry(settings_, out)
    learner, run = fit(registry, data, strategy, out, **given)
    finish(learner, run, out)


@click.command("pretrain", short_help="Train a backbone from scratch and publish its weights.")
@click.argument("data")
@click.option("-b", "--backbone", required=True, metavar="NAME", help="The architecture to train.")
@click.option("--publish", "name", required=True, metavar="ARCH.TAG", help="The name of the new weights.")
@click.option("--license", help="Licence of the new weights.")
@click.option("--replace", is_flag=True, help="Overwrite weights of this name.")
@fitting
@modes
@click.pass_obj
def pretrain_verb(
    settings_: Settings, data: str, name: str, license: str | None, replace: bool, out: Output, **given: Any
) -> None:
    """Train a backbone from scratch on DATA and publish it as weights in your registry."""
    from zoo.weights.register import refuse_taken

    registry = open_registry(settings_, out)
    spec = registry.backbone(given["backbone"])
    if name.partition(".")[0] != spec.name or not name.partition(".")[2]:
        raise UsageError(f"--publish {name} does not name weights of {spec.name}", hint=f"Write {spec.name}.TAG.")
    check_weights(Weights(name=name, backbone=spec.name, source="file:", license=license))
    if not replace:
        refuse_taken(name, registry)
    learner, run = fit(registry, data, "from-scratch", out, weights=None, publish=True, **given)
    published = learner.publish(name, license=license, replace=replace)
    finish(learner, run, out, published=published.name)


def fit(
    registry: Registry,
    data: str,
    strategy: str,
    out: Output,
    *,
    backbone: str,
    weights: str | None,
    run: Path | None,
    settings: tuple[str, ...],
    tap: str | None,
    seed: int,
    device: str,
    precision: str,
    in_chans: int,
    labels_per_class: int | None,
    val: str | None,
    target: str | None,
    ignore_target_labels: bool,
    batch_size: int | None,
    skip_bad: bool,
    publish: bool = False,
) -> tuple[Learner, Path]:
    """Resolve every name, fit, and save; nothing is written before the fit has ended well.

    With `publish`, what could not be published afterwards is refused now.
    """
    spec = registry.strategy(strategy)
    options = parse_settings(settings)
    if batch_size is not None and "batch_size" in spec.options:
        options.setdefault("batch_size", batch_size)
    found = registry.backbone(backbone.partition(".")[0] if "." in backbone else backbone)
    run = run or free_run(found.name, spec.name)
    from zoo.adapt.compose import compose
    from zoo.adapt.saved import check_place

    check_place(run)

    _refuse_reserved(spec.name, options, compose)
    learner = compose(
        backbone,
        spec,
        weights="default" if weights is None else weights,
        tap=tap,
        accelerator=device,
        precision=precision,
        seed=seed,
        in_chans=in_chans,
        registry=registry,
        **options,
    )
    if publish:
        from zoo.adapt.publish import check_publishable

        check_publishable(learner)
    weights_name = learner.source.weights.name if learner.source.weights else f"{found.name}, random weights,"
    out.note(f"{weights_name} + {spec.name} {learner.placement.reason}")
    with out.progress() as told:
        learner.fit(
            data,
            val,
            target,
            labels_per_class=labels_per_class,
            ignore_target_labels=ignore_target_labels,
            skip_bad=skip_bad,
            batch_size=batch_size or 32,
            progress=told,
        )
    learner.save(run)
    return learner, run


def _refuse_reserved(strategy: str, options: dict[str, Any], compose: Callable[..., Any]) -> None:
    """`--set` is for hyper-parameters; what `compose` itself takes has options of its own."""
    for name in options:
        if name in inspect.signature(compose).parameters:
            raise UsageError(
                f"strategy {strategy!r} has no option {name!r}",
                hint=f"--set is for hyper-parameters; see --{name.replace('_', '-')} in zoo fit --help.",
            )


def finish(learner: Learner, run: Path, out: Output, **more: Any) -> None:
    """Print what a fit gave."""
    out.notes(learner.notes)
    facts = {"run": str(run), **learner.summary(), **more}

    def draw(console: Any) -> None:
        console.print(str(learner.evaluation))
        seconds = facts["seconds"]
        console.print(
            f"{seconds['total']:.1f} s in all ({seconds['features']:.1f} s features, {seconds['fit']:.1f} s fit), "
            f"{facts['device']}, {facts['precision']}"
        )
        console.print(f"saved in {run}; next: zoo evaluate {run} DATA, zoo predict {run} PICTURE")
        if "published" in facts:
            console.print(
                f"published as {facts['published']}; next: zoo fit DATA -b {facts['published']} -s linear-probe"
            )

    out.data(facts, draw)

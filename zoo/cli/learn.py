"""fit, pretrain: compose a backbone with a strategy and learn."""

from __future__ import annotations

import inspect
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from zoo.catalog.spec import Weights, check_weights
from zoo.cli.app import ARGUMENTS
from zoo.cli.options import fitting, free_run, open_registry, parse_settings
from zoo.cli.output import Output, modes
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.adapt.learner import Learner
    from zoo.catalog.registry import Registry
    from zoo.cli.resume import Begun


#: Kind of samples -> a file of one.
_FILE: Final = {"image": "PICTURE", "audio": "RECORDING", "text": "TEXT", "table": "ROWS"}


@click.command("fit", short_help="Compose a backbone with a strategy and learn from data.")
@click.argument("data", required=False)
@click.option("-b", "--backbone", metavar="NAME", help="arch, arch.tag, or plugin/arch.")
@click.option("-s", "--strategy", metavar="NAME", help="See `zoo strategies`.")
@click.option("-w", "--weights", metavar="NAME", help="A tag, arch.tag, a path, or none for random weights.")
@fitting
@click.option("--no-embed", is_flag=True, help="Save only what differs from the source weights, with their sha256.")
@modes
@click.pass_context
def fit_verb(ctx: click.Context, resume: bool, out: Output, **given: Any) -> None:
    """Compose a backbone with a strategy, learn from DATA, and save the run.

    DATA is a folder of class folders; a table (.csv, .tsv, .jsonl, .parquet) of path,label[,split], of text,label, or
    of what is known of each row; a NumPy archive (.npz of x and y); or a built-in set: digits, glyphs. A fit that was
    broken off goes on with `zoo fit --resume -o RUN`; nothing else has to be given again.
    """
    registry, begun = begin(ctx, resume, given["run"], out)
    if begun is None:
        _expect(ctx, "data", "backbone", "strategy", run=given["run"])
    if launched(ctx, registry, begun, out, **given):
        return
    learner, run = fit(registry, out, begun=begun, anew=not resume, **given)
    if learner.leads:
        finish(learner, run, out)


def launched(
    ctx: click.Context,
    registry: Registry,
    begun: Begun | None,
    out: Output,
    *,
    processes: int | None,
    run: Path | None,
    backbone: str | None,
    strategy: str | None,
    **_: Any,
) -> bool:
    """Whether this call was for several processes; then they have done it."""
    from zoo.cli.processes import launch, wanted

    count = wanted(processes, strategy, begun, registry, out)
    if count == 1:
        return False
    if begun is not None:
        run = begun.path
    elif run is None:
        assert backbone is not None
        assert strategy is not None
        run = _free_run(registry, backbone, strategy)
    launch(ctx.find_root().meta[ARGUMENTS], count, run)
    return True


def _free_run(registry: Registry, backbone: str, strategy: str) -> Path:
    found = registry.backbone(backbone.partition(".")[0] if "." in backbone else backbone)
    return free_run(found.name, registry.strategy(strategy).name)


def begin(ctx: click.Context, resume: bool, run: Path | None, out: Output) -> tuple[Registry, Begun | None]:
    """The registry of this call, and the run that goes on, if there is one."""
    if not resume:
        return open_registry(ctx.obj, out), None
    from zoo.cli.resume import expect_agreement, find, given_now, read

    given = given_now(ctx)
    begun = read(run) if run else find(given, open_registry(ctx.obj, out))
    registry = open_registry(begun.settings(ctx.obj) if begun else ctx.obj, out)
    if begun:
        expect_agreement(begun, given, registry)
    elif not given:
        raise UsageError(
            f"there is no run at {run}" if run else "there is no run to go on with",
            hint="A run that was never begun needs DATA, -b and -s." if run else "Say which: zoo fit --resume -o RUN.",
        )
    return registry, begun


def _expect(ctx: click.Context, *names: str, run: Path | None) -> None:
    for param in ctx.command.params:
        if param.name in names and ctx.params[param.name] is None:
            _suggest_resuming(run)
            raise click.MissingParameter(ctx=ctx, param=param)


def _suggest_resuming(run: Path | None) -> None:
    """Raise `UsageError` where `run` was begun and not ended: whoever names it alone wants to go on with it."""
    if run is None or not (run / "run.json").is_file():
        return
    from zoo.adapt.underway import unfinished

    if unfinished(run):
        hint = f"To go on with it: zoo fit --resume -o {run}"
        raise UsageError(f"{run} is a run that has not ended, and there is nothing to begin another with", hint=hint)


@click.command("pretrain", short_help="Train a backbone from scratch and publish its weights.")
@click.argument("data")
@click.option("-b", "--backbone", required=True, metavar="NAME", help="The architecture to train.")
@click.option(
    "-s",
    "--strategy",
    default="from-scratch",
    show_default=True,
    metavar="NAME",
    help="How: from-scratch learns from labels, scarf from the rows of a table alone.",
)
@click.option("--publish", "name", required=True, metavar="ARCH.TAG", help="The name of the new weights.")
@click.option("--license", help="Licence of the new weights.")
@click.option("--replace", is_flag=True, help="Overwrite weights of this name.")
@fitting
@modes
@click.pass_context
def pretrain_verb(
    ctx: click.Context, name: str, license: str | None, replace: bool, resume: bool, out: Output, **given: Any
) -> None:
    """Train a backbone from random weights on DATA and publish it as weights in your registry."""
    from zoo.weights.register import refuse_taken

    registry, begun = begin(ctx, resume, given["run"], out)
    spec = registry.backbone(given["backbone"])
    if name.partition(".")[0] != spec.name or not name.partition(".")[2]:
        raise UsageError(f"--publish {name} does not name weights of {spec.name}", hint=f"Write {spec.name}.TAG.")
    check_weights(Weights(name=name, backbone=spec.name, source="file:", license=license))
    if not replace:
        refuse_taken(name, registry)
    if launched(ctx, registry, begun, out, **given):
        return
    again = ["zoo", "pretrain", given["data"], "-b", given["backbone"], "-s", given["strategy"], "--publish", name]
    again += [*(["--license", license] if license else []), *(["--replace"] if replace else []), "--resume"]
    learner, run = fit(
        registry,
        out,
        begun=begun,
        anew=not resume,
        weights="none",
        publish=True,
        again=shlex.join(again),
        **given,
    )
    if not learner.leads:
        return
    published = learner.publish(name, license=license, replace=replace)
    finish(learner, run, out, published=published.name)


def fit(
    registry: Registry,
    out: Output,
    *,
    begun: Begun | None,
    anew: bool,
    run: Path | None,
    settings: tuple[str, ...],
    processes: int | None = None,
    publish: bool = False,
    again: str | None = None,
    **given: Any,
) -> tuple[Learner, Path]:
    """Fit and save; or go on with a run, in its own words; or read one that is done."""
    if begun is None:
        options, batch_size = parse_settings(settings), given["batch_size"]
        if batch_size is not None and "batch_size" in registry.strategy(given["strategy"]).options:
            options.setdefault("batch_size", batch_size)
        if given["weights"] is None:
            given["weights"] = "default"
        return _fit(registry, out, run=run, anew=anew, options=options, publish=publish, again=again, **given)
    if begun.done:
        from zoo.adapt.saved import load

        out.note(f"the run {begun.path} is done; there is nothing to do")
        return load(begun.path, registry=registry), begun.path
    return _fit(registry, out, run=begun.path, anew=False, publish=publish, again=again, **begun.arguments())


def _fit(
    registry: Registry,
    out: Output,
    *,
    data: str,
    strategy: str,
    backbone: str,
    weights: str | None,
    run: Path | None,
    anew: bool,
    options: dict[str, Any],
    tap: str | None,
    seed: int,
    device: str,
    precision: str,
    in_chans: int,
    labels_per_class: int | None,
    val: str | None,
    target: str | None,
    ignore_target_labels: bool,
    batch_size: int | str | None,
    label: str | None,
    group_by: str | None,
    skip_bad: bool,
    guard: bool | None,
    publish: bool,
    again: str | None,
    no_embed: bool = False,
) -> tuple[Learner, Path]:
    """Resolve every name, fit, and save. What fails before something was learned leaves nothing on disk.

    With `publish`, what could not be published afterwards is refused now. `again` is the command that goes on with it.
    """
    spec = registry.strategy(strategy)
    found = registry.backbone(backbone.partition(".")[0] if "." in backbone else backbone)
    run = run or free_run(found.name, spec.name)
    from zoo.adapt.compose import compose
    from zoo.adapt.group import started
    from zoo.adapt.saved import check_deltas, check_place

    if (anew or not run.exists()) and started()[0] == 0:
        check_place(run)
    _refuse_reserved(spec.name, options, compose)
    learner = compose(
        backbone,
        spec,
        weights=weights,
        tap=tap,
        accelerator=device,
        precision=precision,
        seed=seed,
        in_chans=in_chans,
        registry=registry,
        **options,
    )
    if no_embed:
        check_deltas(learner)
        learner.call["no_embed"] = True
    learner.again = again
    kept = {"registry": registry.settings.registry, "plugins_dir": registry.settings.plugins_dir}
    learner.call |= {name: os.path.abspath(path) for name, path in kept.items() if path is not None}
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
            resume=run,
            labels_per_class=labels_per_class,
            ignore_target_labels=ignore_target_labels,
            skip_bad=skip_bad,
            guard=bool(guard),
            batch_size=batch_size if isinstance(batch_size, int) else None,
            label=label,
            group_by=group_by,
            progress=told,
        )
    if learner.run is not None:  # else it was done already
        learner.save(run, embed=not no_embed)
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
            + ("" if facts["trainable_params"] is None else f"; {facts['trainable_params']:,} parameters trained")
        )
        new = _FILE.get(learner.record["data"].get("kind"), "FILE")
        console.print(f"saved in {run}; next: zoo evaluate {run} DATA, zoo predict {run} {new}")
        if "published" in facts:
            console.print(
                f"published as {facts['published']}; next: zoo fit DATA -b {facts['published']} -s linear-probe"
            )

    out.data(facts, draw, names=[facts.get("published", facts["run"])])

"""export, push: hand a saved run over to other programs and other people."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from zoo.cli.options import RunPlace, open_registry
from zoo.cli.output import Output, modes, size
from zoo.settings import Settings


@click.command("export", short_help="Write a saved run as ONNX, torch.export or a timm folder.")
@click.argument("run", type=RunPlace())
@click.argument("path", type=click.Path(path_type=Path), metavar="OUT")
@click.option(
    "-f",
    "--format",
    type=click.Choice(["onnx", "torch", "timm"]),
    help="Default: by the ending of OUT: .onnx, .pt2, none = timm.",
)
@modes
@click.pass_obj
def export_verb(settings: Settings, run: str | Path, path: Path, format: str | None, out: Output) -> None:
    """Write the network of RUN, head included, to OUT. It is loaded again and compared before it gets its name."""
    registry = open_registry(settings, out)
    from zoo.adapt.saved import load
    from zoo.report.export import export

    done = export(load(run, accelerator="cpu", registry=registry), path, format)
    facts = {**asdict(done), "path": str(done.path), "sidecar": str(done.sidecar)}
    out.data(
        facts,
        lambda console: console.print(
            f"{done.path} ({done.format}): outputs differ by {done.difference:.1e} at most, {done.parity:.1e} of the "
            f"largest where that is above 1; preprocessing and classes in {done.sidecar}"
        ),
        names=[str(done.path)],
    )


@click.command("push", short_help="Put a saved run on the Hugging Face Hub.")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("repo", metavar="OWNER/NAME")
@click.option("--public", is_flag=True, help="Let everybody see it; else a new repository is private.")
@click.option("--replace", is_flag=True, help="Write into a repository that holds something else than a run.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would go, and send nothing.")
@modes
@click.pass_obj
def push_verb(settings: Settings, run: Path, repo: str, public: bool, out: Output, **given: Any) -> None:
    """Put RUN, with its model card, into a model repository on the Hub; it is made where there is none.

    Checkpoints stay here, and so do the paths of this machine. The token is HF_TOKEN, or that of `hf auth login`.
    """
    from zoo.report.push import push

    bars = not out.quiet and sys.stderr.isatty()
    done = push(run, repo, private=not public, settings=settings, bars=bars, **given)
    out.notes(done.notes)

    def draw(console: Any) -> None:
        whose = "private" if done.private else "public"
        if done.revision is None:
            console.print(f"would go to {done.url} ({whose} if it is new):")
        for file in done.files:
            console.print(f"  {file.path}  {size(file.bytes)}")
        if done.revision is not None:
            console.print(f"{done.url} ({whose}), revision {done.revision}")

    out.data(asdict(done), draw, names=[done.url])

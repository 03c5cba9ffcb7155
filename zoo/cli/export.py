"""export: hand a saved run over to other programs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from zoo.cli.options import open_registry
from zoo.cli.output import Output, modes
from zoo.settings import Settings


@click.command("export", short_help="Write a saved run as ONNX, torch.export or a timm folder.")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("path", type=click.Path(path_type=Path), metavar="OUT")
@click.option(
    "-f",
    "--format",
    type=click.Choice(["onnx", "torch", "timm"]),
    help="Default: by the ending of OUT: .onnx, .pt2, else timm.",
)
@modes
@click.pass_obj
def export_verb(settings: Settings, run: Path, path: Path, format: str | None, out: Output) -> None:
    """Write the network of RUN, head included, to OUT. It is loaded again and compared before it gets its name."""
    registry = open_registry(settings, out)
    from zoo.adapt.saved import load
    from zoo.report.export import export

    done = export(load(run, accelerator="cpu", registry=registry), path, format)
    facts = {**asdict(done), "path": str(done.path), "sidecar": str(done.sidecar)}
    out.data(
        facts,
        lambda console: console.print(
            f"{done.path} ({done.format}): outputs differ by {done.parity:.1e} at most; preprocessing and classes in "
            f"{done.sidecar}"
        ),
    )

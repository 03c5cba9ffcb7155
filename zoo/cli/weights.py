"""register: a weights file of the user's own gets a name."""

from __future__ import annotations

from pathlib import Path

import click

from zoo.cli.catalog import plain
from zoo.cli.options import open_registry
from zoo.cli.output import Output, modes
from zoo.errors import NotFoundError
from zoo.settings import Settings


@click.command("register", short_help="Give a weights file of yours a name.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--backbone", required=True, metavar="ARCH", help="The architecture the weights are for.")
@click.option("--name", required=True, metavar="ARCH.TAG", help="The name of the new weights.")
@click.option("--license", help="Licence of the weights, for instance apache-2.0.")
@click.option("--trained-on", help="What they were trained on.")
@click.option("--like", metavar="WEIGHTS", help="Preprocess as these weights do.")
@click.option("--default", is_flag=True, help="Make them the default of the architecture.")
@click.option("--replace", is_flag=True, help="Overwrite an entry of this name.")
@modes
@click.pass_obj
def register_verb(
    settings: Settings,
    file: Path,
    backbone: str,
    name: str,
    license: str | None,
    trained_on: str | None,
    like: str | None,
    default: bool,
    replace: bool,
    out: Output,
) -> None:
    """Add the weights in FILE (safetensors) to your registry. The network is built to prove that every tensor fits."""
    registry = open_registry(settings, out)
    spec = registry.backbone(backbone)
    model = registry.resolve(like)[1] if like else None
    if not file.is_file():
        raise NotFoundError(f"no file {file}", hint="Give the path of a .safetensors file.")
    from zoo.catalog.spec import Weights, check_weights
    from zoo.models.load import load_network
    from zoo.weights.register import refuse_taken, register_file

    weights = Weights(
        name=name,
        backbone=spec.name,
        source=f"file:{file}",
        default=default,
        license=license,
        trained_on=trained_on,
        options=model.options if model else {},
        preprocessing=model.preprocessing if model else spec.preprocessing,
    )
    check_weights(weights)
    if not replace:
        refuse_taken(name, registry)
    network = load_network(spec, weights, file)
    import dataclasses

    weights = dataclasses.replace(weights, num_classes=network.num_classes)
    added = register_file(file, weights, registry, replace=replace)
    facts = plain(added)
    out.data(facts, lambda console: console.print(f"{added.name} is registered; try: zoo show {added.name}"))

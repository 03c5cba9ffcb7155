"""register, pull, convert: weights get a name, come here, or stop being a pickle."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from zoo.catalog.spec import Weights, check_weights
from zoo.cli.catalog import plain
from zoo.cli.options import open_registry
from zoo.cli.output import Output, modes
from zoo.errors import NotFoundError, UsageError
from zoo.settings import Settings


@click.command("register", short_help="Give a weights file of yours a name.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--backbone", required=True, metavar="ARCH", help="The architecture the weights are for.")
@click.option("--name", required=True, metavar="ARCH.TAG", help="The name of the new weights.")
@click.option("--license", help="Licence of the weights, for instance apache-2.0.")
@click.option("--trained-on", help="What they were trained on.")
@click.option("--like", metavar="WEIGHTS", help="Take preprocessing and builder options from these weights.")
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
    tag = name.partition(".")[2]
    if name.rpartition("/")[2].partition(".")[0] != spec.name or not tag:
        raise UsageError(f"--name {name} does not name weights of {spec.name}", hint=f"Write {spec.name}.TAG.")
    from zoo.weights.header import read_header
    from zoo.weights.known import identify
    from zoo.weights.register import refuse_taken, register_file

    read_header(file)
    weights = Weights(
        name=name,
        backbone=spec.name,
        source=f"file:{file}",
        default=default,
        license=license,
        trained_on=trained_on,
        options=model.options if model else {},
        preprocessing=model.preprocessing if model else None,
    )
    check_weights(weights)
    if not replace:
        refuse_taken(name, registry)
    weights, said = identify(file, weights, spec, registry)
    out.notes([said] if said else [])
    from zoo.models.load import load_network

    network = load_network(spec, weights, file)
    weights = dataclasses.replace(weights, num_classes=network.num_classes)
    added = register_file(file, weights, registry, replace=replace)
    facts = plain(added)
    out.data(facts, lambda console: console.print(f"{added.name} is registered; try: zoo show {added.name}"))


@click.command("pull", short_help="Bring verified weights to this disk.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--locked", is_flag=True, help="Take exactly what zoo.lock says, and change nothing in it.")
@click.option("--update", is_flag=True, help="Forget what zoo.lock says and ask the source again.")
@modes
@click.pass_obj
def pull_verb(settings: Settings, names: tuple[str, ...], locked: bool, update: bool, out: Output) -> None:
    """Pull the weights that NAMEs stand for (arch or arch.tag); each file is hashed before it counts as here."""
    from zoo.weights.pull import pull

    registry = open_registry(settings, out)
    wanted = [registry.resolve(name)[1] for name in names]
    rows: list[dict[str, Any]] = []
    with out.progress() as told:
        for weights in wanted:
            assert weights is not None
            tick = (lambda have, total, name=weights.name: told(name, have, total or 0)) if told else None
            got = pull(
                weights,
                settings=settings,
                registry=registry,
                locked=locked,
                update=update,
                progress=tick,
                note=out.note,
            )
            rows.append({**dataclasses.asdict(got), "path": str(got.path)})

    def draw(console: Any) -> None:
        for row in rows:
            console.print(f"{row['name']}: {row['path']} ({'was here' if row['cached'] else 'pulled'})", markup=False)

    out.data(rows, draw)


@click.command("convert", short_help="Turn a pickle of tensors into safetensors.")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path), metavar="OUT.safetensors")
@modes
@click.pass_obj
def convert_verb(settings: Settings, file: Path, target: Path, out: Output) -> None:
    """Convert FILE (.pth, .bin) in a process of its own that runs no code of the file. The only door for pickle."""
    from zoo.weights.convert import convert
    from zoo.weights.files import hash_file

    if not file.is_file():
        raise NotFoundError(f"no file {file}", hint="Give the path of a .pth or .bin file.")
    if target.exists():
        raise UsageError(f"{target} exists already", hint="Choose another name, or remove it.")
    if target.suffix != ".safetensors":
        raise UsageError(f"{target} does not end in .safetensors", hint=f"Write {target.with_suffix('.safetensors')}.")
    convert(file, target)
    facts = {"source": str(file), "path": str(target), "sha256": hash_file(target), "bytes": target.stat().st_size}
    out.data(facts, lambda console: console.print(f"{target}: next, zoo register {target} --backbone ARCH --name ..."))

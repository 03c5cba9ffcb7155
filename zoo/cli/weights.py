"""register, pull, convert: weights get a name, come here, or stop being a pickle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.catalog import licenses
from zoo.catalog.spec import Weights
from zoo.cli.catalog import plain
from zoo.cli.options import open_registry
from zoo.cli.output import WIDE, Output, modes, size, table_of
from zoo.errors import NotFoundError, UsageError
from zoo.settings import Settings

if TYPE_CHECKING:
    from zoo.weights.pull import Pulled


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
    from zoo.models.register import register_weights

    said: list[str] = []
    added = register_weights(
        file,
        backbone,
        name,
        license=license,
        trained_on=trained_on,
        like=like,
        default=default,
        replace=replace,
        registry=open_registry(settings, out),
        note=said.append,
    )
    if added.license is None:
        said.append(f"{added.name} has no licence yet; say it with --license, and --replace")
    out.notes(said)
    facts = plain(added)
    out.data(
        facts,
        lambda console: console.print(f"{added.name} is registered; try: zoo show {added.name}"),
        names=[added.name],
    )


@click.command("pull", short_help="Bring verified weights to this disk.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--locked", is_flag=True, help="Take exactly what zoo.lock or the registry pins, and change nothing.")
@click.option("--update", is_flag=True, help="Ask the sources again that the registry does not pin; rewrite zoo.lock.")
@click.option("--dry-run", is_flag=True, help="Say what would be fetched, and touch nothing.")
@click.option(
    "--to", "folder", type=click.Path(path_type=Path), metavar="DIR", help="Also into a folder for `zoo cache add`."
)
@modes
@click.pass_obj
def pull_verb(
    settings: Settings,
    names: tuple[str, ...],
    locked: bool,
    update: bool,
    dry_run: bool,
    folder: Path | None,
    out: Output,
) -> None:
    """Pull the weights that NAMEs stand for: arch (its default), arch.tag, or a quoted glob.

    'resnet*' means the default weights of each architecture that matches, 'resnet18.*' every tag of resnet18. Each
    file is hashed before it counts as here.
    """
    from zoo.weights.batch import chosen, notes_of, pull_each
    from zoo.weights.lock import place

    if locked and update:
        raise UsageError("--locked and --update exclude each other")
    registry = open_registry(settings, out)
    wanted = chosen(names, registry)
    if dry_run:
        _say_plan(wanted, settings, locked, update, folder, out)
        return
    if folder is not None:
        from zoo.weights.portable import expect_place

        expect_place(folder)
    said: list[str] = []

    def arrived(weights: Weights, got: Pulled) -> None:
        said.extend(notes_of(weights, got, place(settings)))

    try:
        with out.progress(bytes=True) as told:
            done = pull_each(wanted, registry, locked=locked, update=update, told=told, note=out.note, arrived=arrived)
    finally:
        out.notes(said)
    rows = [got.row() for got in done]
    if update:
        for row, got in zip(rows, done, strict=True):
            row["previous"] = plain(got.previous) if got.previous else None
    if folder is not None:
        from zoo.weights.portable import export

        paths = export(wanted, done, folder, registry)
        for row in rows:
            row["path"] = str(paths[row["name"]])
        out.note(f"note: on the other machine: zoo cache add {folder.name}")
    out.data(rows, lambda console: _draw_pulled(console, rows), names=[row["path"] for row in rows])


def _draw_pulled(console: Any, rows: list[dict[str, Any]]) -> None:
    paths = ["path"] if console.width >= WIDE else []
    table = table_of("name", "size", "sha256", "", *paths, right=("size",))
    for row in rows:
        state = "was here" if row["cached"] else "pulled"
        table.add_row(row["name"], size(row["bytes"]), row["sha256"][:12], state, *(row[key] for key in paths))
    console.print(table)


def _say_plan(
    wanted: list[Weights], settings: Settings, locked: bool, update: bool, folder: Path | None, out: Output
) -> None:
    from zoo.weights.plan import plan

    rows = [plan(weights, settings, locked=locked, update=update).row() for weights in wanted]
    for row in rows:
        if (said := licenses.warning(row["license"])) is not None:
            out.note(f"note: {row['name']}: {said}")

    def draw(console: Any) -> None:
        table = table_of("name", "size", "licence", "", "source", right=("size",))
        for row in rows:
            state = "is here" if row["cached"] else "fetch and convert" if row["converted"] else "fetch"
            table.add_row(row["name"], size(row["bytes"]), row["license"] or "-", state, row["source"])
        console.print(table)
        fetched = [row["bytes"] for row in rows if not row["cached"]]
        unknown = " and what has no size yet" if None in fetched else ""
        much = size(sum(filter(None, fetched)))
        console.print(f"{much}{unknown} to fetch, into {settings.blobs}; nothing was touched")
        if folder is not None:
            console.print(f"then copied to {folder}")

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
    if not target.absolute().parent.is_dir():
        raise NotFoundError(f"no folder {target.parent}", hint="Make it first, or write elsewhere.")
    if target.exists():
        raise UsageError(f"{target} exists already", hint="Choose another name, or remove it.")
    if target.suffix != ".safetensors":
        raise UsageError(f"{target} does not end in .safetensors", hint=f"Write {target.with_suffix('.safetensors')}.")
    convert(file, target)
    facts = {"source": str(file), "path": str(target), "sha256": hash_file(target), "bytes": target.stat().st_size}
    out.data(
        facts,
        lambda console: console.print(f"{target}: next, zoo register {target} --backbone ARCH --name ..."),
        names=[str(target)],
    )

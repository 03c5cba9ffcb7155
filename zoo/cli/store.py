"""verify, rm, cache: what is on this disk, whether it is sound, and what may go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.catalog.tables import counted
from zoo.cli.options import open_registry
from zoo.cli.output import WIDE, Output, modes, size, table_of
from zoo.errors import UsageError
from zoo.settings import Settings

if TYPE_CHECKING:
    from zoo.adapt.kept import Kept


@click.command("verify", short_help="Hash again what is on this disk.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@modes
@click.pass_obj
def verify_verb(settings: Settings, names: tuple[str, ...], out: Output) -> None:
    """Hash the files of NAMEs again, and check their headers and numbers; without NAMEs everything that is here.

    Also said is what zoo.lock promises and is not here. Nothing is deleted. Exit code 5 if anything is damaged, 3 if
    anything is absent.
    """
    from zoo.models.finite import not_finite
    from zoo.weights.verify import facts, verdict, verify

    registry = open_registry(settings, out)
    total = 0 if names else sum(path.stat().st_size for path in settings.blobs.glob("*/*"))
    with out.progress(bytes=True) as told:
        found = verify(names, registry, not_finite, tick=_counting(told, "hashed", total))
    error = verdict(found)
    if error is None or not out.json:
        out.data(facts(found), lambda console: _draw_verified(console, found))
    if error is not None:
        raise error


def _counting(told: Any, what: str, total: int = 0) -> Any:
    """A tick that sums up the bytes it is told, of a total that may not be known (0)."""
    if told is None:
        return None
    have = 0

    def tick(count: int) -> None:
        nonlocal have
        have += count
        told(what, have, total)

    return tick


def _draw_verified(console: Any, found: list[Any]) -> None:
    paths = ["path"] if console.width >= WIDE else []
    table = table_of("names", "state", "size", "sha256", *paths, right=("size",))
    for one in found:
        row = (", ".join(one.names) or "-", one.state, size(one.bytes) if one.bytes else "", (one.sha256 or "")[:12])
        table.add_row(*row, *(str(one.path or "-") for _ in paths))
    console.print(table)
    sound = sum(one.state == "ok" for one in found)
    console.print(f"{sound} of {len(found)} sound" if found else "nothing is here, and nothing is promised")


@click.command("rm", short_help="Take weights off this disk.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@modes
@click.pass_obj
def rm_verb(settings: Settings, names: tuple[str, ...], out: Output) -> None:
    """Remove the files of NAMEs (arch, arch.tag, or a quoted glob over what is here).

    A file that another name needs stays. Weights that `register` or `publish` named lose their name too; others can
    be pulled again.
    """
    from zoo.weights.remove import remove

    done = remove(names, open_registry(settings, out))
    for one in done:
        if one.kept_for:
            out.note(f"note: {one.name}: its file stays, {', '.join(one.kept_for)} needs it")
        if one.registry is not None:
            out.note(f"note: {one.name}: its entry is out of {one.registry}")
        if one.locked is not None:
            out.note(f"note: {one.name}: {one.locked} still pins it; `zoo pull {one.name}` brings the same bytes back")

    def draw(console: Any) -> None:
        for one in done:
            freed = f", {size(one.freed)} freed" if one.freed else ""
            console.print(f"{one.name}: {'its file stays' if one.kept_for else f'removed{freed}'}")

    out.data({"removed": [one.row() for one in done], "freed": sum(one.freed for one in done)}, draw)


class _Cache(click.Group):
    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        from zoo.catalog.near import nearest

        if args and args[0] not in self.commands:
            near = nearest(args[0], self.commands)
            hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(self.commands)}."
            raise UsageError(f"no verb 'cache {args[0]}'", hint=hint)
        return super().resolve_command(ctx, args)


@click.group("cache", cls=_Cache, short_help="Look at the store, clean it, carry weights into it.")
def cache_verb() -> None:
    """The store of weights and features under $ZOO_HOME."""


@cache_verb.command("ls")
@modes
@click.pass_obj
def ls_verb(settings: Settings, out: Output) -> None:
    """List the files of the store: their size, and the names that need them; then the features that are kept."""
    from zoo.adapt.kept import kept_features
    from zoo.weights.remove import blobs

    found = blobs(open_registry(settings, out))
    kept = kept_features(settings)
    features = sum(one.nbytes for one in kept)
    total = sum(one.bytes for one in found)
    orphans = sum(not one.uses for one in found)

    def draw(console: Any) -> None:
        table = table_of("size", "sha256", "used by", right=("size",))
        for one in found:
            table.add_row(size(one.bytes), one.sha256[:12], ", ".join(map(str, one.uses)) or "nobody (zoo cache gc)")
        if found:
            console.print(table)
        console.print(f"{counted(len(found), 'file')}, {size(total)}, in {settings.blobs}")
        if kept:
            table = table_of("size", "features of", "", "last used", right=("size",))
            for space in kept:
                table.add_row(size(space.nbytes), _network(space), space.key[:12], _day(space.used))
            console.print()
            console.print(table)
            console.print(f"{counted(len(kept), 'network')}, {size(features)}, in {settings.features}")

    facts = {
        "home": str(settings.home),
        "blobs": [one.row() for one in found],
        "bytes": total,
        "orphans": orphans,
        "features": [_kept_row(one) for one in kept],
        "features_bytes": features,
    }
    out.data(facts, draw)


def _network(one: Kept) -> str:
    """The backbone, as far as the folder says."""
    backbone = one.facts.get("backbone")
    name = backbone.get("name") if isinstance(backbone, dict) else backbone
    return str(name or "?")


def _day(seconds: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d")


def _kept_row(one: Kept) -> dict[str, Any]:
    return {"path": str(one.path), "bytes": one.nbytes, "backbone": _network(one), "used": one.used}


@cache_verb.command("gc")
@click.option("--dry-run", is_flag=True, help="Say what would go, and touch nothing.")
@click.option(
    "--features", "all_features", is_flag=True, help="Remove all kept features too; they can be computed again."
)
@modes
@click.pass_obj
def gc_verb(settings: Settings, dry_run: bool, all_features: bool, out: Output) -> None:
    """Remove the files that no name needs, what killed programs left, and features beyond their limit.

    Needed is what a registry file, zoo.lock here, or a project that pulled into this store names. The limit of
    features is ZOO_FEATURES_LIMIT; those used longest ago go first.
    """
    from zoo.adapt.kept import trim_features
    from zoo.weights.remove import YOUNG_S, collect

    done = collect(open_registry(settings, out), dry_run=dry_run)
    trimmed = trim_features(settings, 0 if all_features else None, dry_run=dry_run)
    freed = done.freed + sum(one.nbytes for one in trimmed)
    if done.young:
        many = counted(len(done.young), "file without a name is", "files without a name are")
        out.note(f"note: {many} younger than {YOUNG_S} s, and will be kept for now")

    def draw(console: Any) -> None:
        for one in done.blobs:
            console.print(f"{size(one.bytes):>9}  {one.sha256[:12]}")
        for path, count in done.parts:
            console.print(f"{size(count):>9}  {path.name}")
        for space in trimmed:
            console.print(f"{size(space.nbytes):>9}  features of {_network(space)}")
        console.print(f"{size(freed)} {'would be freed' if dry_run else 'freed'}")

    parts = [{"path": str(path), "bytes": count} for path, count in done.parts]
    removed = [one.row() for one in done.blobs]
    features = [_kept_row(one) for one in trimmed]
    facts = {"dry_run": dry_run, "removed": removed, "parts": parts, "features": features, "freed": freed}
    out.data(facts, draw)


@cache_verb.command("add")
@click.argument("path", type=click.Path(path_type=Path), metavar="DIR|FILE")
@modes
@click.pass_obj
def add_verb(settings: Settings, path: Path, out: Output) -> None:
    """Add what `zoo pull NAME --to DIR` wrote, or a FILE whose bytes a registry entry or zoo.lock pins.

    No request is sent, and every byte is hashed on the way.
    """
    from zoo.weights.add import add

    registry = open_registry(settings, out)
    with out.progress(bytes=True) as told:
        done = add(path, registry, tick=_counting(told, "added"))

    def draw(console: Any) -> None:
        table = table_of("name", "size", "", "recorded in", right=("size",))
        for one in done:
            table.add_row(one.name, size(one.bytes), "was here" if one.cached else "added", str(one.recorded or "-"))
        console.print(table)

    out.data({"added": [one.row() for one in done]}, draw)

"""new-plugin: a project that can be installed and tested, for a plugin of your own."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Final

import click

from zoo import __version__
from zoo.cli.options import open_registry
from zoo.cli.output import Output, modes
from zoo.errors import NotFoundError, UsageError
from zoo.settings import Settings

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry

#: What is written may be called so: a folder, a distribution and, with `_` for `-`, a module.
NAME: Final = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
PREFIX: Final = "zoo"
TEMPLATES: Final = Path(__file__).with_name("templates")
#: kind -> the lines of its README that show it at work.
SHOWN: Final = {
    "backbone": ("zoo show $plugin", "zoo fit digits -b $plugin -w none -s linear-probe"),
    "strategy": ("zoo show $plugin", "zoo fit digits -b source_cnn -w none -s $plugin"),
}


@dataclass(frozen=True)
class Names:
    """What a new plugin's parts are called.

    Args:
        folder: as it was given.
    """

    folder: str

    @property
    def plugin(self) -> str:
        """Of the entry point, and of what it gives."""
        return re.sub(rf"^{PREFIX}[-_]", "", self.folder)

    @property
    def distribution(self) -> str:
        """What pip installs."""
        return f"{PREFIX}-{self.plugin.replace('_', '-')}"

    @property
    def package(self) -> str:
        """What Python imports."""
        return f"{PREFIX}_{self.plugin.replace('-', '_')}"


@click.command("new-plugin", short_help="Write a project for a plugin of your own.")
@click.argument("name")
@click.option("--kind", type=click.Choice(["backbone", "strategy"]), required=True, help="What it gives.")
@modes
@click.pass_obj
def new_plugin_verb(settings: Settings, name: str, kind: str, out: Output) -> None:
    """Write ./NAME, a project with a plugin, its tests and a README, ready to be installed."""
    names = check_name(name, open_registry(settings, out))
    path = write(Path.cwd() / name, names, kind)
    facts = {
        "path": str(path),
        "kind": kind,
        "plugin": names.plugin,
        "distribution": names.distribution,
        "package": names.package,
    }
    fit = Template(SHOWN[kind][1]).substitute(plugin=names.plugin)
    lines = (f"Wrote {name}. Try:", f"  pip install -e ./{name}", f"  {fit}", f"  python -m pytest {name}")
    out.data(facts, lambda console: console.print("\n".join(lines)), names=[facts["path"]])


def check_name(name: str, registry: Registry) -> Names:
    """The names of a new plugin's parts.

    Raises:
        UsageError: `name` is none, or something here is called so already.
    """
    names = Names(name)
    if not NAME.fullmatch(name) or not NAME.fullmatch(names.plugin) or len(name) > 64:
        raise UsageError(
            f"a plugin cannot be called {name!r}",
            why="It becomes a folder here, a distribution and a Python module.",
            hint="Use small letters, digits and single dashes, and begin with a letter: my-net.",
        )
    taken = _taken(names, registry)
    if taken is not None:
        raise UsageError(f"{taken} is here already", hint="Choose another name.")
    return names


def _taken(names: Names, registry: Registry) -> str | None:
    if any(report.name == names.plugin for report in registry.reports()):
        return f"a plugin called {names.plugin!r}"
    with contextlib.suppress(NotFoundError):
        return f"{type(registry.find(names.plugin)).__name__.lower()} {names.plugin!r}"
    if importlib.util.find_spec(names.package) is not None:
        return f"a module called {names.package!r}"
    return None


def write(folder: Path, names: Names, kind: str) -> Path:
    """Write the whole project, or nothing.

    Raises:
        UsageError: the folder is there and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder.name} exists already and is not empty", hint="Choose another name, or move it away.")
    part = folder.with_name(f".{folder.name}.{os.urandom(4).hex()}.part")
    try:
        for path, text in render(names, kind).items():
            (part / path).parent.mkdir(parents=True, exist_ok=True)
            (part / path).write_text(text, encoding="utf-8", newline="\n")
        if folder.exists():
            folder.rmdir()  # Windows renames onto no folder, not even an empty one
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return folder


def render(names: Names, kind: str) -> dict[str, str]:
    """Path in the project -> text."""
    values = {
        "plugin": names.plugin,
        "distribution": names.distribution,
        "package": names.package,
        "version": __version__,
        "summary": _template(kind, "summary.txt").strip(),
    }
    values["show"], values["fit"] = (Template(line).substitute(values) for line in SHOWN[kind])
    values["next"] = Template(_template(kind, "next.txt")).substitute(values).strip()
    source = f"src/{names.package}"
    code = "network.py" if kind == "backbone" else "strategy.py"
    files = {
        "pyproject.toml": ("common", "pyproject.toml.txt"),
        "README.md": ("common", "README.md.txt"),
        "LICENSE": ("common", "LICENSE.txt"),
        ".gitignore": ("common", "gitignore.txt"),
        f"{source}/__init__.py": (kind, "module.py.txt"),
        f"{source}/{code}": (kind, f"{code}.txt"),
        f"tests/test_{names.package}.py": (kind, "test_plugin.py.txt"),
    }
    return {path: Template(_template(*where)).substitute(values) for path, where in files.items()}


def _template(folder: str, name: str) -> str:
    return (TEMPLATES / folder / name).read_text(encoding="utf-8")

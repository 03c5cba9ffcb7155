"""The rules of the house: arrows between rooms point down, and the core knows no plugin."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: From the ground up; a room may use those before it.
ROOMS = (
    "errors",
    "settings",
    "atomic",
    "catalog",
    "weights",
    "data",
    "models",
    "adapt",
    "choose",
    "report",
    "cli",
    "testing",
)
HEAVY = {"torch", "timm", "torchvision", "numpy"}
#: Places that may look up, when called: a run is saved with its card, a list says which weights are on this disk, and
#: `zoo plugins --check` holds a plugin to the contract.
UPWARD = {
    ("adapt/learner.py", "choose"),
    ("adapt/learner.py", "report"),
    ("adapt/saved.py", "report"),
    ("catalog/registry.py", "weights"),
    ("cli/plugins.py", "testing"),
}


def imports(path: Path, *, top: bool = False) -> Iterator[str]:
    """Modules imported by a file; with `top`, only those imported when it is imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def room(path: Path) -> str:
    return path.relative_to(ROOT / "zoo").parts[0].removesuffix(".py")


FILES = [path for path in sorted((ROOT / "zoo").rglob("*.py")) if room(path) in ROOMS]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_point_down(path: Path) -> None:
    place = ROOMS.index(room(path))
    relative = path.relative_to(ROOT / "zoo").as_posix()
    for name in imports(path):
        parts = name.split(".")
        assert parts[0] != "zoo_plugins", f"{relative} imports the plugin {name}"
        if parts[0] == "zoo" and len(parts) > 1 and parts[1] in ROOMS and (relative, parts[1]) not in UPWARD:
            assert ROOMS.index(parts[1]) <= place, f"{relative} imports {name}, which lies above it"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_light_rooms_stay_light(path: Path) -> None:
    if room(path) in ("errors", "settings", "atomic", "catalog", "weights", "cli"):
        heavy = {name.partition(".")[0] for name in imports(path, top=True)} & HEAVY
        assert not heavy, f"{path.name} imports {heavy}"


@pytest.mark.parametrize("folder", ["backbones", "strategies"])
def test_plugins_have_light_top_modules(folder: str) -> None:
    for path in (ROOT / "plugins" / folder).iterdir():
        top = path / "__init__.py" if path.is_dir() else path
        if top.suffix == ".py" and top.exists():
            assert not {name.partition(".")[0] for name in imports(top, top=True)} & HEAVY


def test_no_pickle_outside_its_door() -> None:
    for path in [*FILES, *(ROOT / "plugins").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        if path.name != "convert.py" or path.parent.name != "weights":
            assert "torch.load(" not in text, path
            assert "pickle" not in set(imports(path)), path

"""What the options of a strategy mean, read from its docstrings without importing it."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from zoo.catalog.spec import Strategy

_SECTION = re.compile(r"(?:Args|Attributes):")
_ENTRY = re.compile(r"([a-z_][a-z0-9_, ]*):\s+(.*)")


def meanings(spec: Strategy) -> dict[str, str]:
    """Option -> its sentence in the docstring of the strategy's class, or of a class that it inherits from.

    An option without one is absent, and so are all of a class whose source is not there.
    """
    found: dict[str, str] = {}
    module, _, name = (
        spec.make.partition(":") if isinstance(spec.make, str) else (spec.make.__module__, "", spec.make.__qualname__)
    )
    for text in _docstrings(module, name, set()):
        for option, meaning in entries(text).items():
            found.setdefault(option, meaning)
    return {option: found[option] for option in spec.options if option in found}


def entries(docstring: str) -> dict[str, str]:
    r"""The entries of the sections `Args:` and `Attributes:` of a docstring in Google's style, each in one line.

    >>> entries("A head.\n\nArgs:\n    k: neighbours;\n        all of few.\n    a, b: both.\n\nRaises:\n    E: never.")
    {'k': 'neighbours; all of few.', 'a': 'both.', 'b': 'both.'}
    """
    found: dict[str, list[str]] = {}
    names: list[str] = []
    within = False
    for line in docstring.splitlines():
        text, indent = line.strip(), len(line) - len(line.lstrip())
        if not indent and text:
            within, names = _SECTION.fullmatch(text) is not None, []
        elif within and indent == 4 and (entry := _ENTRY.fullmatch(text)):
            names = [name.strip() for name in entry[1].split(",")]
            for name in names:
                found[name] = [entry[2]]
        elif within and indent > 4:
            for name in names:
                found[name].append(text)
    return {name: " ".join(texts) for name, texts in found.items()}


def _docstrings(module: str, name: str, seen: set[tuple[str, str]]) -> Iterator[str]:
    """Those of a class and of its bases, nearest first."""
    if (module, name) in seen or (tree := _source(module)) is None:
        return
    seen.add((module, name))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            yield ast.get_docstring(node) or ""
            for base in node.bases:
                if isinstance(base, ast.Name):
                    yield from _docstrings(*_imported(tree, module).get(base.id, (module, base.id)), seen)


def _imported(tree: ast.Module, module: str) -> Mapping[str, tuple[str, str]]:
    """Name in a module -> where it comes from."""
    found: dict[str, tuple[str, str]] = {}
    package = module.rpartition(".")[0]
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            home = ".".join([*above, *([node.module] if node.module else [])])
            found |= {name.asname or name.name: (home, name.name) for name in node.names}
    return found


def _source(module: str) -> ast.Module | None:
    """The parsed source of a module; None where it cannot be had."""
    try:
        spec = importlib.util.find_spec(module)
        return ast.parse(Path(spec.origin or "").read_text(encoding="utf-8")) if spec else None
    except (ImportError, ValueError, OSError, SyntaxError, AttributeError):
        return None

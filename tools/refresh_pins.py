"""Pin the weights of a registry file: ask the sources for revisions, hashes and sizes, and write them.

    python tools/refresh_pins.py [REGISTRY] [--only GLOB] [--move] [--check]

A Hub source without a commit gets the commit of its branch, the sha256 and the size. One with a commit is compared
with what the Hub says of that commit; `--move` takes the newest commit of `main` instead, and says old -> new. An
https source gets its size; its hash is known only once the file was pulled. `--check` writes nothing, and fails where
a pin differs from its source or is missing. Nothing is downloaded. HF_ENDPOINT names another Hub.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from zoo.atomic import write_atomically
from zoo.catalog import ledger
from zoo.catalog.spec import Weights
from zoo.errors import ZooError
from zoo.weights import hub
from zoo.weights.plan import length
from zoo.weights.source import HubFile, WebFile, source_of
from zoo.weights.transport import Patience

PATH: Final = Path(__file__).resolve().parent.parent / "registry.toml"
_BLOCK: Final = r'(?ms)^\[weights\."{name}"\]\n.*?(?=^\[|\Z)'
_KEYS: Final = ("source", "sha256", "bytes")


@dataclass(frozen=True, slots=True)
class Pin:
    """What an entry should say; None where nobody knows."""

    source: str
    sha256: str | None
    bytes: int | None


def asked(weights: Weights, *, move: bool) -> Pin | None:
    """The pin that the source gives; None for sources that are not asked."""
    source = source_of(weights)
    if isinstance(source, HubFile):
        facts = hub.look_up(replace(source, revision="main") if move else source, Patience())
        return Pin(str(facts.file), facts.sha256, facts.bytes)
    if isinstance(source, WebFile):
        return Pin(weights.source, weights.sha256, length(source))
    return None


def differences(weights: Weights, pin: Pin) -> Iterator[str]:
    """What the entry says otherwise, or does not say."""
    for key in _KEYS:
        old, new = getattr(weights, key), getattr(pin, key)
        if new is not None and old != new:
            yield f"{key}: {old} -> {new}"


def contradiction(weights: Weights, pin: Pin) -> bool:
    """Whether a pin of the entry is wrong, and not only missing."""
    source = source_of(weights)
    moved = isinstance(source, HubFile) and source.pinned and weights.source != pin.source
    return not moved and any(
        None not in (old, new) and old != new
        for old, new in ((weights.sha256, pin.sha256), (weights.bytes, pin.bytes))
        if not (isinstance(source, HubFile) and not source.pinned)
    )


def written(text: str, name: str, pin: Pin) -> str:
    """The registry file with one entry pinned; comments and all else stay."""
    found = re.search(_BLOCK.format(name=re.escape(name)), text)
    if found is None:
        raise SystemExit(f"{name}: no table of its own in the file")
    lines = found[0].splitlines(keepends=True)
    place = next(at for at, line in enumerate(lines) if re.match(r"source\s*=", line))
    lines[place] = f'source = "{pin.source}"\n'
    for key, value in (("bytes", pin.bytes), ("sha256", f'"{pin.sha256}"' if pin.sha256 else None)):
        if value is None:
            continue
        new = f"{key} = {value}\n"
        at = next((n for n, line in enumerate(lines) if re.match(rf"{key}\s*=", line)), None)
        if at is not None:
            lines[at] = new
        else:
            after = max(n for n, line in enumerate(lines) if re.match(r"(source|sha256|sha256_prefix)\s*=", line))
            lines.insert(place + 1 if key == "sha256" else after + 1, new)
    return text[: found.start()] + "".join(lines) + text[found.end() :]


def main(arguments: list[str] | None = None) -> int:
    """Refresh; returns 1 where a source failed, a pin is wrong, or (with --check) one is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("registry", nargs="?", type=Path, default=PATH)
    parser.add_argument("--only", default="*", metavar="GLOB", help="names, arch.tag")
    parser.add_argument("--move", action="store_true", help="take the newest commit of main")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    given = parser.parse_args(arguments)
    text = given.registry.read_text(encoding="utf-8")
    wrong = 0
    for name, weights in ledger.parse(text, given.registry).weights.items():
        if not fnmatchcase(name, given.only) or weights.files:
            continue
        try:
            pin = asked(weights, move=given.move)
        except ZooError as error:
            print(f"{name}: {error.message}", file=sys.stderr)
            wrong += 1
            continue
        found = [] if pin is None else list(differences(weights, pin))
        for line in found:
            print(f"{name}: {line}")
        if pin is None or not found:
            continue
        if contradiction(weights, pin):
            print(f"{name}: its pin is not what the source has; mend it by hand", file=sys.stderr)
            wrong += 1
        elif given.check:
            wrong += 1
        else:
            text = written(text, name, pin)
    if not given.check:
        ledger.parse(text, given.registry)
        if text != given.registry.read_text(encoding="utf-8"):
            write_atomically(given.registry, text.encode())
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

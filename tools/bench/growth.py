"""How `zoo list` grows: 100 installed plugins with 100,000 backbones and weights between them.

python tools/bench/growth.py [--plugins 100] [--backbones 500] [--weights 500] [--runs 5] [--phases]

The plugins are written as their authors would write them and laid out as pip lays them out, in a folder that is put on
the path. Whole processes are timed, in turn with one that has no such plugin; then one process says where its time
goes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ZOO = str(Path(sys.executable).with_name("zoo"))
PLUGIN = '''
"""Plugin {number}: {backbones} backbones and {weights} sets of weights."""

import zoo

PREPROCESSING = zoo.Preprocessing(interpolation="bilinear")


@zoo.hookimpl
def zoo_backbones():
    for i in range({backbones}):
        letter = "abcdefghijklmnopqrstuvwxyz"[i % 26]
        yield zoo.Backbone(
            name=f"{{letter}}net{number:03}_{{i}}",
            family=f"{{letter}}net",
            build="zoo_grown_{number:03}_network:build",
            num_features=64 * (1 + i % 32),
            params=1_000_000 + 1000 * i,
            input_size=(3, 224, 224),
            head="fc",
            preprocessing=PREPROCESSING,
            gmacs=0.1 * i,
            summary=f"Number {{i}} of plugin {number}.",
        )


@zoo.hookimpl
def zoo_weights():
    for i in range({weights}):
        arch = f"{{'abcdefghijklmnopqrstuvwxyz'[i % 26]}}net{number:03}_{{i % max({backbones}, 1)}}"
        yield zoo.Weights(
            name=f"{{arch}}.v{{i // max({backbones}, 1)}}_in1k",
            backbone=arch,
            source=f"hf://grown/{{arch}}@main/model.safetensors",
            default=i < {backbones},
            license="apache-2.0",
            trained_on="imagenet-1k",
            num_classes=1000,
        )
'''
#: Says in JSON how many seconds each part of one `zoo list 'x*' --json` takes.
PHASES = """
import time
at = [("start", time.perf_counter())]
def done(what):
    at.append((what, time.perf_counter()))
import gc, json, sys
gc.disable()
import zoo.cli.app, zoo.cli.catalog
from zoo.catalog import registry, discover
from zoo.settings import Settings
done("import the command line")
from zoo.catalog.plugins import Host
from zoo.catalog.loaded import SPECS
timed = {}
def clocked(owner, name, what):
    inner = getattr(owner, name)
    def outer(*args, **kwargs):
        began = time.perf_counter()
        try:
            return inner(*args, **kwargs)
        finally:
            timed[what] = timed.get(what, 0.0) + time.perf_counter() - began
    setattr(owner, name, outer)
clocked(registry, "find", "read the metadata of distributions")
clocked(registry.Registry, "_loaded", "load")
clocked(Host, "_register", "register hooks")
clocked(Host, "_gather", "make and check the specs")
clocked(registry, "Index", "index them")
one = registry.Registry(settings=Settings())
one.reports()
done("plugins")
found = one.backbones("x*")
done("match the pattern")
rows = [one.row(spec) for spec in found]
done("make rows")
text = json.dumps(rows)
done("write JSON")
spent = {what: now - before for (what, now), (_, before) in zip(at[1:], at)}
plugins = spent.pop("plugins")
parts = {what: timed[what] for what in timed if what != "load"}
parts["import plugins, and the rest of loading"] = plugins - sum(parts.values())
print(json.dumps({"backbones": len(one.backbones()), "matches": len(rows), "seconds": {**spent, **parts}}))
"""


def install(site: Path, number: int, backbones: int, weights: int) -> None:
    """Lay out one distribution as pip does."""
    name = f"zoo_grown_{number:03}"
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (site / f"{name}.py").write_text(PLUGIN.format(number=number, backbones=backbones, weights=weights))
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: {name.replace('_', '-')}\nVersion: 1.0\nSummary: Plugin {number}.\n"
        f"Requires-Python: >=3.11\nRequires-Dist: transfer-zoo>=0.1\n\n# Plugin {number}\n\nMany networks.\n"
    )
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nGenerator: growth\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    (info / "INSTALLER").write_text("pip\n")
    (info / "entry_points.txt").write_text(f"[zoo]\ngrown{number:03} = {name}\n")
    (info / "RECORD").write_text(f"{name}.py,,\n{info.name}/METADATA,,\n{info.name}/entry_points.txt,,\n")


def seconds(command: list[str], environment: dict[str, str]) -> float:
    """Wall time of one whole process."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - start


def main() -> None:
    """Install, time in turn, and say where the time goes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plugins", type=int, default=100)
    parser.add_argument("--backbones", type=int, default=500, help="of each plugin")
    parser.add_argument("--weights", type=int, default=500, help="of each plugin")
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    # Without byte code on disk every start would compile; installed programs have it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder, "site")
        site.mkdir()
        for number in range(given.plugins):
            install(site, number, given.backbones, given.weights)
        grown = {**environment, "PYTHONPATH": str(site)}
        places = {"no plugin but the built-in ones": environment, f"{given.plugins} plugins": grown}
        commands = {"zoo list 'x*' --json": [ZOO, "list", "x*", "--json"], "zoo --help": [ZOO, "--help"]}
        times: dict[tuple[str, str], list[float]] = {(c, p): [] for c in commands for p in places}
        for turn in range(given.runs + 1):
            for command, place in times:
                spent = seconds(commands[command], places[place])
                if turn:  # the first turn writes byte code and warms the disk
                    times[command, place].append(spent)
        said = subprocess.run(
            [sys.executable, "-c", PHASES], check=True, capture_output=True, text=True, env=grown
        ).stdout
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {given.runs} runs")
    print(f"{given.plugins} plugins of {given.backbones} backbones and {given.weights} sets of weights\n")
    print("| command | with | median s | min | max |")
    print("|---|---|---|---|---|")
    for (command, place), values in times.items():
        figures = [statistics.median(values), min(values), max(values)]
        print(f"| `{command}` | {place} | " + " | ".join(f"{value:.3f}" for value in figures) + " |")
    found = json.loads(said)
    print(
        f"\n{found['backbones']:,} backbones listed, {found['matches']:,} match. Where the time goes, in one process:\n"
    )
    print("| part | s |")
    print("|---|---|")
    for what, spent in found["seconds"].items():
        print(f"| {what} | {spent:.3f} |")


if __name__ == "__main__":
    main()

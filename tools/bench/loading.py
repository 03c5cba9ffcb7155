"""Create a network and load its weights: the zoo against timm, side by side.

    python tools/bench/loading.py [--runs 9] [--only vgg16]

timm's side is `create_model(checkpoint_path=)`, ours `load_network`, which is `load_backbone` behind the pull; both
read the same safetensors file from the disk, whose pages are cached. Every page of every parameter is touched inside
the clock, because mapping alone reads nothing. Ours includes the check of the header, the comparison with the network,
and the look-up of the file's remembered hash; hashing the file and looking for numbers that are not finite happen once
for each file and are given apart ("first load"). Imports are not counted. Sides take turns. Memory is what a process of
its own holds at most, beyond its imports; "private" leaves out pages of the mapped file, which the system may drop.
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
from collections.abc import Callable
from pathlib import Path
from typing import Final

import timm
import torch
from safetensors.torch import save_file
from torch import nn

import zoo
from zoo.models.load import load_network
from zoo.settings import Settings

#: The network, and how many times faster loading it must be.
HOLDS: Final = {"vgg16": 40.0, "resnet50": 3.0}
#: A file changed more recently than this is hashed at every load.
SETTLING_S: Final = 2.5


def theirs(name: str, path: Path) -> nn.Module:
    return timm.create_model(name, checkpoint_path=str(path)).eval()


def ours(name: str, path: Path) -> nn.Module:
    return load_network(zoo.list_backbones(name)[0], None, path, settings=Settings())


SIDES: Final[dict[str, Callable[[str, Path], nn.Module]]] = {"timm": theirs, "zoo": ours}


def touch(module: nn.Module) -> float:
    """Read one number of every page of every parameter."""
    with torch.no_grad():
        return sum(float(parameter.view(-1)[::1024].sum()) for parameter in module.parameters())


def seconds(side: str, name: str, path: Path) -> float:
    """Wall time of one load, pages touched."""
    start = time.perf_counter()
    touch(SIDES[side](name, path))
    return time.perf_counter() - start


def held() -> dict[str, float]:
    """Resident memory of this process in MB: the peak, and what is private now."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {key: int(status[field].split()[0]) / 1024 for key, field in (("peak", "VmHWM"), ("private", "RssAnon"))}


def memory(side: str, name: str, path: Path) -> None:
    """In a process of its own: print what a load adds."""
    touch(SIDES[side]("resnet18", path.with_name("resnet18.safetensors")))  # what torch allocates once
    before = held()
    module = SIDES[side](name, path)
    touch(module)
    print(json.dumps({key: round(value - before[key]) for key, value in held().items()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--only", choices=list(HOLDS), action="append")
    parser.add_argument("--memory", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        side, name, path = arguments.memory
        memory(side, name, Path(path))
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(ZOO_HOME=folder, ZOO_OFFLINE="1")
        print(f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
              f"torch {torch.__version__}, timm {timm.__version__}, {arguments.runs} runs\n")  # fmt: skip
        print("| network | MB | timm ms | zoo ms | ratio | hold | zoo's first load ms | timm MB peak (private) "
              "| zoo MB peak (private) |")  # fmt: skip
        print("|---|---|---|---|---|---|---|---|---|")
        save_file(timm.create_model("resnet18").state_dict(), Path(folder) / "resnet18.safetensors")
        for name in arguments.only or HOLDS:
            print(row(name, Path(folder) / f"{name}.safetensors", arguments.runs), flush=True)


def row(name: str, path: Path, runs: int) -> str:
    """The line of one network."""
    save_file(timm.create_model(name).state_dict(), path)
    time.sleep(SETTLING_S)
    first = seconds("zoo", name, path)
    seconds("timm", name, path)
    times: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(runs):
        for side, found in times.items():
            found.append(seconds(side, name, path))
    medians = {side: statistics.median(found) for side, found in times.items()}
    held_by = {}
    for side in SIDES:
        command = [sys.executable, __file__, "--memory", side, name, str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout)
        held_by[side] = f"{found['peak']} ({found['private']})"
    ratio = medians["timm"] / medians["zoo"]
    cells = [
        name, f"{path.stat().st_size / 1e6:.0f}", f"{1000 * medians['timm']:.0f}", f"{1000 * medians['zoo']:.1f}",
        f"{ratio:.1f}x", f">= {HOLDS[name]:g}x", f"{1000 * first:.0f}", held_by["timm"], held_by["zoo"],
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()

"""Start-up times, ours and others', side by side in one run: medians and ratios.

python tools/bench/startup.py [--runs 7]
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

ZOO = str(Path(sys.executable).with_name("zoo"))
COMMANDS = {
    "bare Python": [sys.executable, "-c", "pass"],
    "import zoo": [sys.executable, "-c", "import zoo"],
    "zoo --help": [ZOO, "--help"],
    "zoo list": [ZOO, "list"],
    "zoo list --json": [ZOO, "list", "--json"],
    "zoo plugins": [ZOO, "plugins"],
    "import torchvision.models": [sys.executable, "-c", "import torchvision.models"],
    "import timm; timm.list_models()": [sys.executable, "-c", "import timm; timm.list_models()"],
}
PEERS = ("import torchvision.models", "import timm; timm.list_models()")
OURS = ("import zoo", "zoo --help", "zoo list", "zoo list --json", "zoo plugins")


def seconds(command: list[str], environment: dict[str, str]) -> float:
    """Wall time of one whole process."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - start


def main() -> None:
    """Run every command in turn, so that a change of the machine's speed reaches all alike."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    # Without byte code on disk every start would compile; installed programs have it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(runs + 1):
        for name, command in COMMANDS.items():
            spent = seconds(command, environment)
            if turn:  # the first turn warms the disk
                times[name].append(spent)
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {runs} runs\n")
    print("| command | median ms | min | max |")
    print("|---|---|---|---|")
    for name, values in times.items():
        figures = [medians[name], min(values), max(values)]
        print(f"| `{name}` | " + " | ".join(f"{1000 * value:.0f}" for value in figures) + " |")
    print(f"\nMedians of the peers over ours:\n\n| ours | {' | '.join(f'`{name}`' for name in PEERS)} |")
    print("|---|" + "---|" * len(PEERS))
    for name in OURS:
        print(f"| `{name}` | " + " | ".join(f"{medians[peer] / medians[name]:.1f}x" for peer in PEERS) + " |")


if __name__ == "__main__":
    main()

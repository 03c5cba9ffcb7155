"""Images a second while a network is fine-tuned on files: ours at its defaults beside the peers at theirs.

    python tools/bench/training.py PHOTOS [-b resnet18] [--rows 192] [--epochs 2] [--turns 2] [--only plain,fastai]

Random weights: only the time is compared. Each learns in a process of its own, in turn, on the same pictures. A peer's
time is that of its training call. Ours is told twice: of the epochs alone, for which the pictures were read beforehand,
and of the whole fit, with reading and the probe that the head starts from.

The hold: the epochs of ours are at least twice as fast as each peer's training. fastai and transformers live in an
environment of their own; see peers.py.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from peers import ZOO, make_job, peer_python, run

HERE = Path(__file__).resolve().parent
PEERS = {"plain": "train_plain.py", "trainer": "train_trainer.py", "fastai": "train_fastai.py"}
NAMES = {"plain": "plain PyTorch loop, fp32", "trainer": "Hugging Face Trainer", "fastai": "fastai"}
EPOCHS, WHOLE = "zoo, the epochs", "zoo, the whole fit"


def spread(rows: list[Any], count: int) -> list[Any]:
    """So many of them, of all classes: they lie class by class."""
    count = min(count, len(rows))
    return [rows[i * len(rows) // count] for i in range(count)]


def ours(manifest: Path, arguments: argparse.Namespace, folder: Path, turn: int) -> tuple[float, float]:
    """Images a second: of the epochs, and of the whole fit."""
    place = folder / f"run{turn}"
    fit = ["fit", str(manifest), "-b", arguments.backbone, "-s", "fine-tune", "-w", "none", "--json", "-o", str(place)]
    fit += ["--set", f"epochs={arguments.epochs}", "--set", "init=probe", "--set", "batchnorm=frozen"]
    _, said = run([*ZOO, *fit], {**os.environ, "ZOO_HOME": str(folder / f"home{turn}")})
    seconds = json.loads(said)["seconds"]
    history = [json.loads(line) for line in (place / "history.jsonl").read_text().splitlines()]
    rows = arguments.rows * len(history)
    return rows / sum(epoch["seconds"] for epoch in history), rows / (seconds["fit"] + seconds["features"])


def main() -> None:
    """Run all in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-b", "--backbone", default="resnet18")
    parser.add_argument("--rows", type=int, default=192, help="pictures that are learned from")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--only", default="plain,trainer,fastai", help=", ".join(PEERS))
    arguments = parser.parse_args()
    arguments.random = True
    os.environ["BENCH_EPOCHS"] = str(arguments.epochs)
    chosen = arguments.only.split(",")
    python = peer_python() if {"fastai", "trainer"} & set(chosen) else sys.executable
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest, made = make_job(arguments, folder)
        job = made["job"]
        arguments.rows = min(arguments.rows, len(job["train"]))
        job["train"], job["val"] = spread(job["train"], arguments.rows), spread(job["val"], 8)
        made["file"].write_text(json.dumps(job))
        header, *lines = manifest.read_text().splitlines()
        train = spread([line for line in lines if line.endswith(",train")], arguments.rows)
        val = spread([line for line in lines if line.endswith(",val")], 8)
        manifest.write_text("\n".join([header, *train, *val]) + "\n")
        for turn in range(arguments.turns):
            epochs, whole = ours(manifest, arguments, folder, turn)
            rates.setdefault(EPOCHS, []).append(epochs)
            rates.setdefault(WHOLE, []).append(whole)
            for peer in chosen:
                script = [python, str(HERE / "peers" / PEERS[peer]), str(made["file"])]
                said = json.loads(run(script, dict(os.environ))[1].splitlines()[-1])
                rates.setdefault(NAMES[peer], []).append(said["rows"] / said["seconds"])
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{arguments.backbone}, {arguments.rows} pictures, {arguments.epochs} epochs, {arguments.turns} turns\n")
    print("| what | images/s, median | min | max | epochs of zoo are faster by (hold: 2x) |")
    print("|---|---|---|---|---|")
    mine = statistics.median(rates[EPOCHS])
    for what, values in rates.items():
        median = statistics.median(values)
        figures = " | ".join(f"{value:.1f}" for value in (median, min(values), max(values)))
        print(f"| {what} | {figures} | {mine / median:.2f}x |")


if __name__ == "__main__":
    main()

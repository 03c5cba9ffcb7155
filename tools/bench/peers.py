"""Whole processes, ours and the peers', on the same pictures, weights and split: seconds, accuracy and ratios.

    python tools/bench/peers.py PHOTOS --registry REGISTRY.toml -b mobilenetv2_100 [--runs 3] [--only tutorial,fastai]
    python tools/bench/peers.py PHOTOS -b resnet18 --random --only timm,torchvision

fastai and transformers are installed into an environment of their own (build/bench-venv), layered on the running one.
Every run of ours starts from an empty ZOO_HOME, so no feature and no hash is remembered. The commands run in turn, so
that a change of the machine's speed reaches all alike.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ZOO = [sys.executable, "-m", "zoo"]
#: name -> (script, needs weights)
PEERS = {
    "tutorial": "tutorial.py",
    "timm": "timm_logistic.py",
    "torchvision": "torchvision_logistic.py",
    "fastai": "fastai_tune.py",
    "trainer": "hf_trainer.py",
}
EXTRA = ["fastai>=2.8", "transformers>=5"]


def peer_python() -> str:
    """The interpreter of the peers' environment, made when it is not there."""
    place = HERE.parents[1] / "build" / "bench-venv"
    python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (place / "ready").exists():
        venv.create(place, with_pip=True)
        inside = subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        # A .pth file layers the new environment on this one: no second torch.
        Path(inside, "layer.pth").write_text(
            "".join(f"{path}\n" for path in sys.path if "site-packages" in path) or sysconfig.get_path("purelib")
        )
        subprocess.run([python, "-m", "pip", "install", "--quiet", *EXTRA], check=True)
        (place / "ready").touch()
    return str(python)


def make_job(arguments: argparse.Namespace, folder: Path) -> tuple[Path, dict[str, Any]]:
    """The data that `zoo fit` is given, and the peers' job: the same rows in the same split."""
    from zoo.adapt.rows import gather

    nothing = {"val": None, "target": None, "needs": frozenset(), "labels_per_class": None}
    rows = gather(str(arguments.data), **nothing, ignore_target_labels=False, skip_bad=False, seed=0)
    parts = {
        name: [(str(split.paths[i]), int(split.targets[i])) for i in range(len(split))]
        for name, split in (("train", rows.train), ("val", rows.report))
    }
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        for name, part in parts.items():
            writer.writerows([path, rows.task.classes[target], name] for path, target in part)
    job: dict[str, Any] = {**parts, "classes": list(rows.task.classes), "arch": arguments.backbone.split(".")[0]}
    job |= {"options": {}, "weights": None, "weights_classes": 1000, "size": 224}
    job |= {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    if not arguments.random:
        job |= facts(arguments.backbone)
    file = folder / "job.json"
    file.write_text(json.dumps(job))
    return manifest, {"file": file, "job": job}


def facts(name: str) -> dict[str, Any]:
    """What the weights `name` are, and where they lie."""
    import zoo
    from zoo.catalog.registry import default

    _, weights = default().resolve(name)
    kind = weights.preprocessing
    return {
        "options": dict(weights.options),
        "weights": str(zoo.pull(name)),
        "weights_classes": weights.num_classes,
        "size": kind.input_size[-1],
        "mean": list(kind.mean),
        "std": list(kind.std),
    }


def run(command: list[str], environment: dict[str, str]) -> tuple[float, str]:
    """Wall seconds of one whole process, and what it printed."""
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    spent = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return spent, done.stdout


def main() -> None:
    """Run all in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--registry", type=Path)
    parser.add_argument("-b", "--backbone", default="mobilenetv2_100")
    parser.add_argument("-s", "--strategy", default="linear-probe")
    parser.add_argument("--random", action="store_true", help="random weights: only the time is compared")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="tutorial,timm,fastai,trainer", help=", ".join(PEERS))
    arguments = parser.parse_args()
    if arguments.registry:
        os.environ["ZOO_REGISTRY"] = str(arguments.registry.resolve())
    chosen = arguments.only.split(",")
    python = peer_python() if {"fastai", "trainer"} & set(chosen) else sys.executable
    times: dict[str, list[float]] = {}
    accuracies: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest, made = make_job(arguments, folder)
        for turn in range(arguments.runs):
            home = folder / f"home{turn}"
            fit = ["fit", str(manifest), "-b", arguments.backbone, "-s", arguments.strategy, "--json"]
            fit += ["-o", str(folder / f"run{turn}"), *(["-w", "none"] if arguments.random else [])]
            spent, said = run([*ZOO, *fit], {**os.environ, "ZOO_HOME": str(home)})
            times.setdefault("zoo", []).append(spent)
            accuracies.setdefault("zoo", []).append(json.loads(said)["metrics"]["accuracy"])
            for peer in chosen:
                script = [python, str(HERE / "peers" / PEERS[peer]), str(made["file"])]
                spent, said = run(script, dict(os.environ))
                times.setdefault(peer, []).append(spent)
                accuracies.setdefault(peer, []).append(json.loads(said.splitlines()[-1])["accuracy"])
    ours = statistics.median(times["zoo"])
    job = made["job"]
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; {arguments.runs} runs")
    print(f"{arguments.backbone}, {len(job['train'])} train, {len(job['val'])} val, {len(job['classes'])} classes\n")
    print("| process | median s | min | max | against zoo | accuracy on val |")
    print("|---|---|---|---|---|---|")
    for name, values in times.items():
        median = statistics.median(values)
        figures = " | ".join(f"{value:.1f}" for value in (median, min(values), max(values)))
        seen = ", ".join(f"{value:.3f}" for value in sorted(set(accuracies[name])))
        print(f"| {name} | {figures} | {median / ours:.1f}x | {seen} |")


if __name__ == "__main__":
    main()

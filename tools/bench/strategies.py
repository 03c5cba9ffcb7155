"""Strategies side by side on the same rows: accuracy with its interval, seconds, and how many parameters were trained.

    python tools/bench/strategies.py DATA -b BACKBONE [--registry FILE] [--strategies linear-probe,fine-tune,...]
        [--labels 2,10,all] [--seeds 0,1,2] [--val SPLIT] [--set STRATEGY.KEY=VALUE]... [--json OUT]
        [--pretrain STRATEGY] [--target DATA] [--group-by COLUMN] [--guard]

Each fit is a process of its own (`zoo fit --json`); the first of a backbone fills the feature store that the others
share, so that seconds are what a person waits who tries one after the other. `distillation` learns from the
linear probe's run on the same labels, unless `--set distillation.teacher=RUN` names another. Rows are the same for all
strategies of a seed.

With `--pretrain scarf` the backbone has no weights yet: for each seed it is pretrained on the rows that the fits of
that seed learn from (never on those they report on), published in a home of its own, and everything but `from-scratch`
starts from there. With `--labels`, all training rows take part in that, without their labels. `--guard` compares each
fit with what borrows nothing on the same rows, and shows the accuracy of the raw baseline and of a probe on random
weights, and the verdict of each seed. With `--group-by` each seed reports on other groups. `--target` is given to the
strategies that adapt to another domain, its labels unseen.
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
from pathlib import Path
from typing import Any

#: Strategies that look at rows of the other domain.
ADAPTING = ("coral", "adabn", "dann")
STRATEGIES = "linear-probe,knn,bitfit,lora,fine-tune,distillation,from-scratch"


def zoo(*words: str) -> dict[str, Any]:
    """What `zoo ... --json` said."""
    done = subprocess.run([sys.executable, "-m", "zoo", *words, "--json"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"zoo {' '.join(words)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout))


def pretrain(given: argparse.Namespace, seed: int, folder: Path) -> None:
    """Publish ARCH.seedN, learned from the rows that the fits of this seed learn from."""
    arch, words = given.backbone, ["-o", str(folder / f"pretrained-{seed}"), "--seed", str(seed)]
    words += ["--val", given.val] if given.val else []
    words += ["--group-by", given.group_by] if given.group_by else []
    zoo("pretrain", given.data, "-b", arch, "-s", given.pretrain, "--publish", f"{arch}.seed{seed}", *words)


def fit(given: argparse.Namespace, strategy: str, labels: str, seed: int, folder: Path) -> dict[str, Any]:
    """What `zoo fit --json` said."""
    run = folder / f"{strategy}-{labels}-{seed}"
    backbone = f"{given.backbone}.seed{seed}" if given.pretrain else given.backbone
    if strategy == "from-scratch":  # which takes no weights
        backbone = backbone.partition(".")[0]
    command = ["fit", str(given.data), "-b", backbone]
    command += ["-s", strategy, "-o", str(run), "--seed", str(seed), *(["--guard"] if given.guard else [])]
    command += ["--val", given.val] if given.val else []
    command += ["--group-by", given.group_by] if given.group_by else []
    command += ["--labels-per-class", labels] if labels != "all" else []
    command += ["--target", given.target, "--ignore-target-labels"] if given.target and strategy in ADAPTING else []
    options = dict(
        one.removeprefix(f"{strategy}.").split("=", 1) for one in given.set if one.startswith(f"{strategy}.")
    )
    if strategy == "distillation":
        options.setdefault("teacher", str(folder / f"linear-probe-{labels}-{seed}"))
    for key, value in options.items():
        command += ["--set", f"{key}={value}"]
    found = {**zoo(*command), "labels": labels}
    if given.guard:
        found["guard"] = json.loads((run / "run.json").read_text())["metrics"]["guard"]
    return found


def row(strategy: str, found: list[dict[str, Any]]) -> str:
    """One line of the table, over the seeds."""
    accuracies = [one["metrics"]["accuracy"] for one in found]
    low, high = found[0]["metrics"]["interval"]
    spread = f" ± {statistics.stdev(accuracies) * 100:.1f}" if len(found) > 1 else ""
    seconds = statistics.median(one["seconds"]["total"] for one in found)
    trained = found[0].get("trainable_params")
    return (
        f"| {strategy} | {found[0]['labels']} | {statistics.mean(accuracies) * 100:.1f}{spread} | "
        f"{low * 100:.1f} to {high * 100:.1f} | {seconds:.0f} | {'' if trained is None else f'{trained:,}'} |"
        + guarded(found)
    )


def guarded(found: list[dict[str, Any]]) -> str:
    """The accuracies of the baselines over the seeds, the gain over the raw one, and each seed's verdict."""
    guards = [one["guard"] for one in found if "guard" in one]
    if not guards:
        return ""
    raw, random = (
        [one for guard in guards for one in guard["baselines"] if one["name"] == name]
        for name in ("raw", "random-weights")
    )
    low, high = raw[0]["gain_interval"]
    verdicts = ", ".join(f"{guard['verdict']} (against {guard['against']})" for guard in guards)
    return (
        f" {statistics.mean(one['accuracy'] for one in raw) * 100:.1f} | {low * 100:+.1f} to {high * 100:+.1f} | "
        f"{statistics.mean(one['accuracy'] for one in random) * 100:.1f} | "
        f"{verdicts} |"
    )


def main() -> None:
    """Every strategy with every number of labels, and every seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("-b", "--backbone", required=True)
    parser.add_argument("--registry", type=Path)
    parser.add_argument("--strategies", default=STRATEGIES)
    parser.add_argument("--labels", default="all", help="a class, comma separated")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--val")
    parser.add_argument("--set", action="append", default=[], metavar="STRATEGY.KEY=VALUE")
    parser.add_argument("--pretrain", metavar="STRATEGY", help="from random weights, on the training rows of each seed")
    parser.add_argument("--target", help="rows of another domain, for the strategies that adapt to one")
    parser.add_argument("--group-by", metavar="COLUMN", help="rows that have the same there are never divided")
    parser.add_argument("--guard", action="store_true", help="compare each fit with what borrows nothing")
    parser.add_argument("--json", type=Path, help="where everything that the fits said is kept")
    given = parser.parse_args()
    if given.registry:
        os.environ["ZOO_REGISTRY"] = str(given.registry.resolve())
    print(f"{platform.machine()}, {os.cpu_count()} cores; {given.data}, {given.backbone}, seeds {given.seeds}\n")
    more = " raw % | gain over raw, first seed | random weights % | guard |" if given.guard else ""
    print(f"| strategy | labels a class | accuracy % | 95 % interval, first seed | s | parameters trained |{more}")
    print(f"|---|---|---|---|---|---|{'---|---|---|---|' if given.guard else ''}", flush=True)
    everything = []
    with tempfile.TemporaryDirectory() as name:
        if given.pretrain:
            os.environ["ZOO_HOME"] = f"{name}/home"
            for seed in given.seeds.split(","):
                pretrain(given, int(seed), Path(name))
        for labels in given.labels.split(","):
            for strategy in given.strategies.split(","):
                found = [fit(given, strategy, labels, int(seed), Path(name)) for seed in given.seeds.split(",")]
                print(row(strategy, found), flush=True)
                everything += found
                if given.json:
                    given.json.write_text(json.dumps(everything, indent=1))


if __name__ == "__main__":
    main()

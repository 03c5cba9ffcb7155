"""What choosing the regulariser costs: a sweep of 45 values against one solve, and against scikit-learn's sweep.

python tools/bench/sweep.py [--runs 5] [--peer] [--real FOLDER]

Each case is timed in turn, in this process, on the same features: one linear head at a given regulariser (1e-2, then
the one that the sweep chooses), then the head whose regulariser is chosen among the 45 values of
`zoo.adapt.ridge.PATH`. Both are taken to the optimum in float64. `--peer` adds scikit-learn's LogisticRegression at one
value, and LogisticRegressionCV over the same 45 values with 5 folds (slow). `--real` names a folder of pictures, whose
features come from a random resnet18.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from zoo.adapt import ridge
from zoo.adapt.solve import solve
from zoo.data.task import CLASSES, REGRESSION, Task

#: Rows, features, classes (0 = numbers).
SHAPES = ((244, 1280, 2), (898, 1024, 10), (2000, 512, 10), (6000, 1280, 10), (5000, 512, 100), (2000, 512, 0))


def synthetic(rows: int, width: int, classes: int) -> tuple[Tensor, np.ndarray, Task]:
    """Correlated features of overlapping classes: the best regulariser is inside the path."""
    random = np.random.default_rng(0)
    y = random.permutation(np.arange(rows) % max(classes, 2))
    centres = random.normal(size=(max(classes, 2), 16)) * 1.2
    hidden = centres[y] + random.normal(size=(rows, 16)) * 1.5
    x = (hidden @ random.normal(size=(16, width)) + random.normal(size=(rows, width)) * 2).astype(np.float32)
    if classes:
        return torch.from_numpy(x), y, Task(CLASSES, tuple(map(str, range(classes))))
    return torch.from_numpy(x), hidden[:, :1].astype(np.float32), Task(REGRESSION, ("number",))


def real(folder: str) -> tuple[Tensor, np.ndarray, Task]:
    """Features of the training rows of real pictures."""
    import zoo
    from zoo.adapt.features import FeatureStore
    from zoo.data.open import open_data
    from zoo.models.accelerator import choose

    split = open_data(folder).train
    network = zoo.load_backbone("resnet18", weights=None)
    features = FeatureStore().features(network, split, choose("cpu"))
    assert split.targets is not None
    assert split.task is not None
    return features, split.targets, split.task


def cases(folder: str | None) -> Iterator[tuple[str, Tensor, np.ndarray, Task]]:
    for rows, width, classes in SHAPES:
        what = f"{classes} classes" if classes else "numbers"
        yield f"{rows} x {width}, {what}", *synthetic(rows, width, classes)
    if folder:
        x, y, task = real(folder)
        yield f"{len(x)} x {x.shape[1]}, {task.outputs} classes, photos", x, y, task


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ours(x: Tensor, y: np.ndarray, task: Task, regularizer: float | str) -> float:
    return seconds(lambda: solve(x, y, task, regularizer=regularizer, floor=1.0))


def peer(x: Tensor, y: np.ndarray, sweep: bool) -> float:
    """scikit-learn's logistic regression at one value, or over the path."""
    from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
    from sklearn.preprocessing import StandardScaler

    standard = StandardScaler().fit_transform(x.double().numpy())
    values = [1 / (value * len(x)) for value in ridge.PATH]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if sweep:
            return seconds(lambda: LogisticRegressionCV(Cs=values, cv=5, max_iter=1000).fit(standard, y))
        return seconds(lambda: LogisticRegression(C=100 / len(x), max_iter=1000).fit(standard, y))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--real", metavar="FOLDER")
    given = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(
        "| features | one solve at 1e-2, s | one solve at the chosen value, s | sweep of 45, s | sweep / one | least |"
    )
    print("|---|---|---|---|---|---|")
    for name, x, y, task in cases(given.real):
        chosen = solve(x, y, task).regularizer
        times: dict[float | str, list[float]] = {1e-2: [], chosen: [], "auto": []}
        for _ in range(given.runs):
            for regularizer, found in times.items():
                found.append(ours(x, y, task, regularizer))
        one, same, sweep = (statistics.median(found) for found in times.values())
        least = min(s / max(o, c) for o, c, s in zip(*times.values(), strict=True))
        print(f"| {name} | {one:.3f} | {same:.3f} | {sweep:.3f} | {sweep / one:.2f} | {least:.2f} |", flush=True)
        if given.peer and task.kind == CLASSES:
            print(f"scikit-learn: one {peer(x, y, False):.2f} s, sweep {peer(x, y, True):.2f} s", flush=True)


if __name__ == "__main__":
    main()

"""What a remembered teacher saves: the same distillation with the teacher asked once, and in each step.

python tools/bench/distill.py [--teacher resnet50] [--student resnet18] [--rows 96] [--epochs 8] [--size 160] [--runs 1]
    [--views K] [--precision fp32] [--data FOLDER]

Both fits take turns in this process, with an empty feature store each, and must end with the same weights to the last
bit. Weights are random (they do not change the time); the pictures too, unless DATA is a folder of class folders. A
short fit goes before, so that neither pays for imports.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch

import zoo
from zoo.adapt.features import FeatureStore
from zoo.catalog.registry import default
from zoo.data.open import open_data
from zoo.models.network import Network


def network(name: str, classes: int, size: int) -> Network:
    """A random network of this architecture that reads pictures of this size."""
    torch.manual_seed(0)
    found = zoo.load_backbone(name, weights=None, num_classes=classes)
    preprocessing = found.preprocessing or default().backbone(name).preprocessing
    assert preprocessing is not None
    found.preprocessing = replace(preprocessing, input_size=(3, size, size))
    return found


def pictures(rows: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise of ten classes."""
    random = np.random.default_rng(0)
    return random.integers(0, 256, (rows, size, size, 3), dtype=np.uint8), np.arange(rows) % 10


def fit(data: Any, given: argparse.Namespace, classes: int, *, cache: bool) -> tuple[float, zoo.Learner]:
    """Seconds of the fit, reported rows left out, and the student."""
    options: dict[str, Any] = {"epochs": given.epochs, "cache": cache, "batchnorm": "frozen", "init": "random"}
    if given.views:
        options |= {"augment": "crop,flip", "views": given.views}
    student, teacher = (network(name, classes, given.size) for name in (given.student, given.teacher))
    fixed = {"precision": given.precision, "accelerator": "cpu", "store": FeatureStore()}
    learner = zoo.compose(student, "distillation", teacher=teacher, **fixed, **options)
    start = time.perf_counter()
    learner.fit(data)
    whole = time.perf_counter() - start
    return whole, learner


def main() -> None:
    """Measure, compare, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--teacher", default="resnet50")
    parser.add_argument("--student", default="resnet18")
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--views", type=int)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--data")
    given = parser.parse_args()
    data = given.data or pictures(given.rows, given.size)
    classes = len(open_data(data).classes) if given.data else 10
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}; "
        f"{given.teacher} teaches {given.student}, {given.precision}, {given.size} px, {given.epochs} epochs, "
        f"views {given.views or 'none'}\n"
    )
    few = argparse.Namespace(**{**vars(given), "epochs": 1})
    fit(pictures(20, given.size), few, 10, cache=False)  # what is imported late is imported now
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(given.runs):
        students = {}
        for cache in (False, True):
            spent, students[cache] = fit(data, given, classes, cache=cache)
            seconds[cache].append(spent)
        weights = [student.model.state_dict() for student in students.values()]
        same = all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
        assert same, "the two students differ"
    medians = {cache: statistics.median(found) for cache, found in seconds.items()}
    print("| teacher | median s | min | max | against asking in each step |\n|---|---|---|---|---|")
    for cache, name in ((False, "asked in each step"), (True, "asked once")):
        found = seconds[cache]
        ratio = medians[False] / medians[cache]
        print(f"| {name} | {medians[cache]:.1f} | {min(found):.1f} | {max(found):.1f} | {ratio:.2f}x |")
    print("\nBoth students are the same to the last bit.")


if __name__ == "__main__":
    main()

"""A step of the training loop beside a step of a loop written by hand, in the same precision and with the same options.

    python tools/bench/loop.py [-b resnet18] [--batch 32] [--steps 20] [--precision auto] [--files PHOTOS]

From memory the two take turns step by step, on models and optimizers of their own, so that a change of the machine's
speed reaches both alike. With `--files` whole epochs take turns as well: ours reads as `zoo fit` does, the hand-written
loop through a `DataLoader` with two workers and torchvision's transforms.

The hold: the hand-written loop is at most 3 % faster.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from zoo_plugins.strategies.fine_tune.strategy import FineTune

import zoo
from zoo.adapt.checkpoint import Checkpoints
from zoo.adapt.randomness import deterministic
from zoo.adapt.schedule import rate_factor
from zoo.adapt.strategy import Context, Model
from zoo.adapt.training import train
from zoo.data import loading
from zoo.data.open import open_data
from zoo.data.preprocess import reader
from zoo.data.task import CLASSES, Task
from zoo.models.accelerator import Placement, choose

LR = 3e-4


class Hand:
    """The loop as one writes it: autocast, channels last, fused AdamW with no decay on biases and norms, clipping, a
    cosine schedule, frozen BatchNorm statistics, and the loss summed up where it is.

    Args:
        model: trained in place.
        placement: device and precision.
        steps: of the whole schedule.
    """

    def __init__(self, model: nn.Module, placement: Placement, steps: int) -> None:
        self.model = model.to(placement.device, memory_format=placement.memory_format).train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        parameters = list(model.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.01},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.parameters, self.placement, self.steps, self.done = parameters, placement, steps, 0
        self.optimizer = torch.optim.AdamW(groups, lr=LR, fused=True)
        self.total = torch.zeros((), device=placement.device)

    def step(self, x: Tensor, y: Tensor) -> None:
        """One step."""
        lr = LR * rate_factor(self.done, self.steps, "cosine")
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        x = x.to(self.placement.device, memory_format=self.placement.memory_format, non_blocking=True)
        y = y.to(self.placement.device, non_blocking=True)
        self.optimizer.zero_grad(set_to_none=True)
        with self.placement.autocast():
            loss = nn.functional.cross_entropy(self.model(x).float(), y)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.total += loss.detach()
        self.done += 1


def synchronise(placement: Placement) -> None:
    """Wait for the accelerator."""
    if placement.device.type != "cpu":
        torch.accelerator.synchronize()


def network(arch: str, classes: int) -> tuple[Model, nn.Module]:
    """The same network twice: as ours, and as a plain module."""
    ours, theirs = (zoo.load_backbone(arch, weights=None) for _ in range(2))
    head = nn.Linear(ours.num_features, classes)
    module = theirs.module
    module.set_submodule(theirs.head_names[0], nn.Linear(theirs.num_features, classes))
    return Model(ours, head), module


def fit(
    model: Model, batches: Callable[[int], Iterable[loading.Batch]], steps: int, rows: int, placement: Placement
) -> None:
    """One epoch of our loop, checkpoints included, as `zoo fit` runs it."""
    task = Task(CLASSES, tuple(map(str, range(model.head.out_features))))
    context = Context(task=task, placement=placement, rows=steps * rows, pretrained=True)
    strategy = FineTune(epochs=1, batch_size=rows, init="random", layer_decay=1.0)
    with tempfile.TemporaryDirectory() as folder, deterministic():
        kept = Checkpoints(Path(folder), "bench")
        train(model, strategy, batches, context, steps_per_epoch=steps, checkpoints=kept)


def from_memory(arch: str, rows: int, steps: int, size: int, placement: Placement) -> tuple[list[float], list[float]]:
    """Seconds of each step, ours and the hand-written loop's; the first three are left out."""
    model, module = network(arch, 10)
    model.to(placement.device)
    hand = Hand(module, placement, steps)
    generator = torch.Generator().manual_seed(0)
    held = torch.randn(rows * 4, 3, size, size, generator=generator)
    y = torch.randint(10, (rows * 4,), generator=generator)
    ours: list[float] = []
    theirs: list[float] = []

    def pick(step: int) -> Tensor:
        return torch.randperm(rows * 4, generator=torch.Generator().manual_seed(step))[:rows]

    def turns(epoch: int) -> Iterator[loading.Batch]:
        for step in range(steps):
            synchronise(placement)
            start = time.perf_counter()
            index = pick(step)
            yield loading.Batch(held[index], y[index], index)
            synchronise(placement)
            middle = time.perf_counter()
            index = pick(step)
            hand.step(held[index], y[index])
            synchronise(placement)
            ours.append(middle - start)
            theirs.append(time.perf_counter() - middle)

    fit(model, turns, steps, rows, placement)
    return ours[3:], theirs[3:]


def from_files(
    photos: Path, arch: str, rows: int, steps: int, size: int, placement: Placement, turns: int
) -> tuple[list[float], list[float]]:
    """Seconds a step of whole epochs, ours and the hand-written loop's in turn."""
    sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))
    from job import Pictures
    from torchvision import transforms

    split = open_data(photos).train
    split = split.subset(range(min(len(split), rows * steps) // rows * rows))
    preprocessing = zoo.Preprocessing(input_size=(3, size, size))
    steps, classes = len(split) // rows, len(split.task.classes)
    read = reader(preprocessing)
    transform = transforms.Compose(
        [
            transforms.Resize(round(size / preprocessing.crop_pct)),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(preprocessing.mean, preprocessing.std),
        ]
    )
    listed = Pictures([(str(p), int(t)) for p, t in zip(split.paths, split.targets, strict=True)], transform)
    loader = torch.utils.data.DataLoader(listed, batch_size=rows, shuffle=True, num_workers=2)
    ours: list[float] = []
    theirs: list[float] = []
    for turn in range(turns):
        model, module = network(arch, classes)
        model.to(placement.device)
        marks: list[float] = []

        def timed(epoch: int, marks: list[float] = marks, turn: int = turn) -> Iterator[loading.Batch]:
            marks.append(time.perf_counter())
            yield from loading.batches(split, read, rows, shuffle_seed=turn)
            synchronise(placement)
            marks.append(time.perf_counter())

        fit(model, timed, steps, rows, placement)
        ours.append((marks[1] - marks[0]) / steps)
        hand = Hand(module, placement, steps)
        start = time.perf_counter()
        for x, y in loader:
            hand.step(x, y)
        synchronise(placement)
        theirs.append((time.perf_counter() - start) / steps)
    return ours, theirs


def row(what: str, ours: list[float], theirs: list[float], rows: int) -> str:
    """One line of the table."""
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    mine, hand = statistics.median(ours), statistics.median(theirs)
    share = f"{100 * (statistics.median(ratios) - 1):+.1f} %"
    return f"| {what} | {1000 * mine:.1f} | {1000 * hand:.1f} | {rows / mine:.1f} | {rows / hand:.1f} | {share} |"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-b", "--backbone", default="resnet18")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--files", type=Path, help="a folder of class folders; epochs from files are measured too")
    parser.add_argument("--turns", type=int, default=3, help="epochs from files of each loop")
    given: Any = parser.parse_args()
    if given.steps < 5:
        parser.error("give at least 5 steps: the first three are left out")
    placement = choose("auto", given.precision)
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{given.backbone}, batches of {given.batch} at {given.size} px, {placement.reason}; medians\n")
    print("| batches from | ours, ms a step | by hand | ours, images/s | by hand | ours takes longer by (hold: 3 %) |")
    print("|---|---|---|---|---|---|")
    shape = (given.backbone, given.batch, given.steps, given.size, placement)
    print(row("memory", *from_memory(*shape), given.batch), flush=True)
    if given.files:
        print(row("files", *from_files(given.files, *shape, given.turns), given.batch))


if __name__ == "__main__":
    main()

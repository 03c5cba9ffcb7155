"""Features from JPEG files: ours, the bare model on tensors in memory, and a plain DataLoader with an fp32 model.

python tools/bench/extraction.py DATA [--networks resnet18 resnet50] [--images 384] [--runs 3] [--threads N]

DATA is a folder of class folders of JPEGs. Weights are random: they do not change the time. The bare model runs in the
same precision as ours, channels last, on tensors that were read beforehand, in batches of 32; the plain way is what a
tutorial shows: torchvision's transforms, `DataLoader(num_workers=cores)`, an fp32 model under `no_grad`. All three
take turns in one process. Ours pays for making its fused copy in every run.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

import zoo
from zoo.adapt.extract import chosen_batch, extract, to_device
from zoo.data.dataset import Split
from zoo.data.loading import batches
from zoo.data.open import open_data
from zoo.models.accelerator import Placement, choose
from zoo.models.network import Network, running_in_eval

BATCH = 32


class Files(Dataset[torch.Tensor]):
    """Pictures as a tutorial reads them."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.transform = transforms.Compose(
            [
                transforms.Resize(256),
                transforms.CenterCrop(224),
                transforms.ToTensor(),
                transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(Image.open(self.paths[index]).convert("RGB"))


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of one run."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ours(network: Network, split: Split, placement: Placement) -> None:
    """JPEG files to features, as `zoo fit` does it."""
    for _ in extract(network, split, placement):
        pass


def bare(network: Network, inputs: list[Any], placement: Placement) -> None:
    """The model alone, on tensors in memory, in the same precision."""
    with running_in_eval(network), torch.inference_mode(), placement.autocast():
        for x in inputs:
            network.module(x)


def plain(model: torch.nn.Module, paths: list[Path]) -> None:
    """The tutorial's way."""
    with torch.no_grad():
        for x in DataLoader(Files(paths), batch_size=BATCH, num_workers=os.cpu_count() or 1):
            model(x)


def measure(name: str, split: Split, runs: int, placement: Placement) -> None:
    """All three ways, in turn."""
    network = zoo.load_backbone(name, weights=None, accelerator=str(placement.device))
    model = timm.create_model(name).eval()
    read = network.reader()
    inputs = [to_device(batch.x, placement) for batch in batches(split, read, BATCH)]
    paths = [path for path in split.paths if path is not None]
    ways: dict[str, Callable[[], None]] = {
        "ours, from JPEG": lambda: ours(network, split, placement),
        f"bare model, {placement.precision}, tensors": lambda: bare(network, inputs, placement),
        "DataLoader + fp32 model, from JPEG": lambda: plain(model, paths),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(runs + 1):
        for way, work in ways.items():
            if (spent := seconds(work)) and turn:  # the first turn warms the disk
                times[way].append(spent)
    first = statistics.median(next(iter(times.values())))
    for way, spent in times.items():
        rate = [len(split) / one for one in sorted(spent)]
        ratio = statistics.median(spent) / first
        print(f"| {name} | {way} | {statistics.median(rate):.1f} | {rate[-1]:.1f} | {rate[0]:.1f} | {ratio:.2f} |")
    print(f"\n{name}: batches of {chosen_batch(network, placement)} in ours, {BATCH} elsewhere\n", flush=True)


def main() -> None:
    """Each network in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--networks", nargs="+", default=["resnet18", "resnet50"])
    parser.add_argument("--images", type=int, default=384)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, help="torch's; default its own")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    data = open_data(given.data, labelled=False).train
    split = data.subset([i % len(data) for i in range(given.images)])
    placement = choose("cpu")
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{len(split)} pictures of {given.data.name}, {given.runs} runs; it {placement.reason}\n")
    print("| network | way | median images/s | least | most | ours is x times as fast |\n|---|---|---|---|---|---|")
    for name in given.networks:
        measure(name, split, given.runs, placement)


if __name__ == "__main__":
    main()

"""Memory of a probe on many rows: synthetic features, written by the feature store's own writer and then solved on.

python tools/bench/memory.py [--rows 1000000] [--width 2048] [--classes 10] [--apart 0.04] [--folder DIR]
    [--limit-gb 3]

The peak of anonymous memory (RssAnon of /proc/self/status, so Linux only) is sampled every 20 ms. The folder needs
twice the size of the features: once for the shards, once for the rows in the order that is asked for. At 0.04 classes
overlap; from 0.1 on a plane divides those of 2,048 features, and the optimum is so far away that it takes far longer.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import os
import platform
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from zoo.adapt.features import Space
from zoo.adapt.shards import SpaceFolder
from zoo.adapt.solve import solve_head
from zoo.data.task import CLASSES, Task
from zoo.settings import Settings

CHUNK = 4096


def anonymous() -> float:
    """GB of anonymous memory now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024 / 1e9
    raise SystemExit("this system does not tell anonymous memory")


class Peak:
    """The most anonymous memory while it watches."""

    def __init__(self) -> None:
        self.gb = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.gb = max(self.gb, anonymous())

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Time and peak memory of one part, printed."""
    start = time.perf_counter()
    with Peak() as peak:
        yield
    PEAKS.append(peak.gb)
    print(f"| {name} | {time.perf_counter() - start:.1f} | {peak.gb:.2f} |", flush=True)


PEAKS: list[float] = []


def row_digests(start: int, stop: int) -> list[bytes]:
    """A sha256 for each row."""
    return [hashlib.sha256(b"row %d" % i).digest() for i in range(start, stop)]


def main() -> None:
    """Write, read back in another order, solve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--apart", type=float, default=0.04, help="deviation of the classes' centres, noise 1")
    parser.add_argument("--folder", type=Path, help="on a disk with room; default a temporary folder")
    parser.add_argument("--limit-gb", type=float, default=3.0)
    given = parser.parse_args()
    nbytes = given.rows * (given.width * 4 + 32)
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{given.rows:,} rows x {given.width:,} features ({nbytes / 1e9:.1f} GB), {given.classes} classes\n")
    print(f"before: {anonymous():.2f} GB of anonymous memory\n")
    print("| part | s | peak anonymous GB |\n|---|---|---|")
    with tempfile.TemporaryDirectory(dir=given.folder) as home:
        settings = dataclasses.replace(Settings(), home=Path(home), features_limit=2 * nbytes + (1 << 30))
        folder = SpaceFolder(settings.features / ("0" * 64), {"backbone": "synthetic"})
        generator = torch.Generator().manual_seed(0)
        centres = torch.randn(given.classes, given.width, generator=generator) * given.apart
        targets = np.random.default_rng(0).integers(0, given.classes, given.rows)
        with phase("write"):
            space = Space(folder.facts, folder, settings, print)
            for start in range(0, given.rows, CHUNK):
                stop = min(start + CHUNK, given.rows)
                block = torch.randn(stop - start, given.width, generator=generator)
                space.add(row_digests(start, stop), block + centres[targets[start:stop]])
            space.close()
            del space
        with phase("open, check every byte"):
            space = Space(folder.facts, folder, settings, print)
        with phase("gather every second row, then the others"):
            order = np.concatenate([np.arange(0, given.rows, 2), np.arange(1, given.rows, 2)])
            digests = row_digests(0, given.rows)
            places = space.table.locate([digests[i] for i in order])
            del digests
            features = space.table.gather(places, settings.features)
        with phase("linear probe"):
            names = tuple(f"class {i}" for i in range(given.classes))
            head = solve_head(features, targets[order], Task(CLASSES, names))
        chosen = slice(0, 20_000)
        right = (head(features[chosen]).argmax(dim=1).numpy() == targets[order][chosen]).mean()
        print(f"\naccuracy on {min(20_000, given.rows):,} of the rows: {right:.4f}")
        print(f"peak {max(PEAKS):.2f} GB of anonymous memory: {'held' if max(PEAKS) < given.limit_gb else 'NOT held'}")


if __name__ == "__main__":
    main()

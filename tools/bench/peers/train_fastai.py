"""fastai's `vision_learner`, unfrozen, `fit_one_cycle`: batches of 64 and its default augmentation."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from fastai_tune import made
from job import EPOCHS, read, trained


def main() -> None:
    """Train and say how fast."""
    job = read()
    with tempfile.TemporaryDirectory() as folder:
        learner = made(job, Path(folder))
        learner.unfreeze()
        with learner.no_bar(), learner.no_logging():
            start = time.perf_counter()
            learner.fit_one_cycle(EPOCHS)
            trained(len(job.train) * EPOCHS, time.perf_counter() - start)


if __name__ == "__main__":
    main()

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
            seconds = time.perf_counter() - start
        loader = learner.dls.train
        seen = loader.n // loader.bs * loader.bs if loader.drop_last else loader.n
        if not seen:
            raise SystemExit(f"{loader.n} pictures make no batch of {loader.bs}")
        trained(seen * EPOCHS, seconds)


if __name__ == "__main__":
    main()

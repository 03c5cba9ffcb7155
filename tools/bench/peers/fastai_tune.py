"""fastai's `vision_learner(...).fine_tune(1)`, as its quick start calls it, with a timm backbone."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")

import torch  # noqa: E402
from fastai.vision.all import (  # noqa: E402
    CategoryBlock,
    DataBlock,
    ImageBlock,
    Learner,
    Normalize,
    Resize,
    accuracy,
    aug_transforms,
    vision_learner,
)
from job import Job, answer, read, timm_model  # noqa: E402

EPOCHS = 1


def made(job: Job, folder: Path) -> Learner:
    """The learner, with the job's weights in its body."""
    torch.manual_seed(0)
    rows, trained = job.train + job.val, len(job.train)
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock(vocab=list(range(len(job.classes))))),
        get_x=lambda index: rows[index][0],
        get_y=lambda index: rows[index][1],
        splitter=lambda items: (items[:trained], items[trained:]),
        item_tfms=Resize(round(job.size / 0.875)),
        batch_tfms=[*aug_transforms(size=job.size), Normalize.from_stats(job.mean, job.std)],
    )
    loaders = block.dataloaders(range(len(rows)), num_workers=2)
    learner = vision_learner(
        loaders, job.arch, pretrained=False, normalize=False, metrics=accuracy, path=folder, **job.options
    )
    learner.model[0].model.load_state_dict(timm_model(job, 0).state_dict(), strict=True)
    return learner


def main() -> None:
    """Train and answer."""
    job = read()
    with tempfile.TemporaryDirectory() as folder:
        learner = made(job, Path(folder))
        with learner.no_bar(), learner.no_logging():
            learner.fine_tune(EPOCHS)
            right = float(learner.validate()[1]) * len(job.val)
    answer(round(right), len(job.val))


if __name__ == "__main__":
    main()

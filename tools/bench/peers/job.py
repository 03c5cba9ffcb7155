"""What every peer is given, in a JSON file, and what it answers, in one line of JSON on stdout."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from typing import Any

#: Epochs of the scripts that are timed while they train.
EPOCHS = int(os.environ.get("BENCH_EPOCHS", "2"))


@dataclass(frozen=True)
class Job:
    """One comparison: the same pictures, the same weights, the same preprocessing for all.

    Attributes:
        train, val: (path, class index) of each picture.
        classes: their names.
        arch, options, weights: what `timm.create_model` builds, and the safetensors file that fills it (None = random).
        weights_classes: outputs of the classifier in that file.
        size, mean, std: of the network's input.
    """

    train: list[tuple[str, int]]
    val: list[tuple[str, int]]
    classes: list[str]
    arch: str
    options: dict[str, Any]
    weights: str | None
    weights_classes: int
    size: int
    mean: list[float]
    std: list[float]


def read() -> Job:
    """The job whose file is the first argument."""
    with open(sys.argv[1], encoding="utf-8") as file:
        return Job(**json.load(file))


def answer(right: int, of: int) -> None:
    """Say how many pictures of `val` were named rightly."""
    print(json.dumps({"accuracy": right / of, "n": of}))


def trained(rows: int, seconds: float) -> None:
    """Say how many pictures were learned from in how many seconds."""
    print(json.dumps({"rows": rows, "seconds": seconds}))


def timm_model(job: Job, num_classes: int) -> Any:
    """The network as timm builds and fills it, with a fresh classifier of `num_classes` (0 = none: features)."""
    import timm
    from safetensors.torch import load_file

    model = timm.create_model(job.arch, num_classes=job.weights_classes, **job.options)
    if job.weights:
        model.load_state_dict(load_file(job.weights), strict=True)
    model.reset_classifier(num_classes)
    return model


class Pictures:
    """A map-style data set of the pictures in `rows`, as the peers' own tutorials write one."""

    def __init__(self, rows: list[tuple[str, int]], transform: Any) -> None:
        self.rows, self.transform = rows, transform

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        from PIL import Image

        path, label = self.rows[index]
        with Image.open(path) as picture:
            return self.transform(picture.convert("RGB")), label


def evaluation_transform(job: Job) -> Any:
    """Resize, centre crop, normalise, as torchvision's and timm's examples do."""
    from torchvision import transforms

    return transforms.Compose(
        [
            transforms.Resize(round(job.size / 0.875)),
            transforms.CenterCrop(job.size),
            transforms.ToTensor(),
            transforms.Normalize(job.mean, job.std),
        ]
    )

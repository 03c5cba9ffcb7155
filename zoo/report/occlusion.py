"""What a prediction rests on: cover a part of the picture, and see how much surer the model was with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor

from zoo.data.dataset import Split
from zoo.data.task import REGRESSION
from zoo.report.pictures import Picture, picture

if TYPE_CHECKING:
    from zoo.adapt.learner import Learner

#: Cells a side; a window covers two by two of them.
CELLS: Final = 7


@dataclass(frozen=True)
class Occlusion:
    """A picture, as the network sees it, and what it rests on.

    Attributes:
        picture: after cropping and resizing.
        heat: (rows, columns) from 0 to 1: how much a cell is needed, against the cell that is needed most.
        drop: of the log-odds (of the number, for regression) where the most is lost.
        output: what was explained: a class, a label or a number.
    """

    picture: Picture
    heat: tuple[tuple[float, ...], ...]
    drop: float
    output: str


def occlude(learner: Learner, split: Split, index: int) -> Occlusion | None:
    """Cover windows of a sample with the mean colour, one at a time (Zeiler and Fergus 2014).

    The heat of a cell is the mean over the windows that cover it of how far the log-odds of the predicted class (for
    several labels of the likeliest, for regression the first number) fall; where they rise it is 0.

    Args:
        learner: fitted; its network takes pictures.
        split: holds the sample.
        index: its position.

    Returns:
        None where the input is no picture of at least `CELLS` pixels a side.
    """
    network = learner.model.backbone
    preprocessing = network.preprocessing
    if preprocessing is None or preprocessing.kind != "image" or split.samples.kind != "image":
        return None
    read = network.reader()
    x = read(split.raw(index, read.shorter))
    if not isinstance(x, Tensor) or x.ndim != 3 or min(x.shape[1:]) < CELLS:
        return None
    seen = _seen(x, preprocessing.mean, preprocessing.std)
    if seen is None:
        return None
    rows, columns = (np.linspace(0, size, CELLS + 1).round().astype(int) for size in x.shape[1:])
    windows = [(top, left) for top in range(CELLS - 1) for left in range(CELLS - 1)]
    covered = x.repeat(len(windows) + 1, 1, 1, 1)
    for number, (top, left) in enumerate(windows, 1):
        covered[number, :, rows[top] : rows[top + 2], columns[left] : columns[left + 2]] = 0  # the mean, normalised
    found = learner.predict_proba(covered)
    column = 0 if learner.task.kind == REGRESSION else int(found[0].argmax())
    values = found[:, column] if learner.task.kind == REGRESSION else _log_odds(found[:, column])
    heat, times = np.zeros((CELLS, CELLS)), np.zeros((CELLS, CELLS))
    for value, (top, left) in zip(values[1:], windows, strict=True):
        heat[top : top + 2, left : left + 2] += values[0] - value
        times[top : top + 2, left : left + 2] += 1
    heat = np.maximum(heat / times, 0)
    most = float(heat.max())
    scaled = heat / most if most > 0 else heat
    return Occlusion(seen, tuple(map(tuple, scaled.round(3).tolist())), most, learner.classes[column])


def _seen(x: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Picture | None:
    """The picture that an input was made of, after cropping."""
    if len(mean) != len(x) or len(std) != len(x):
        mean, std = mean[:1] * len(x), std[:1] * len(x)
    pixels = x * torch.tensor(std)[:, None, None] + torch.tensor(mean)[:, None, None]
    return picture((pixels.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())


def _log_odds(chance: np.ndarray) -> np.ndarray:
    chance = np.clip(chance.astype(np.float64), 1e-6, 1 - 1e-6)
    return np.log(chance / (1 - chance))

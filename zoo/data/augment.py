"""Random changes of training pictures, drawn anew for each epoch: a pure function of seed, epoch and row.

timm's and torchvision's transforms draw from generators that all threads share, so that a picture would depend on
which thread came first, and a fit that goes on in the midst of an epoch would see others. Here every picture has a
generator of its own, and the operations are Pillow's. Places are drawn as parts of the sides, always as many numbers of
them: two networks for which a large JPEG is decoded at different sizes see the same view of it.

A policy is written as its parts, with commas between them; they are applied in this order, however they are written:

- `crop`, or `crop-A`: an area of A (default 0.08) to 1 of the picture, at a ratio of its sides of 3/4 to 4/3, resized
  to the network's input (the random resized crop of Szegedy et al. 2015, arXiv:1409.4842).
- `shift`: moved by up to an eighth of each side; black enters (the crop of a padded picture, as for CIFAR).
- `flip`: mirrored left to right, with probability 1/2. It turns some classes (letters, digits, left and right) into
  others, so say it only where it does not.
- `trivial`: one operation at a random strength (TrivialAugment, Mueller & Hutter 2021, arXiv:2103.10158, its wide
  space).
- `rand`, or `rand-mM-nN`: N operations (default 2), each at strength M of 10 (default 3) (RandAugment, Cubuk et al.
  2020, arXiv:1909.13719).
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from zoo.catalog.near import nearest
from zoo.catalog.spec import Preprocessing
from zoo.data.dataset import Samples, Split
from zoo.errors import UsageError

#: Least area of a `crop`.
LEAST_AREA: Final = 0.08
#: Shift of a picture, as a part of its sides.
SHIFT: Final = 1 / 8
#: Steps of the strength that `trivial` draws.
_STEPS: Final = 30
_RATIO: Final = (3 / 4, 4 / 3)
#: Boxes that are drawn for a `crop`.
_TRIES: Final = 10
_PARTS: Final = ("crop", "shift", "flip", "trivial", "rand")


@dataclass(frozen=True)
class Policy:
    """How a training picture is changed.

    Attributes:
        crop: least area of a random crop; None = none.
        shift, flip, trivial: whether it is done.
        rand: (strength of 10, number of operations); None = none.
    """

    crop: float | None = None
    shift: bool = False
    flip: bool = False
    trivial: bool = False
    rand: tuple[float, int] | None = None

    def __call__(self, picture: Image.Image, draw: random.Random) -> Image.Image:
        """The picture, changed as `draw` says."""
        if self.crop is not None:
            picture = picture.crop(_crop_box(picture.size, self.crop, draw))
        if self.shift:
            right, down = (round(draw.uniform(-SHIFT, SHIFT) * side) for side in picture.size)
            picture = picture.crop((-right, -down, picture.width - right, picture.height - down))
        if self.flip and draw.random() < 0.5:
            picture = ImageOps.mirror(picture)
        if self.trivial:
            picture = apply(draw.choice(OPERATIONS), picture, draw.randint(0, _STEPS) / _STEPS, draw, WIDE)
        for _ in range(self.rand[1] if self.rand else 0):
            assert self.rand is not None
            picture = apply(draw.choice(OPERATIONS), picture, self.rand[0] / 10, draw, USUAL)
        return picture

    def seen_by(self, preprocessing: Preprocessing | None) -> Preprocessing | None:
        """The preprocessing of changed pictures: what a crop left is resized to the network's input as it is."""
        if self.crop is None or preprocessing is None or preprocessing.kind != "image":
            return preprocessing
        return replace(preprocessing, crop_pct=1.0, crop_mode="squash")


def parse(text: str) -> Policy:
    """The policy written as in this module's docstring.

    Raises:
        UsageError: no such part, or one that is there twice or out of range.
    """
    found: dict[str, Any] = {}
    for part in (piece.strip() for piece in text.split(",")):
        name, *values = part.split("-")
        if name not in _PARTS:
            near = nearest(name, list(_PARTS))
            raise UsageError(
                f"augment={text!r}: there is no {part!r}",
                hint=f"Did you mean {' or '.join(near)}?" if near else f"Parts: {', '.join(_PARTS)}.",
            )
        if name in found:
            raise UsageError(f"augment={text!r} says {name} twice")
        found[name] = _value(name, values, part)
    return Policy(**found)


def _value(name: str, values: list[str], part: str) -> Any:
    if name == "crop" and len(values) <= 1:
        least = _number(values[0]) if values else LEAST_AREA
        if least is not None and 0 < least <= 1:
            return least
    if name == "rand" and all(re.fullmatch(r"m\d+(\.\d+)?|n\d+", value) for value in values):
        given = {value[0]: float(value[1:]) for value in values}
        strength, count = given.get("m", 3.0), int(given.get("n", 2))
        if len(given) == len(values) and strength <= 10 and 1 <= count <= len(OPERATIONS):
            return strength, count
    if name not in ("crop", "rand") and not values:
        return True
    raise UsageError(
        f"the part {part!r} of augment is not understood",
        hint="Write crop, crop-0.3 (least area, up to 1), shift, flip, trivial, rand or rand-m5-n2 (strength m up to "
        "10, n operations).",
    )


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d*\.?\d+", text) else None


def augmented(split: Split, policy: Policy, seed: int, epoch: int) -> Split:
    """The same rows as they are seen in one epoch. Each is a pure function of seed, epoch and its place in the split.

    Args:
        split: of pictures, or raw uint8 arrays of 1 or 3 channels.
        policy: see `parse`.
        seed, epoch: whole numbers.

    Raises:
        UsageError: while reading, for samples of another kind.
    """
    return replace(split, samples=AugmentedSamples(split, policy, f"{seed}/{epoch}"), rows=np.arange(len(split)))


class AugmentedSamples(Samples):
    """What an epoch sees of a split."""

    #: The work is worth threads, wherever the samples come from.
    encoded = True

    def __init__(self, source: Split, policy: Policy, key: str) -> None:
        self._source, self._policy, self._key = source, policy, key

    def __len__(self) -> int:
        return len(self._source)

    def raw(self, row: int, shorter: int | None = None) -> Image.Image:
        if shorter and self._policy.crop is not None:
            shorter = math.ceil(shorter / math.sqrt(self._policy.crop))
        found = picture(self._source.raw(row, shorter), self.location(row))
        return self._policy(found, random.Random(f"{self._key}/{row}"))

    def digest(self, row: int) -> str:
        """Of what it was before."""
        return self._source.digest(row)

    def location(self, row: int) -> str:
        return self._source.location(row)

    def path(self, row: int) -> Path | None:
        return self._source.samples.path(int(self._source.rows[row]))


def picture(raw: Any, where: str = "the sample") -> Image.Image:
    """A raw sample as a picture that can be changed.

    Raises:
        UsageError: it is none.
    """
    if isinstance(raw, Image.Image):
        return raw
    if str(getattr(raw, "dtype", "")) == "uint8":
        array = np.asarray(raw)
        if array.ndim == 3 and array.shape[2] == 1:
            array = array[..., 0]
        if array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3):
            return Image.fromarray(np.ascontiguousarray(array))
    raise UsageError(
        f"{where} is no picture, so `augment` cannot change it",
        why="It changes pictures and raw uint8 arrays of 1 or 3 channels; what is ready for the network never changes.",
        hint="Leave `augment` out.",
    )


def _crop_box(size: tuple[int, int], least: float, draw: random.Random) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the first of ten boxes that fits, else of the largest in the middle."""
    width, height = size
    drawn = [(draw.uniform(least, 1.0), math.exp(draw.uniform(*map(math.log, _RATIO)))) for _ in range(_TRIES)]
    across, down = draw.random(), draw.random()
    for area, ratio in drawn:
        part = math.sqrt(area * ratio * height / width), math.sqrt(area / ratio * width / height)
        if max(part) <= 1:
            w, h = max(1, round(part[0] * width)), max(1, round(part[1] * height))
            left, top = round(across * (width - w)), round(down * (height - h))
            return left, top, left + w, top + h
    w, h = min(width, round(height * _RATIO[1])), min(height, round(width / _RATIO[0]))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


# -- operations --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Space:
    """How far the operations go at full strength.

    Attributes:
        shear: tangent of the angle.
        shift: part of a side.
        rotate: degrees.
        enhance: distance of an enhancement's factor from 1.
        bits: that posterising takes away.
    """

    shear: float
    shift: float
    rotate: float
    enhance: float
    bits: float


#: TrivialAugment's wide space; its shift of 32 pixels is a seventh of 224.
WIDE: Final = Space(shear=0.99, shift=1 / 7, rotate=135.0, enhance=0.99, bits=6)
#: RandAugment's.
USUAL: Final = Space(shear=0.3, shift=150 / 331, rotate=30.0, enhance=0.9, bits=4)

_Operation = Callable[[Image.Image, float, Space], Image.Image]


def _affine(image: Image.Image, *matrix: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


#: Operations whose strength has a sign.
_SIGNED: Final[Mapping[str, _Operation]] = {
    "shear_x": lambda image, s, space: _affine(image, 1, s * space.shear, 0, 0, 1, 0),
    "shear_y": lambda image, s, space: _affine(image, 1, 0, 0, s * space.shear, 1, 0),
    "shift_x": lambda image, s, space: _affine(image, 1, 0, -round(s * space.shift * image.width), 0, 1, 0),
    "shift_y": lambda image, s, space: _affine(image, 1, 0, 0, 0, 1, -round(s * space.shift * image.height)),
    "rotate": lambda image, s, space: image.rotate(s * space.rotate, Image.Resampling.BILINEAR),
    "brightness": lambda image, s, space: ImageEnhance.Brightness(image).enhance(1 + s * space.enhance),
    "color": lambda image, s, space: ImageEnhance.Color(image).enhance(1 + s * space.enhance),
    "contrast": lambda image, s, space: ImageEnhance.Contrast(image).enhance(1 + s * space.enhance),
    "sharpness": lambda image, s, space: ImageEnhance.Sharpness(image).enhance(1 + s * space.enhance),
}
_UNSIGNED: Final[Mapping[str, _Operation]] = {
    "identity": lambda image, s, space: image,
    "posterize": lambda image, s, space: ImageOps.posterize(image, 8 - round(s * space.bits)),
    "solarize": lambda image, s, space: ImageOps.solarize(image, 255 * (1 - s)),  # type: ignore[arg-type]
    "autocontrast": lambda image, s, space: ImageOps.autocontrast(image),
    "equalize": lambda image, s, space: ImageOps.equalize(image),
}
#: Names of the operations that `trivial` and `rand` choose among.
OPERATIONS: Final = (*_SIGNED, *_UNSIGNED)


def apply(name: str, image: Image.Image, strength: float, draw: random.Random, space: Space) -> Image.Image:
    """One operation at a strength from 0 to 1, the sign drawn where it has one."""
    if name in _SIGNED:
        return _SIGNED[name](image, strength if draw.random() < 0.5 else -strength, space)
    return _UNSIGNED[name](image, strength, space)

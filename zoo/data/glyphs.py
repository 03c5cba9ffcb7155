"""`glyphs`: the digits 0-9 drawn from Pillow's embedded font, each one bent, shifted, thickened and blurred by chance.

A source task that needs no download. White on black, uint8 (N, 28, 28). The image at an index depends on the seed and
the index alone, so a shorter set is the beginning of a longer one.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from zoo.data.arrays import ArraySamples
from zoo.data.assemble import Rows
from zoo.data.dataset import TEST, TRAIN

TRAIN_IMAGES: Final = 6000
TEST_IMAGES: Final = 1000
SIZE: Final = 28

_CLASSES: Final = tuple("0123456789")
_TRAIN_SEED, _TEST_SEED = 0, 1
#: Side of the master drawing, and height of a digit on it, in pixels.
_CANVAS, _DIGIT_HEIGHT = 96, 56
#: Drawn at twice the size, then averaged down: smooth edges for one cheap transform.
_OVERSAMPLE: Final = 2
#: Outline added around a digit, in pixels of the master drawing.
_STROKES: Final = (0, 1, 2, 3, 4, 5)

#: Ranges of the random parameters, uniform, in the order of `_draw`'s arguments.
_RANGES: Final = {
    "angle": (-0.30, 0.30),  # radians
    "shear": (-0.40, 0.40),  # horizontal, per unit of height
    "width": (0.70, 1.50),  # factor on the digit's own width
    "height": (18.0, 27.0),  # of the digit, in pixels of the image
    "shift_x": (-2.5, 2.5),  # pixels
    "shift_y": (-2.5, 2.5),
    "stroke": (0.0, len(_STROKES) - 1e-9),
    "blur": (0.0, 1.8),  # standard deviation, pixels
    "contrast": (0.70, 1.30),
    "noise": (0.0, 16.0),  # standard deviation, grey levels
}


def read_glyphs(train_images: int = TRAIN_IMAGES) -> Rows:
    """So many training images (a seed of their own) and 1,000 test images, classes "0" to "9" in equal parts."""
    train, train_labels = render(train_images, _TRAIN_SEED)
    test, test_labels = render(TEST_IMAGES, _TEST_SEED)
    return Rows(
        "glyphs",
        ArraySamples(np.concatenate([train, test])),
        np.concatenate([train_labels, test_labels]),
        [TRAIN] * len(train) + [TEST] * len(test),
        source="glyphs" if train_images == TRAIN_IMAGES else f"glyphs:{train_images}",
    )


def render(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw digits.

    Returns:
        uint8 (count, 28, 28), and int64 labels 0-9: index modulo ten.
    """
    low, high = np.asarray(list(_RANGES.values())).T
    # Drawn row by row from a frozen generator: the first rows do not depend on how many follow.
    chance = np.random.RandomState(seed).uniform(size=(count, len(low))) * (high - low) + low
    grain = np.random.RandomState(seed + 1_000_000)
    masters = [[_master(digit, stroke) for stroke in _STROKES] for digit in _CLASSES]
    labels = np.arange(count, dtype=np.int64) % len(_CLASSES)
    images = np.empty((count, SIZE, SIZE), dtype=np.uint8)
    for index, (angle, shear, width, height, shift_x, shift_y, stroke, blur, contrast, noise) in enumerate(
        chance.tolist()
    ):
        master = masters[labels[index]][int(stroke)]
        bent = _bend(master, angle, shear, width, height, (shift_x, shift_y)).filter(ImageFilter.GaussianBlur(blur))
        grey = np.asarray(bent, dtype=np.float32) * contrast
        grey += grain.standard_normal((SIZE, SIZE)) * noise
        images[index] = np.clip(np.rint(grey), 0, 255)
    return images, labels


def _master(digit: str, stroke: int) -> Image.Image:
    """A digit in the middle of a large canvas."""
    font = ImageFont.load_default(_DIGIT_HEIGHT / 0.7)  # a digit is 0.7 of this font's nominal size
    left, top, right, bottom = font.getbbox(digit)
    image = Image.new("L", (_CANVAS, _CANVAS))
    middle = ((_CANVAS - left - right) / 2, (_CANVAS - top - bottom) / 2)
    ImageDraw.Draw(image).text(middle, digit, fill=255, font=font, stroke_width=stroke, stroke_fill=255)
    return image


def _bend(
    master: Image.Image, angle: float, shear: float, width: float, height: float, shift: tuple[float, float]
) -> Image.Image:
    """Scale, shear, turn and shift a master drawing onto the small image in one affine transform."""
    scale = _OVERSAMPLE * height / _DIGIT_HEIGHT
    cos, sin = np.cos(angle), np.sin(angle)
    forward = np.array([[cos, -sin], [sin, cos]]) @ np.array([[width, shear], [0.0, 1.0]]) * scale
    back = np.linalg.inv(forward)
    side = SIZE * _OVERSAMPLE
    centre = side / 2 + _OVERSAMPLE * np.asarray(shift)
    offset = _CANVAS / 2 - back @ centre
    coefficients = (*back[0], offset[0], *back[1], offset[1])
    large = master.transform((side, side), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
    return large.reduce(_OVERSAMPLE)

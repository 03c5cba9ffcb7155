"""`digits`: scikit-learn's 1,797 handwritten digits of 8x8 pixels (Alpaydin and Kaynak 1998, UCI)."""

from __future__ import annotations

from typing import Final

import numpy as np

from zoo.data.arrays import ArraySamples
from zoo.data.assemble import Rows
from zoo.data.dataset import TEST, TRAIN
from zoo.data.split import stratified

_TEST_IMAGES: Final = 899
_SEED: Final = 0


def read_digits() -> Rows:
    """uint8 (1797, 8, 8), 0 to 255; a fixed, stratified 898 for training and 899 for test."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    _, test = stratified(digits.target, _TEST_IMAGES / len(images), _SEED)
    splits = np.full(len(images), TRAIN)
    splits[test] = TEST
    return Rows("digits", ArraySamples(images), digits.target, splits.tolist(), source="digits")

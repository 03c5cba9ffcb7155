"""`digits`: scikit-learn's 1,797 handwritten digits of 8x8 pixels (Alpaydin and Kaynak 1998, UCI)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
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
    table = _table()
    images = np.rint(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    targets = table[:, -1].astype(np.int64)
    _, test = stratified(targets, _TEST_IMAGES / len(images), _SEED)
    splits = np.full(len(images), TRAIN)
    splits[test] = TEST
    return Rows("digits", ArraySamples(images), targets, splits.tolist(), source="digits")


def _table() -> np.ndarray:
    """(1797, 65) 64 pixels from 0 to 16 and the digit.

    Read from the file that scikit-learn ships: importing scikit-learn, SciPy and all costs as much as all the rest of
    a probe.
    """
    found = importlib.util.find_spec("sklearn")
    for folder in (found.submodule_search_locations or ()) if found else ():
        file = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits  # wherever it keeps them now

    digits = load_digits()
    return np.column_stack([digits.data, digits.target])

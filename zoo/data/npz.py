"""A NumPy archive: arrays `x` and `y`, or `x_train`, `y_train`, `x_val`, `y_val`, `x_test`, `y_test`.

The arrays are what `(X, y)` may be. Names are the same in upper case. Without `y` arrays there are no labels.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from zoo.data.arrays import ArraySamples, check_array
from zoo.data.assemble import Rows
from zoo.data.dataset import TEST, TRAIN, VAL
from zoo.errors import DataError

_SPLITS: Final = (TRAIN, VAL, TEST)
_HINT: Final = "Give x and y; or x_train, y_train and the same of val and test."


def read_npz(file: Path, *, labelled: bool = True) -> Rows:
    """Read an archive.

    Args:
        file: the .npz; nothing in it is unpickled.
        labelled: False = it may be without labels.

    Raises:
        DataError: it is damaged, or its arrays are not named as above, or do not go together.
    """
    arrays = _arrays(file)
    parts = {name: arrays[f"x_{name}"] for name in _SPLITS if f"x_{name}" in arrays}
    if bool(parts) == ("x" in arrays):
        found = ", ".join(sorted(arrays)) or "nothing"
        raise DataError(f"{file} holds {found}: the samples cannot be told from that", hint=_HINT)
    suffixes = {f"_{name}": x for name, x in parts.items()} or {"": arrays["x"]}
    shapes = {f"x{suffix}": (x.dtype, x.shape[1:]) for suffix, x in suffixes.items()}
    if len(set(shapes.values())) > 1:
        said = "; ".join(f"{name}: {dtype} (N, {', '.join(map(str, s))})" for name, (dtype, s) in shapes.items())
        raise DataError(f"the samples of {file} differ between its splits", why=said)
    labels = [arrays[f"y{suffix}"] for suffix in suffixes if f"y{suffix}" in arrays]
    if len(labels) not in (0, len(suffixes)) or (labelled and not labels):
        absent = next(f"y{suffix}" for suffix in suffixes if f"y{suffix}" not in arrays)
        raise DataError(f"{file} has no labels {absent}", hint=_HINT)
    for (suffix, x), y in zip(suffixes.items(), labels, strict=False):
        if y.ndim == 0 or len(x) != len(y):
            raise DataError(f"{file}: x{suffix} and y{suffix} have shapes {x.shape} and {y.shape}", hint=_HINT)
    samples = check_array(np.concatenate(list(suffixes.values())), f"x of {file}")
    splits = [name for name, x in parts.items() for _ in range(len(x))] if parts else None
    together = np.concatenate(labels) if labels else None
    return Rows(file.stem, ArraySamples(samples), together, splits, path=file, source=str(file))


def _arrays(file: Path) -> Mapping[str, np.ndarray]:
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            found = {name.lower(): archive[name] for name in archive.files}
    # A single array under this name (a .npy) is no context manager: a TypeError.
    except (zipfile.BadZipFile, zlib.error, ValueError, TypeError, EOFError, KeyError, OSError, RuntimeError) as error:
        raise DataError(
            f"{file} cannot be read as a NumPy archive",
            why=f"{type(error).__name__}: {error}",
            hint="Write it with numpy.savez, of plain arrays without objects.",
        ) from error
    if scalars := [name for name, array in found.items() if name.startswith("x") and array.ndim == 0]:
        raise DataError(f"{file}: {scalars[0]} is a single number", hint=_HINT)
    return found

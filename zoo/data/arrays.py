"""Arrays, tensors and pictures in memory, and map-style data sets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from zoo.data.dataset import Samples
from zoo.data.fingerprint import of_value
from zoo.data.sound import Sound
from zoo.errors import DataError

_LAYOUT: Final = "Raw images are uint8 (N, H, W) or (N, H, W, C); prepared input is floating, (N, ...)."
#: How many samples of a data set are read twice, to find random transforms.
_PROBES: Final = 8


class ArraySamples(Samples):
    """Rows of one array or tensor, checked by `check_array`; or of several that belong together."""

    def __init__(self, values: Any) -> None:
        self._values = values
        self.kind = kind_of(values)

    def __len__(self) -> int:
        return len(self._values[0] if isinstance(self._values, tuple) else self._values)

    def raw(self, row: int, shorter: int | None = None) -> Any:
        if isinstance(self._values, tuple):
            return tuple(part[row] for part in self._values)
        return self._values[row]

    def digest(self, row: int) -> str:
        return of_value(self.raw(row))

    def take(self, rows: np.ndarray) -> Any:
        if isinstance(self._values, tuple):
            return tuple(part[rows] for part in self._values)
        return None if _is_raw(self._values) else self._values[rows]


class ListSamples(Samples):
    """Pictures or arrays in a list."""

    def __init__(self, items: Sequence[Any]) -> None:
        self._items = [as_raw(item, f"item {index}") for index, item in enumerate(items)]
        self.kind = kind_of(self._items[0]) if self._items else "tensor"

    def __len__(self) -> int:
        return len(self._items)

    def raw(self, row: int, shorter: int | None = None) -> Any:
        return self._items[row]

    def digest(self, row: int) -> str:
        return of_value(self._items[row])


class MapSamples(Samples):
    """The first part of each item of a map-style data set (`__len__`, `__getitem__`)."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._digests: dict[int, str] = {}
        self.kind = kind_of(self.raw(0))

    def __len__(self) -> int:
        return len(self._dataset)

    def raw(self, row: int, shorter: int | None = None) -> Any:
        item = self._dataset[row]
        return as_raw(item[0] if isinstance(item, (tuple, list)) else item, self.location(row))

    def digest(self, row: int) -> str:
        if row not in self._digests:  # an item may have to be decoded
            self._digests[row] = of_value(self.raw(row))
        return self._digests[row]

    def location(self, row: int) -> str:
        return f"item {row} of the {type(self._dataset).__name__}"


def check_array(values: Any, what: str = "X") -> Any:
    """Check an array or a tensor of samples, rows first; raw tensors (N, C, H, W) become arrays (N, H, W, C).

    Raises:
        DataError: an empty array, a type or a number of dimensions that is no sample, NaN or infinity.
    """
    shape = tuple(values.shape)
    if len(shape) == 0 or math.prod(shape) == 0:
        raise DataError(f"{what} is empty: its shape is {shape}", hint=_LAYOUT)
    if _is_raw(values):
        if hasattr(values, "detach"):
            values = _channels_last(values.detach().cpu().numpy())
        if values.ndim not in (3, 4):
            raise DataError(
                f"{what} is uint8 of shape {shape}, which is not a row of images",
                hint=f"{_LAYOUT}{_square_hint(shape)}",
            )
        return values
    if len(shape) < 2:
        raise DataError(f"{what} has shape {shape}: one number a sample is no input", hint=_LAYOUT)
    if not _is_floating(values):
        if len(shape) > 2 or np.dtype(_dtype_name(values)).kind not in "iu":
            raise DataError(
                f"{what} is {_dtype_name(values)} of shape {shape}",
                hint=f"{_LAYOUT} Convert with astype('uint8') if its values are 0 to 255, else to float.",
            )
        return values
    finite = np.isfinite(_to_numpy(values).reshape(len(values), -1)).all(axis=1)
    if not finite.all():
        rows = np.flatnonzero(~finite)
        raise DataError(
            f"{len(rows)} of {len(values)} samples of {what} have NaN or infinite values, the first is row {rows[0]}",
            hint="Remove or fill them before learning.",
        )
    return values


def as_raw(item: Any, what: str) -> Any:
    """One sample as `Samples.raw` promises it.

    Raises:
        DataError: it is neither picture, array nor tensor, or has the wrong shape or NaN.
    """
    if hasattr(item, "getexif"):
        return _upright(item, what)
    if isinstance(item, Sound):
        return item
    if isinstance(item, (tuple, list)) and item and all(is_array(part) for part in item):
        return tuple(check_array(part[None], what)[0] for part in item)
    if not is_array(item):
        raise DataError(
            f"{what} is a {type(item).__name__}, not a picture, an array or a tensor",
            hint="Give PIL images, arrays, tensors or paths.",
        )
    return check_array(item[None], what)[0]


def kind_of(raw: Any) -> str:
    """The kind (see `Samples`) of raw samples, one or an array of them."""
    if isinstance(raw, Sound):
        return "audio"
    return "image" if hasattr(raw, "getexif") or (is_array(raw) and _is_raw(raw)) else "tensor"


def is_array(value: Any) -> bool:
    """Whether it is a NumPy array or a torch tensor (told without importing torch)."""
    return isinstance(value, np.ndarray) or (hasattr(value, "detach") and hasattr(value, "dtype"))


def labels_of(dataset: Any) -> Any:
    """Every label of a map-style data set: from its own table where that is safe, else item by item.

    Raises:
        DataError: its items are not (x, y).
    """
    table = _label_table(dataset)
    if table is not None:
        return table
    labels = []
    for row in range(len(dataset)):
        item = dataset[row]
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise DataError(
                f"item {row} of the {type(dataset).__name__} is not a pair (x, y)",
                hint="Return (sample, target) from __getitem__.",
            )
        label = item[1]
        labels.append(label.item() if hasattr(label, "item") and getattr(label, "ndim", 1) == 0 else label)
    return [_to_numpy(label) if is_array(label) else label for label in labels]


def classes_of(dataset: Any) -> tuple[str, ...] | None:
    """The names a map-style data set, or the one it is a subset of, has in `classes`."""
    while not hasattr(dataset, "classes") and hasattr(dataset, "dataset") and hasattr(dataset, "indices"):
        dataset = dataset.dataset
    names = getattr(dataset, "classes", None)
    return tuple(str(name) for name in names) if isinstance(names, (list, tuple)) and names else None


def refuse_random(dataset: Any, name: str) -> None:
    """Raise `DataError` if the same item, read twice, differs: features of it could not be kept."""
    samples = MapSamples(dataset)
    for row in {int(row) for row in np.linspace(0, len(dataset) - 1, min(_PROBES, len(dataset)))}:
        if of_value(samples.raw(row)) != of_value(samples.raw(row)):
            raise DataError(
                f"{name} gives another sample each time item {row} is read",
                why="Features are computed once for each sample, so random transforms cannot be part of the data.",
                hint="Take the random transforms out; augmentation is an option of the strategies that train.",
            )


def _label_table(dataset: Any) -> Any:
    if any(getattr(one, "target_transform", None) is not None for one in (dataset, getattr(dataset, "transforms", 0))):
        return None
    if hasattr(dataset, "indices") and hasattr(dataset, "dataset"):
        inner = _label_table(dataset.dataset)
        return None if inner is None else np.asarray(inner)[np.asarray(dataset.indices)]
    tensors = getattr(dataset, "tensors", None)
    if isinstance(tensors, tuple) and len(tensors) == 2:
        return _to_numpy(tensors[1])
    targets = getattr(dataset, "targets", None)
    if targets is None or len(targets) != len(dataset):
        return None
    return _to_numpy(targets) if is_array(targets) else np.asarray(targets)


def _upright(image: Any, what: str) -> Any:
    from zoo.data.images import upright

    try:
        image.load()
    except Exception as error:  # a lazily opened file: see `EncodedSamples.verify`
        raise DataError(f"{what}: the picture cannot be read", why=str(error)) from error
    return upright(image)


def _is_raw(values: Any) -> bool:
    return _dtype_name(values) == "uint8"


def _is_floating(values: Any) -> bool:
    return "float" in _dtype_name(values)


def _dtype_name(values: Any) -> str:
    return str(values.dtype).removeprefix("torch.")


def _to_numpy(values: Any) -> np.ndarray:
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        return (values.float() if _dtype_name(values) == "bfloat16" else values).numpy()
    return np.asarray(values)


def _channels_last(values: np.ndarray) -> np.ndarray:
    """torch's own layout for pictures is (N, C, H, W)."""
    if values.ndim == 4 and values.shape[1] in (1, 2, 3, 4) and values.shape[3] not in (1, 2, 3, 4):
        return np.ascontiguousarray(values.transpose(0, 2, 3, 1))
    return values


def _square_hint(shape: tuple[int, ...]) -> str:
    side = math.isqrt(shape[1]) if len(shape) == 2 else 0
    return f" Flattened images: reshape(-1, {side}, {side})." if side > 1 and side * side == shape[1] else ""

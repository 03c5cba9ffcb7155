"""Readers: a raw sample into the tensor that the weights were trained on.

The image reader goes through Pillow and NumPy alone: the pixels are those of `timm.data.create_transform`, and
nothing waits for torchvision to be imported (2 s here).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from zoo.catalog.spec import Preprocessing
from zoo.data.sound import Sound
from zoo.errors import DataError, UsageError

if TYPE_CHECKING:
    from zoo.data.dataset import Split

#: Pillow's filters by the names that timm and the registry use.
INTERPOLATIONS: Final = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
}
CROP_MODES: Final = ("center", "squash", "border")


class Reader(Protocol):
    """Turns one raw sample into a tensor, or a tuple of tensors."""

    @property
    def shorter(self) -> int | None:
        """The shorter side that pictures are resized to: `Split.raw` may decode far larger ones at reduced size."""
        ...

    def __call__(self, raw: Any) -> Tensor | tuple[Tensor, ...]:
        """Read one sample."""
        ...

    def describe(self) -> dict[str, Any]:
        """Everything the result depends on, as plain JSON values."""
        ...


#: Files that belong to weights besides their tensors ("tokenizer.json"), by name.
Assets = Mapping[str, bytes]
#: Makes a reader of a `Preprocessing` for a number of input channels and the weights' files.
ReaderFactory = Callable[[Preprocessing, int, Assets], Reader]


class Readers:
    """The readers known, by kind. An object, so that another kind can be added without touching anybody else's.

    A factory whose readers must see rows first, before they can read any, also has
    `fit(preprocessing, split) -> (preprocessing, notes)`: see `fit_reader`. A reader may have
    `check(split) -> notes` (see `check_rows`), and `order(split) -> positions`, by which samples of like size come
    together where their order does not matter.
    """

    def __init__(self) -> None:
        self._factories: dict[str, ReaderFactory] = {
            "image": _image_reader,
            "audio": _audio_reader,
            "table": _TableReaders(),
            "text": _text_reader,
            "tensor": _tensor_reader,
        }

    def add(self, kind: str, factory: ReaderFactory) -> None:
        """Make a kind known."""
        self._factories[kind] = factory

    def make(self, preprocessing: Preprocessing, in_chans: int, assets: Assets) -> Reader:
        """The reader for a preprocessing.

        Raises:
            UsageError: nobody knows the kind.
        """
        if preprocessing.kind not in self._factories:
            raise UsageError(
                f"no reader for {preprocessing.kind!r} input",
                why=f"Known: {', '.join(sorted(self._factories))}.",
                hint="Give tensors that are ready for the network and preprocessing of kind 'tensor'.",
            )
        return self._factories[preprocessing.kind](preprocessing, in_chans, assets)

    def fitter(self, kind: str) -> Callable[[Preprocessing, Split], tuple[Preprocessing, list[str]]] | None:
        """What fits readers of a kind; None where they need no fitting."""
        return getattr(self._factories.get(kind), "fit", None)


def _image_reader(preprocessing: Preprocessing, in_chans: int, assets: Assets) -> Reader:
    return ImageReader(preprocessing, in_chans)


def _tensor_reader(preprocessing: Preprocessing, in_chans: int, assets: Assets) -> Reader:
    return TensorReader(preprocessing, in_chans)


def _audio_reader(preprocessing: Preprocessing, in_chans: int, assets: Assets) -> Reader:
    from zoo.data.spectrogram import AudioReader

    return AudioReader(preprocessing, in_chans)


def _text_reader(preprocessing: Preprocessing, in_chans: int, assets: Assets) -> Reader:
    from zoo.data.text import TextReader

    return TextReader(preprocessing, assets)


class _TableReaders:
    def __call__(self, preprocessing: Preprocessing, in_chans: int, assets: Assets) -> Reader:
        from zoo.data.table import TableReader

        return TableReader(preprocessing, in_chans)

    def fit(self, preprocessing: Preprocessing, split: Split) -> tuple[Preprocessing, list[str]]:
        from zoo.data.table import fit

        return fit(preprocessing, split)


def fit_reader(
    preprocessing: Preprocessing | None, split: Split, *, readers: Readers | None = None
) -> tuple[Preprocessing | None, list[str]]:
    """A preprocessing that knows what its reader has to know of the rows that are learned from.

    Most readers need nothing, and weights bring what theirs once saw: then the very same preprocessing comes back. Else
    it comes back with that in `extra`, and with the shape of one sample as `input_size`, whose first number is
    `in_chans`: the network is built for it.

    Args:
        preprocessing: the weights' or the architecture's.
        split: the rows that are learned from, and no other.
        readers: the kinds known; None = those of the zoo.

    Returns:
        The preprocessing, and what a person should know.

    Raises:
        DataError: nothing can be learned from these rows.
    """
    fitter = (readers or Readers()).fitter(preprocessing.kind) if preprocessing is not None else None
    if preprocessing is None or fitter is None or preprocessing.extra:
        return preprocessing, []
    return fitter(preprocessing, split)


def fitted_width(preprocessing: Preprocessing | None, *, readers: Readers | None = None) -> int | None:
    """`in_chans` of the network that a fitted reader was made for; None for readers that are not fitted."""
    if preprocessing is None or not preprocessing.extra or not (readers or Readers()).fitter(preprocessing.kind):
        return None
    return preprocessing.input_size[0]


def check_rows(read: Reader, split: Split) -> list[str]:
    """What a person should know of rows before they are read, as far as the reader looks at them.

    Raises:
        DataError: they cannot be read; place and cause are named.
    """
    check = getattr(read, "check", None)
    return list(check(split)) if check is not None else []


def reader(
    preprocessing: Preprocessing | None,
    in_chans: int = 3,
    assets: Assets = MappingProxyType({}),
    *,
    readers: Readers | None = None,
) -> Reader:
    """The reader for a network: raw sample -> float32 tensor, or a tuple of tensors.

    Args:
        preprocessing: of the weights; None = the network takes tensors that are ready.
        in_chans: channels that the network takes.
        assets: files that belong to the weights besides tensors.
        readers: the kinds known; None = those of the zoo.

    Raises:
        UsageError: an unknown kind, interpolation or crop mode.
    """
    return (readers or Readers()).make(preprocessing or Preprocessing(kind="tensor"), in_chans, assets)


@dataclass(frozen=True)
class TensorReader:
    """Tensors and numeric arrays pass unchanged (float64 becomes float32); raw images are refused."""

    preprocessing: Preprocessing
    in_chans: int = 3
    shorter: int | None = None

    def __call__(self, raw: Any) -> Tensor | tuple[Tensor, ...]:
        if isinstance(raw, tuple):
            return tuple(ready(part) for part in raw)
        if isinstance(raw, (Image.Image, Sound)) or str(raw.dtype).endswith("uint8"):
            raise DataError(
                "this network has no preprocessing for raw samples",
                hint="Give tensors that are ready for it, or say how pictures become its input: "
                "compose(..., preprocessing=zoo.Preprocessing(input_size=(3, 224, 224))).",
            )
        return ready(raw)

    def describe(self) -> dict[str, Any]:
        """See `Reader`."""
        return {**describe(self.preprocessing), "in_chans": self.in_chans}


@dataclass(frozen=True)
class ImageReader:
    """Pictures and uint8 arrays: channels, resize, crop, scale to [0, 1], normalise. Floating input passes unchanged.

    Recordings are seen as log-mel pictures of the whole input size (see `zoo.data.spectrogram`).

    Args:
        preprocessing: of kind "image".
        in_chans: 1 and 3 are converted into each other; any other number must be that of the array. For one channel
            mean and std are averaged, for others they are repeated in a cycle.
    """

    preprocessing: Preprocessing
    in_chans: int = 3
    shorter: int | None = field(init=False)
    _mean: np.ndarray = field(init=False, repr=False, compare=False)
    _std: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        spec = self.preprocessing
        _one_of("interpolation", spec.interpolation, INTERPOLATIONS)
        _one_of("crop_mode", spec.crop_mode, CROP_MODES)
        if len(spec.input_size) != 3 or not 0 < spec.crop_pct <= 2:
            raise UsageError(
                f"input_size {spec.input_size} with crop_pct {spec.crop_pct} is no preprocessing of images",
                hint="input_size is (channels, height, width), crop_pct between 0 and 2.",
            )
        object.__setattr__(self, "shorter", min(self._scaled))
        object.__setattr__(self, "_mean", per_channel(spec.mean, self.in_chans))
        object.__setattr__(self, "_std", per_channel(spec.std, self.in_chans))

    def __call__(self, raw: Any) -> Tensor | tuple[Tensor, ...]:
        if isinstance(raw, tuple):
            return tuple(ready(part) for part in raw)
        if isinstance(raw, Sound):
            return self._hearing(raw)
        if not isinstance(raw, Image.Image) and not str(raw.dtype).endswith("uint8"):
            return ready(raw)
        pixels = self.pixels(raw)
        # NumPy, not torch: this runs in threads, where each would start torch's own pool.
        scaled = np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)
        scaled /= np.float32(255)
        scaled -= self._mean
        scaled /= self._std
        return torch.from_numpy(scaled)

    @functools.cached_property
    def _hearing(self) -> Reader:
        return _audio_reader(replace(self.preprocessing, kind="audio", extra={}), self.in_chans, {})

    def pixels(self, raw: Image.Image | np.ndarray) -> np.ndarray:
        """uint8 (height, width, in_chans), resized and cropped, not yet normalised."""
        planes = self._planes(raw)
        if len(planes) == 1:
            return _with_channels(np.asarray(self._shape(planes[0], self._fill)))
        fills = self._fill
        return np.stack([np.asarray(self._shape(p, (f,))) for p, f in zip(planes, fills, strict=True)], axis=-1)

    def describe(self) -> dict[str, Any]:
        """See `Reader`."""
        return {**describe(self.preprocessing), "in_chans": self.in_chans}

    @property
    def _scaled(self) -> tuple[int, int]:
        """(height, width) before the crop."""
        _, height, width = self.preprocessing.input_size
        return math.floor(height / self.preprocessing.crop_pct), math.floor(width / self.preprocessing.crop_pct)

    @property
    def _fill(self) -> tuple[int, ...]:
        return tuple(round(255 * float(value)) for value in self._mean.ravel())

    def _planes(self, raw: Image.Image | np.ndarray) -> list[Image.Image]:
        """One L or RGB picture; or one L picture for each channel."""
        image: Image.Image | None = None
        array: np.ndarray | None = None
        if isinstance(raw, Image.Image):
            image, found = raw, len(raw.getbands())
        else:
            array = _with_channels(np.asarray(raw))
            found = array.shape[2]
            if found in (1, 3):
                image = Image.fromarray(array[..., 0] if found == 1 else array)
        if image is not None and self.in_chans in (1, 3):
            mode = "L" if self.in_chans == 1 else "RGB"
            return [image if image.mode == mode else image.convert(mode)]
        if array is None or found != self.in_chans:
            raise DataError(
                f"the image has {found} channels, but the network takes {self.in_chans}",
                hint=f"Load the network with in_chans={found}, or give arrays (H, W, {self.in_chans}), channels last.",
            )
        return [Image.fromarray(np.ascontiguousarray(array[..., channel])) for channel in range(found)]

    def _shape(self, image: Image.Image, fill: tuple[int, ...]) -> Image.Image:
        spec = self.preprocessing
        height, width = self._scaled
        if spec.crop_mode == "squash":
            size = (width, height)
        elif spec.crop_mode == "border" or height != width:
            ratios = image.height / height, image.width / width
            ratio = max(ratios) if spec.crop_mode == "border" else min(ratios)
            size = (max(1, round(image.width / ratio)), max(1, round(image.height / ratio)))
        else:
            size = _shorter_side(image.size, height)
        if image.size != size:
            image = image.resize(size, INTERPOLATIONS[spec.interpolation])
        return _centre(image, spec.input_size[1:], fill if spec.crop_mode == "border" else None)


def describe(preprocessing: Preprocessing) -> dict[str, Any]:
    """A preprocessing as plain JSON values."""
    plain = {one.name: getattr(preprocessing, one.name) for one in fields(preprocessing)}
    return {
        key: list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value
        for key, value in plain.items()
    }


def from_description(description: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing that `describe` described; keys it does not know (as `in_chans`) are passed over."""
    known = {one.name for one in fields(Preprocessing)}
    given: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in description.items() if key in known
    }
    return Preprocessing(**given)


def ready(value: Any) -> Tensor:
    """A prepared sample as a tensor: integers as int64, floating numbers as float32."""
    tensor = value if isinstance(value, Tensor) else torch.from_numpy(np.ascontiguousarray(value))
    return tensor.float() if tensor.is_floating_point() else tensor.long()


def _shorter_side(size: tuple[int, int], wanted: int) -> tuple[int, int]:
    width, height = size
    if width <= height:
        return wanted, int(wanted * height / width)
    return int(wanted * width / height), wanted


def _centre(image: Image.Image, size: tuple[int, ...], fill: tuple[int, ...] | None) -> Image.Image:
    """Cut the centre out; a picture smaller than that is padded first (black, or `fill`)."""
    height, width = size
    missing = max(0, width - image.width), max(0, height - image.height)
    if any(missing):
        border = (missing[0] // 2, missing[1] // 2, (missing[0] + 1) // 2, (missing[1] + 1) // 2)
        colour: Any = 0 if fill is None else fill[0] if image.mode == "L" else fill
        image = ImageOps.expand(image, border, colour)
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def _with_channels(array: np.ndarray) -> np.ndarray:
    return array[..., None] if array.ndim == 2 else array


def per_channel(values: tuple[float, ...], channels: int) -> np.ndarray:
    """(channels, 1, 1) float32: for one channel their mean, for many repeated in a cycle."""
    if channels == 1:
        values = (sum(values) / len(values),)
    return np.asarray([values[i % len(values)] for i in range(channels)], dtype=np.float32)[:, None, None]


def _one_of(what: str, value: str, known: Any) -> None:
    if value not in known:
        raise UsageError(f"no {what} {value!r}", hint=f"One of: {', '.join(known)}.")

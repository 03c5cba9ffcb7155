"""Files that name or shape their tensors otherwise than the network: an older release's, another library's.

A backbone's `translate` is called as `translate(tensors, module)`: the file's tensors by the file's names, and the
network without values. It returns the tensors by the network's names. timm's `checkpoint_filter_fn` are such functions.
It is called twice: with tensors that have shapes and no values, so that the result can be compared with the network
before memory is taken, then with the mapped file. A function of one argument is given the tensors alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zoo.catalog import targets
from zoo.catalog.spec import Backbone
from zoo.errors import IntegrityError
from zoo.weights.header import TensorInfo

DTYPES: Final[Mapping[str, torch.dtype]] = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "U16": torch.uint16, "I16": torch.int16,
    "U32": torch.uint32, "I32": torch.int32, "U64": torch.uint64, "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz, "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32,
    "F64": torch.float64, "C64": torch.complex64,
}  # fmt: skip
#: New elements that a translation may make for each one of the network: it joins and resizes, it does not grow.
_GROWTH: Final = 4
_SPARE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Arriving:
    """A tensor on its way into a network, as `TensorInfo` describes one of a file."""

    shape: tuple[int, ...]
    kind: str
    dtype: str

    @classmethod
    def of(cls, tensor: Tensor) -> Arriving:
        """What is known of `tensor` without its values."""
        return cls(tuple(tensor.shape), kind(tensor.dtype), str(tensor.dtype).removeprefix("torch."))


def kind(dtype: torch.dtype) -> str:
    """ "float", "int", "bool" or "complex"."""
    if dtype.is_floating_point:
        return "float"
    return "complex" if dtype.is_complex else "bool" if dtype == torch.bool else "int"


def foresee(spec: Backbone, infos: Mapping[str, TensorInfo], module: nn.Module) -> dict[str, Arriving]:
    """What `spec.translate` will make of a file, by the network's names; no memory is taken.

    Raises:
        IntegrityError: it cannot be done, or would take memory out of all proportion to the network.
    """
    try:
        bare = {name: torch.empty(info.shape, dtype=DTYPES[info.dtype], device="meta") for name, info in infos.items()}
    except RuntimeError as error:  # sizes that overflow
        raise IntegrityError("translation failed", why=str(error)) from error
    allowed = _GROWTH * sum(tensor.numel() for tensor in module.state_dict().values()) + _SPARE
    with torch.device("meta"), _Allowance(allowed):
        found = translate(spec, bare, module)
    return {name: Arriving.of(tensor) for name, tensor in found.items()}


def translate(spec: Backbone, tensors: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Call `spec.translate`, which may change the mapping it is given but not the tensors.

    Raises:
        IntegrityError: it fails on this file.
        PluginError: there is no such function.
    """
    assert spec.translate is not None
    function = targets.load(spec.translate, plugin=spec.plugin)
    try:
        with torch.no_grad():
            alone = len(inspect.signature(function).parameters) == 1
            found: Any = function(dict(tensors)) if alone else function(dict(tensors), module)
    except Exception as error:
        raise IntegrityError("translation failed", why=f"{type(error).__name__}: {error}") from error
    if not isinstance(found, Mapping) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise IntegrityError("translation failed", why="it gave something else than tensors by name")
    return dict(found)


class _Allowance(TorchDispatchMode):
    """Counts the elements of new tensors, and stops where they exceed what is allowed."""

    def __init__(self, elements: int) -> None:
        super().__init__()
        self.left = elements

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.left -= sum(leaf.numel() for leaf in tree_leaves(made) if isinstance(leaf, Tensor))
            if self.left < 0:
                raise MemoryError("it would make tensors much larger than the network")
        return made

"""Everything random in a fit: seeded, set aside for the caller, and kept with a checkpoint."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class RandomState:
    """The state of every generator.

    Attributes:
        python: what `random.getstate` gives.
        numpy: what `np.random.get_state` gives.
        torch: by device ("cpu", "cuda:0" ...).
    """

    python: tuple[Any, ...]
    numpy: tuple[Any, ...]
    torch: dict[str, Tensor]

    @classmethod
    def now(cls) -> RandomState:
        """The state at this moment; of the accelerators too, if one was woken."""
        found = {"cpu": torch.get_rng_state()} | {name: get() for name, (get, _) in _accelerators().items()}
        return cls(random.getstate(), np.random.get_state(legacy=True), found)  # type: ignore[arg-type]

    def set(self) -> None:
        """Make it the state of this moment. Devices that are not here are left out."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.torch["cpu"].clone())
        for name, (_, give) in _accelerators().items():
            if name in self.torch:
                give(self.torch[name].clone())

    def facts(self) -> dict[str, Any]:
        """Python's and NumPy's part as JSON; the tensors are kept as tensors."""
        version, words, gauss = self.python
        kind, keys, *rest = self.numpy
        return {"python": [version, list(words), gauss], "numpy": [kind, keys.tolist(), *rest]}

    @classmethod
    def of(cls, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> RandomState:
        """What `facts` and `torch` tell of."""
        version, words, gauss = facts["python"]
        kind, keys, *rest = facts["numpy"]
        numpy = (kind, np.array(keys, dtype=np.uint32), *rest)
        return cls((version, tuple(words), gauss), numpy, dict(tensors))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed Python, NumPy and torch on every device; the caller's own random numbers go on afterwards as before."""
    before = RandomState.now()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        before.set()


def reseed(*parts: int) -> None:
    """Seed Python, NumPy and torch on every device by several numbers."""
    seed = int.from_bytes(hashlib.sha256(" ".join(map(str, parts)).encode()).digest()[:4], "little")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextmanager
def deterministic() -> Iterator[None]:
    """Kernels that give the same bits each time, where torch has them; it warns where it has none."""
    mode = torch.get_deterministic_debug_mode()
    cudnn, memory = torch.backends.cudnn, cast(Any, torch.utils.deterministic)
    kept = cudnn.deterministic, cudnn.benchmark, memory.fill_uninitialized_memory
    # Not `use_deterministic_algorithms`, which imports torch's compiler: two seconds.
    torch.set_deterministic_debug_mode(max(mode, 1))
    memory.fill_uninitialized_memory = False  # it guards against faulty kernels, at the price of a pass over memory
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        cudnn.deterministic, cudnn.benchmark, memory.fill_uninitialized_memory = kept


def _accelerators() -> dict[str, tuple[Callable[[], Tensor], Callable[[Tensor], None]]]:
    """By device: how its state is read and set. Empty where none was woken: asking a sleeping one would start it."""
    current = torch.accelerator.current_accelerator(check_available=True)
    if current is None:
        return {}
    module: Any = torch.get_device_module(current)
    if not getattr(module, "is_initialized", lambda: True)():
        return {}
    if current.type == "mps":
        return {"mps": (module.get_rng_state, module.set_rng_state)}
    return {
        f"{current.type}:{i}": (partial(module.get_rng_state, i), partial(module.set_rng_state, device=i))
        for i in range(torch.accelerator.device_count())
    }

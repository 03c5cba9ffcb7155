"""Import a backbone's code without importing torch's compiler for what that code only mentions.

torchvision asks the compiler for one function that it calls while tracing, and timm marks a few methods as not to be
compiled. Either makes torch import its compiler and sympy, 1.6 s, in processes that compile nothing.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

import torch

_COMPILER: Final = "torch._dynamo"
_UTILS: Final = "torch._dynamo.utils"
_ASKED: Final = "is_compile_supported"


@contextmanager
def compiler_put_off() -> Iterator[None]:
    """While this holds, imports get stand-ins that become the real thing when they are used.

    Whoever imports the compiler itself gets it, as does whoever asks it for anything else.
    """
    if _COMPILER in sys.modules or _UTILS in sys.modules:
        yield
        return
    stand_in, disable = _Utils(_UTILS), torch.compiler.disable
    sys.modules[_UTILS] = stand_in
    torch.compiler.disable = functools.partial(_disable, disable)  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compiler.disable = disable
        if sys.modules.get(_UTILS) is stand_in:
            del sys.modules[_UTILS]


class _Utils(ModuleType):
    """Stands for the compiler's utilities until one is wanted."""

    def __getattr__(self, name: str) -> Any:
        if name == _ASKED:
            return lambda *given, **named: getattr(importlib.import_module(_UTILS), _ASKED)(*given, **named)
        if name.startswith("__"):  # the import system's own questions
            raise AttributeError(name)
        if sys.modules.get(_UTILS) is self:
            del sys.modules[_UTILS]
        return getattr(importlib.import_module(_UTILS), name)


def _disable(
    real: Callable[..., Any], function: Any = None, recursive: bool = True, *, reason: str | None = None
) -> Any:
    """`torch.compiler.disable`, applied at the first call that is made once the compiler is there."""
    if function is None:
        return functools.partial(_disable, real, recursive=recursive, reason=reason)
    if isinstance(function, type) or not hasattr(function, "__code__"):
        return real(function, recursive, reason=reason)
    disabled: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def later(*given: Any, **named: Any) -> Any:
        if _COMPILER not in sys.modules:
            return function(*given, **named)
        if not disabled:
            disabled.append(real(function, recursive, reason=reason))
        return disabled[0](*given, **named)

    later._torchdynamo_disable = True  # type: ignore[attr-defined]  # what the compiler looks for
    later._torchdynamo_orig_callable = function  # type: ignore[attr-defined]
    return later

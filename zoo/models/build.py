"""Calling a backbone's builder: at random, without memory, or without initialisation."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from zoo.catalog import targets
from zoo.catalog.spec import Backbone, Weights
from zoo.errors import PluginError, RegistryError
from zoo.models.put_off import compiler_put_off

#: Classes of a builder that names no default of its own.
_CLASSES: Final = 1000
_META: Final = torch.device("meta")
_CPU: Final = torch.device("cpu")


class Builder:
    """The spec's builder, called in three ways: on meta, without initialisation, and at random."""

    def __init__(self, spec: Backbone, weights: Weights | None, seed: int) -> None:
        self.spec = spec
        self.seed = seed
        self.options = dict(weights.options) if weights else {}
        refused = sorted(set(self.options) - set(spec.options))
        if refused:
            raise RegistryError(
                f"{weights.name if weights else spec.name}: the backbone {spec.name} takes no option {refused[0]!r}",
                hint=f"It takes: {', '.join(spec.options) or 'none'}.",
            )
        with compiler_put_off():
            self.build: Callable[..., Any] = targets.load(spec.build, plugin=spec.plugin)

    def random(self, *, num_classes: int | None, in_chans: int) -> nn.Module:
        """Initialised as its authors do, under the seed."""
        module = self._call(_CPU, num_classes, in_chans)
        return module.float().requires_grad_(True)

    def on_meta(self, *, num_classes: int | None, in_chans: int) -> nn.Module:
        """Names, shapes and types, without memory."""
        try:
            with _SkipInitialisation():  # it writes nothing here, and is most of the time
                return self._call(_META, num_classes, in_chans)
        except PluginError:
            # Some builders read a number out of a tensor, which meta does not have. Parameters that are never written
            # take no memory either.
            return self.bare(num_classes=num_classes, in_chans=in_chans)

    def bare(self, *, num_classes: int | None, in_chans: int) -> nn.Module:
        """Real buffers; parameters that were never written."""
        with _SkipInitialisation():
            return self._call(_CPU, num_classes, in_chans)

    def _call(self, device: torch.device, num_classes: int | None, in_chans: int) -> nn.Module:
        classes = self.default_classes() if num_classes is None else num_classes
        try:
            with torch.random.fork_rng(devices=[]), device:
                # Not torch.manual_seed, which seeds every accelerator too.
                torch.default_generator.manual_seed(self.seed)
                module = self.build(num_classes=classes, in_chans=in_chans, **self.options)
        except Exception as error:
            raise PluginError(
                f"the backbone {self.spec.full_name} could not be built",
                why=f"{type(error).__name__}: {error}",
                hint=f"Called with num_classes={classes}, in_chans={in_chans}, options {self.options or 'none'}.",
            ) from error
        if not isinstance(module, nn.Module):
            raise PluginError(f"the builder of {self.spec.full_name} gave no nn.Module but {type(module).__name__}")
        return module

    def default_classes(self) -> int:
        """The builder's own default, where its signature has one."""
        try:
            found = inspect.signature(self.build).parameters.get("num_classes")
        except (TypeError, ValueError):
            found = None
        return found.default if found is not None and type(found.default) is int else _CLASSES


class _SkipInitialisation(TorchFunctionMode):
    """In-place operations on parameters do nothing: they are about to be replaced.

    It holds for the calling thread alone, unlike patching `torch.nn.init`.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(function, "__name__", "")
        in_place = name.endswith("_") and not name.endswith("__") and name != "requires_grad_"
        if in_place:
            # `torch.nn.init` hands its tensor over by name.
            target = args[0] if args else (kwargs or {}).get("tensor")
            if isinstance(target, nn.Parameter):
                return target
        return function(*args, **(kwargs or {}))


def fill_unsaved(module: nn.Module, build: Callable[[], nn.Module]) -> None:
    """Give tensors that no file holds (position tables, masks) the values that the builder computes.

    Args:
        module: built on meta, its parameters filled.
        build: builds the same again, with real buffers; called only where something is still on meta.
    """
    if not any(_on_meta(tensor) for _, _, tensor in _loose(module)):
        return
    computed = {(path, key): tensor for path, key, tensor in _loose(build())}
    for path, key, tensor in list(_loose(module)):
        if not _on_meta(tensor):
            continue
        value = computed.get((path, key))
        if value is None or _holds_parameter(value):
            raise PluginError(
                f"{type(module).__name__}: {path}.{key} cannot be filled",
                why="it is no buffer, and the builder does not compute it the same way each time",
                hint="The builder should register it with register_buffer.",
            )
        owner = module.get_submodule(path)
        if key in owner._buffers:
            owner._buffers[key] = value
        else:
            object.__setattr__(owner, key, value)


def _on_meta(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.is_meta
    if isinstance(value, Mapping):
        return any(_on_meta(item) for item in value.values())
    return isinstance(value, (list, tuple)) and any(_on_meta(item) for item in value)


def _holds_parameter(value: Any) -> bool:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return any(_holds_parameter(item) for item in value)
    return isinstance(value, nn.Parameter)


def _loose(module: nn.Module) -> Iterator[tuple[str, str, Any]]:
    """(module's name, attribute, value) of all that may hold tensors without being saved: buffers and attributes."""
    for path, child in module.named_modules():
        for key, buffer in child._buffers.items():
            if buffer is not None and key in child._non_persistent_buffers_set:
                yield path, key, buffer
        for key, value in vars(child).items():
            if not key.startswith(("_buffers", "_parameters", "_modules")) and isinstance(
                value, (Tensor, list, tuple, dict)
            ):
                yield path, key, value

"""BatchNorm statistics of given rows, exact and layer by layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from zoo.adapt.strategy import Context
from zoo.errors import UsageError
from zoo.models.network import Network, running_in_eval


class _Seen(Exception):  # noqa: N818  (it is a signal, not an error)
    """The layer's input was seen; the rest of the forward pass is not wanted."""


def reestimate(network: Network, batches: Iterable[Any], context: Context) -> set[str]:
    """Give every BatchNorm layer that the features pass the statistics of these rows.

    Layer by layer, in the order of the forward pass: a layer's mean and variance are those of its input over all rows
    and positions, with every layer before it already re-estimated. So the statistics fit together: the network in
    evaluation mode gives what it would give in training mode with all rows in a single batch. It costs one pass per
    layer, ended at that layer. Sums are float64, so neither the order of the rows nor the batch size matters, and the
    variance is E[x^2] - E[x]^2, without Bessel's correction.

    Args:
        network: changed in place.
        batches: of inputs on the network's device; iterated once per layer.
        context: for the precision in which the network runs.

    Returns:
        The names of the tensors that changed.

    Raises:
        UsageError: no BatchNorm layer with statistics on the way to the features, one that is passed twice, or a
            layer that sees a single value per channel.
    """
    changed = set()
    with running_in_eval(network), torch.inference_mode(), context.placement.autocast():
        for name in layers(network, next(iter(batches))):
            layer = network.get_submodule(name)
            mean, variance = moments(network, layer, batches, name)
            # In place and by `data`: the statistics stay the tensors that they were, and no inference tensors.
            layer.running_mean.data.copy_(mean)
            layer.running_var.data.copy_(variance)
            changed |= {f"{name}.running_mean", f"{name}.running_var"}
    return changed


def layers(network: Network, x: Any) -> list[str]:
    """Names of the BatchNorm layers with statistics that `features(x)` passes, in the order in which it does.

    Raises:
        UsageError: there is none, or one is passed twice.
    """
    names = {module: name for name, module in network.named_modules() if _keeps_statistics(module)}
    passed: list[str] = []
    handles = [
        module.register_forward_pre_hook(lambda module, _: passed.append(names[module]))  # type: ignore[func-returns-value]
        for module in names
    ]
    try:
        network.features(x)
    finally:
        for handle in handles:
            handle.remove()
    if not passed:
        raise UsageError(
            "adabn needs BatchNorm layers before the tap, and this network has none",
            why="It replaces the statistics of BatchNorm; networks without it have none to replace.",
            hint="Choose another backbone, or coral, which needs none.",
        )
    if twice := sorted({name for name in passed if passed.count(name) > 1}):
        raise UsageError(
            f"the BatchNorm layer {twice[0]!r} is passed more than once in a forward pass",
            why="Its statistics would depend on themselves.",
            hint="Choose another backbone, or coral.",
        )
    return passed


def moments(network: Network, layer: nn.Module, batches: Iterable[Any], name: str) -> tuple[Tensor, Tensor]:
    """Mean and variance (C,), float64, of the layer's input over all rows and positions."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())

    def see(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal count, total, squares
        # (N, C), (N, C, L), (N, C, H, W) ...: channels second.
        x = inputs[0].detach().cpu().double().transpose(0, 1).flatten(1)
        count += x.shape[1]
        total, squares = total + x.sum(dim=1), squares + x.square().sum(dim=1)
        raise _Seen

    handle = layer.register_forward_pre_hook(see)
    try:
        for x in batches:
            try:
                network.features(x)
            except _Seen:
                continue
    finally:
        handle.remove()
    if count < 2:
        raise UsageError(
            f"the BatchNorm layer {name!r} sees {count} value a channel: that has no variance", hint="Give more rows."
        )
    mean = total / count
    return mean, (squares / count - mean.square()).clamp_min(0)


def _keeps_statistics(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and isinstance(module.running_mean, Tensor)

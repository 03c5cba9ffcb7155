"""A copy of a network for inference on the CPU: BatchNorm folded into convolutions, activations fused, weights packed.

It computes in bf16, and three things keep its features at a cosine of 0.999 and more to those of fp32, all of them
facts of the network and not of samples: filters keep their sums (`round_filters`); what rounding changes at the mean
input, which the BatchNorm before it tells, goes into the bias; and the first layers, where they are a few per cent of
the work, stay in fp32.

The chains convolution -> BatchNorm -> activation are found by watching one forward pass: a layer that was called once,
with the very tensor that another gave. Whether anything else read that tensor cannot be seen, so the copy is believed
only after its features of the same samples were found equal; otherwise there is none, and the network runs as it is.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from zoo.models.network import Network, running_in_eval

#: Largest relative difference of the features, in fp32, at which a copy is believed.
TOLERANCE: Final = 1e-3
#: The same once weights and activations are bf16.
ROUNDED: Final = 0.2
#: Taps whose rounding errors cancel.
_GROUP: Final = 16
_LONG: Final = 1024
#: The first convolutions compute in fp32 where they are at most this share of all multiply-adds: pictures have even
#: areas, which few channels carry, so that the rounding errors of activations are the same over the whole area there.
_FIRST: Final = 2
_SHARE: Final = 1 / 16
#: A convolution of more weights (a fully connected layer in disguise) is left as it is: packing it takes seconds.
_HEAVY: Final = 1 << 23
#: Convolutions that use `weight` and `bias` linearly; subclasses may standardise them. timm's pads to "same" size.
_LINEAR: Final = ("torch.nn.modules.conv.Conv2d", "timm.layers.conv2d_same.Conv2dSame")
#: oneDNN's names of activations and their parameters.
_ACTIVATIONS: Final[dict[type[nn.Module], tuple[str, tuple[float, ...]]]] = {
    nn.ReLU: ("relu", ()),
    nn.ReLU6: ("hardtanh", (0.0, 6.0)),
    nn.Hardswish: ("hardswish", ()),
    nn.SiLU: ("swish", ()),
}


def fuse(network: Network, x: Tensor) -> Network | None:
    """A copy of the network that computes the same features faster in bf16; None where none was found.

    Args:
        network: on the CPU; left as it is.
        x: (n, C, H, W) fp32, some samples to watch and to compare.
    """
    if x.ndim != 4 or not available():
        return None
    try:
        with running_in_eval(network), torch.no_grad():
            with _watching(network) as calls:
                expected = network.features(x)
            chains = _chains(calls)
            if not chains:
                return None
            # Tensors are shared, layers are copied: a convolution is given others, and none is written to.
            tensors = [*network.parameters(), *network.buffers()]
            twin = copy.deepcopy(network, {id(tensor): tensor for tensor in tensors}).eval()
            for chain in chains:
                chain.fold(twin)
            found = twin.features(x)
            if not _equal(found, expected):
                return None
            means = {chain.gave: chain.mean() for chain in chains}
            early = _early(chains)
            for i, chain in enumerate(chains):
                if i < early:
                    chain.pack(twin, torch.float32)
                else:
                    chain.pack(twin, torch.bfloat16, means.get(_key(chain.conv.given)))
            with torch.autocast("cpu", torch.bfloat16):
                found = twin.features(x).float()
            return twin if _equal(found, expected, ROUNDED) else None
    # A layer that is reached into, or copied, in ways nobody foresaw: the network itself still runs.
    except Exception:
        return None


def available() -> bool:
    """Whether this processor and this torch have oneDNN's convolutions in bf16."""
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return torch.backends.mkldnn.is_available() and supported is not None and bool(supported())


class PackedConv(nn.Module):
    """A convolution whose weights lie as oneDNN wants them, with the activation behind it.

    Args:
        conv: its weights representable in `dtype`; of timm's `Conv2dSame` the padding is computed from the input.
        activation: oneDNN's name for it and its parameters.
        shape: of the input it was seen with, for the layout.
        dtype: what it computes in, and gives.
    """

    def __init__(
        self,
        conv: nn.Conv2d,
        activation: tuple[str, tuple[float, ...]],
        shape: tuple[int, ...],
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.same = type(conv) is not nn.Conv2d
        self.kernel, self.stride, self.dilation = conv.kernel_size, conv.stride, conv.dilation
        self.padding = [0, 0] if self.same else [int(side) for side in conv.padding]
        self.groups = conv.groups
        self.activation = activation
        sides = self._sides(shape)
        padded = [*shape[:2], shape[2] + sides[2] + sides[3], shape[3] + sides[0] + sides[1]]
        weight = conv.weight.detach().to(dtype, memory_format=torch.channels_last).to_mkldnn()
        reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        self.weight = reorder(weight, self.padding, self.stride, self.dilation, self.groups, padded)
        self.bias = None if conv.bias is None else conv.bias.detach().float()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in `dtype`."""
        x = x.to(self.dtype, memory_format=torch.channels_last)
        if any(sides := self._sides(tuple(x.shape))):
            x = nn.functional.pad(x, sides)
        name, parameters = self.activation
        return torch.ops.mkldnn._convolution_pointwise(
            x, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups, name, parameters, ""
        )

    def _sides(self, shape: tuple[int, ...]) -> list[int]:
        """Padding left, right, top, bottom that makes the output ceil(input / stride) wide and high."""
        if not self.same:
            return [0, 0, 0, 0]
        sides = []
        for size, kernel, stride, dilation in zip(
            (shape[3], shape[2]), self.kernel[::-1], self.stride[::-1], self.dilation[::-1], strict=True
        ):
            missing = max((math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
            sides += [missing // 2, missing - missing // 2]
        return sides


def round_filters(weight: Tensor) -> Tensor:
    """Round filters (O, ...) fp32 to numbers that bf16 has, so that the sum of each filter's taps stays.

    Rounding each tap to the nearest makes an error that is the same at every position, and that averaging over
    positions does not take away. The taps of a filter see much the same values, so what counts is the sum of their
    errors: each tap takes up the error of those before it, the largest first, in groups of about `_GROUP`. Filters
    of more than `_LONG` taps are rounded to the nearest: there the errors of many channels cancel by themselves.
    """
    flat = weight.detach().flatten(1).float()
    taps = flat.shape[1]
    if taps > _LONG:
        return flat.bfloat16().float().view_as(weight)
    order = flat.abs().argsort(dim=1, descending=True)
    groups = math.ceil(taps / _GROUP)
    padded = nn.functional.pad(flat.gather(1, order), (0, -taps % groups)).unflatten(1, (-1, groups))
    rounded, carry = torch.empty_like(padded), torch.zeros_like(padded[:, 0])
    for i in range(padded.shape[1]):
        wanted = padded[:, i] + carry
        rounded[:, i] = wanted.bfloat16().float()
        carry = wanted - rounded[:, i]
    return torch.empty_like(flat).scatter_(1, order, rounded.flatten(1)[:, :taps]).view_as(weight)


@dataclass(frozen=True)
class _Call:
    """One call of one layer; tensors with their version, which counts what was written into them in place."""

    name: str
    layer: nn.Module
    given: tuple[Tensor, int]
    gave: tuple[Tensor, int]
    shape: tuple[int, ...]

    @property
    def work(self) -> int:
        """Multiply-adds of a convolution."""
        weight: Any = self.layer.weight
        return self.gave[0].numel() * weight[0].numel()


def _key(tensor: tuple[Tensor, int]) -> tuple[int, int]:
    """What tells a tensor in its version from every other."""
    return id(tensor[0]), tensor[1]


@dataclass(frozen=True)
class _Chain:
    """A convolution, and the BatchNorm and activation that follow it, by name."""

    conv: _Call
    norm: _Call | None = None
    activation: _Call | None = None

    @property
    def gave(self) -> tuple[int, int]:
        return _key((self.activation or self.norm or self.conv).gave)

    def mean(self) -> Tensor | None:
        """(C,) the mean of each channel, if what BatchNorm gives is normally distributed; None without BatchNorm."""
        if self.norm is None:
            return None
        norm: Any = self.norm.layer
        z = torch.special.ndtri((torch.arange(256) + 0.5) / 256)
        x = z[:, None].repeat(1, norm.num_features)
        if norm.weight is not None:
            x = x * norm.weight + norm.bias
        layer: Any = self.activation.layer if self.activation else getattr(norm, "act", None)
        return x.mean(0) if layer is None else layer.forward(x).mean(0)  # no hook of anybody's is called

    def fold(self, network: Network) -> None:
        """Take the BatchNorm into the convolution, in fp32; what was in its place stays as its activation."""
        if self.norm is None:
            return
        conv: Any = network.module.get_submodule(self.conv.name)
        norm: Any = network.module.get_submodule(self.norm.name)
        scale = (norm.running_var.double() + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight.double()
        bias = 0 if conv.bias is None else conv.bias.double()
        bias = (bias - norm.running_mean.double()) * scale
        if norm.bias is not None:
            bias = bias + norm.bias.double()
        conv.weight = nn.Parameter((conv.weight.double() * scale[:, None, None, None]).float(), requires_grad=False)
        conv.bias = nn.Parameter(bias.float(), requires_grad=False)
        network.module.set_submodule(self.norm.name, getattr(norm, "act", None) or nn.Identity())

    def pack(self, network: Network, dtype: torch.dtype, mean: Tensor | None = None) -> None:
        """Put the packed convolution in the place of the plain one.

        Args:
            mean: (C,) of what it takes: what rounding the weights changes there goes into the bias (Nagel et al. 2019,
                arXiv:1906.04721, section 4.2).
        """
        conv: Any = network.module.get_submodule(self.conv.name)
        if conv.padding_mode != "zeros" or isinstance(conv.padding, str) or conv.weight.numel() > _HEAVY:
            return
        if dtype == torch.bfloat16:
            exact = conv.weight
            conv.weight = nn.Parameter(round_filters(exact), requires_grad=False)
            if mean is not None and conv.bias is not None:
                lost = (exact - conv.weight).sum(dim=(2, 3)).unflatten(0, (conv.groups, -1))
                lost = (lost @ mean.view(conv.groups, -1, 1)).flatten()
                conv.bias = nn.Parameter(conv.bias + lost, requires_grad=False)
        last = self.activation or self.norm
        layer = network.module.get_submodule(last.name) if last else None
        known = _ACTIVATIONS.get(type(layer)) if layer is not None else None
        if known is not None and last is not None:
            network.module.set_submodule(last.name, nn.Identity())
        network.module.set_submodule(self.conv.name, PackedConv(conv, known or ("none", ()), self.conv.shape, dtype))


@contextmanager
def _watching(network: Network) -> Iterator[list[_Call]]:
    """Note the calls of layers that chains are made of, in order; every tensor is kept, so that no id comes twice."""
    calls: list[_Call] = []

    def note(name: str, layer: nn.Module) -> Any:
        before: list[int] = []

        def enter(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            before[:] = [part._version for part in inputs if isinstance(part, Tensor)]

        def leave(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if len(inputs) == len(before) == 1 and isinstance(output, Tensor):
                given, gave = (inputs[0], before[0]), (output, output._version)
                calls.append(_Call(name, layer, given, gave, tuple(inputs[0].shape)))

        return [layer.register_forward_pre_hook(enter), layer.register_forward_hook(leave)]

    layers = network.module.named_modules()
    handles = [handle for name, layer in layers if _matters(layer) for handle in note(name, layer)]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _matters(layer: nn.Module) -> bool:
    return _is_linear(layer) or _is_norm(layer) or type(layer) in _ACTIVATIONS


def _is_linear(layer: nn.Module) -> bool:
    return f"{type(layer).__module__}.{type(layer).__qualname__}" in _LINEAR


def _is_norm(layer: nn.Module) -> bool:
    """BatchNorm with statistics of its own, or timm's with an activation inside."""
    plain = type(layer) is nn.BatchNorm2d or f"{type(layer).__module__}.{type(layer).__qualname__}" == (
        "timm.layers.norm_act.BatchNormAct2d"
    )
    return plain and getattr(layer, "running_var", None) is not None


def _chains(calls: list[_Call]) -> list[_Chain]:
    counts: dict[int, int] = {}
    for call in calls:
        counts[id(call.layer)] = counts.get(id(call.layer), 0) + 1
    once = [call for call in calls if counts[id(call.layer)] == 1]
    taken = {_key(call.given): call for call in reversed(once)}

    def behind(call: _Call) -> _Call | None:
        """What took the very tensor that this call gave, before anything was written into it (`x += shortcut`)."""
        return taken.get(_key(call.gave))

    chains = []
    for call in once:
        if not _is_linear(call.layer):
            continue
        norm = behind(call)
        if norm is not None and not _is_norm(norm.layer):
            chains.append(_Chain(call, None, norm if type(norm.layer) in _ACTIVATIONS else None))
            continue
        inner = norm is not None and hasattr(norm.layer, "act")
        activation = behind(norm) if norm is not None and not inner else None
        if activation is not None and type(activation.layer) not in _ACTIVATIONS:
            activation = None
        chains.append(_Chain(call, norm, activation))
    return chains


def _early(chains: list[_Chain]) -> int:
    """How many convolutions stay in fp32: the first `_FIRST` if they are little work, and a bottleneck behind them."""
    work = [chain.conv.work for chain in chains]
    if sum(work[:_FIRST]) > _SHARE * sum(work):
        return 0
    behind: list[Any] = [chain.conv.layer for chain in chains[_FIRST : _FIRST + 1]]
    return _FIRST + sum(conv.out_channels < conv.in_channels for conv in behind)


def _equal(found: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> bool:
    if found.shape != expected.shape:
        return False
    return bool((found - expected).norm() <= tolerance * expected.norm())

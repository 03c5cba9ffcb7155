"""Which layers of a backbone get a low-rank change, and of which rank."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from torch import nn

from zoo.errors import UsageError
from zoo.models.network import Network

#: A transposed convolution's weights are laid out otherwise.
_KINDS: Final = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
#: Layers whose matrices are no `weight` of a linear or convolution layer.
_OTHERS: Final = (nn.MultiheadAttention, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.RNNBase)
#: Layers named in a message.
_NAMED: Final = 6


@dataclass(frozen=True)
class Layer:
    """A layer's weights as `groups` matrices (rows, columns), each with a change of rank `rank`.

    Attributes:
        weight: name of the tensor in the backbone.
    """

    weight: str
    groups: int
    rows: int
    columns: int
    rank: int


@dataclass(frozen=True)
class Chosen:
    """Layers to change, and what the user should know of those left out."""

    layers: tuple[Layer, ...]
    notes: tuple[str, ...] = ()


def choose(network: Network, targets: str, rank: int) -> Chosen:
    """The layers before the tap that `targets` names.

    Args:
        network: the backbone.
        targets: globs of dotted names, separated by commas.
        rank: the highest.

    Raises:
        UsageError: a glob that names no layer, or only layers that have no low rank.
    """
    found = layers_of(network, rank)
    named: set[str] = set()
    for glob in (part.strip() for part in targets.split(",")):
        hits = {path for path in found if fnmatchcase(path, glob)}
        if glob and not hits:
            few = ", ".join(list(found)[:_NAMED]) + (" ..." if len(found) > _NAMED else "")
            raise UsageError(
                f"targets={glob!r} names no linear or convolution layer before the tap",
                hint=f"Layers: {few}." if found else "This backbone has none: choose fine-tune.",
            )
        named |= hits
    chosen = {path: layer for path, layer in found.items() if path in named}
    left = [path for path, layer in chosen.items() if not layer.rank]
    if len(left) == len(chosen):
        raise UsageError(
            "no layer that targets names has a change of low rank",
            why=f"Of {', '.join(left[:_NAMED])} it would hold as many numbers as the weights themselves.",
            hint="Name other layers, or choose fine-tune.",
        )
    others = [
        name
        for path, names in _other_weights(network).items()
        if any(fnmatchcase(path, part.strip()) for part in targets.split(","))
        for name in names
    ]
    notes = (*_said(left, len(chosen)), *_said_of_others(others))
    return Chosen(tuple(layer for layer in chosen.values() if layer.rank), notes)


def _said(left: list[str], chosen: int) -> tuple[str, ...]:
    if not left:
        return ()
    return (
        f"lora leaves {len(left)} of {chosen} layers as they are ({left[0]}{' ...' if len(left) > 1 else ''}): a "
        "low-rank change of a depthwise convolution would hold as many numbers as its weights",
    )


def _said_of_others(names: list[str]) -> tuple[str, ...]:
    if not names:
        return ()
    return (
        f"lora leaves these weights as they are: {', '.join(names[:_NAMED])}{' ...' if len(names) > _NAMED else ''}. "
        "It changes those that a linear or convolution layer has as its weight, not attention's joint projections, "
        "recurrent layers, transposed convolutions, or weights made of others (weight_norm)",
    )


def _other_weights(network: Network) -> dict[str, list[str]]:
    """By dotted name of a layer before the tap, its matrices that get no change because of where they are held."""
    behind = set(network.behind_tap())
    used = {name for stage, names in network.stages().items() if stage not in behind for name in names}
    found = {}
    for path, module in network.named_modules():
        made = isinstance(module, _KINDS) and "weight" not in module._parameters
        if not made and not isinstance(module, _OTHERS):
            continue
        inner = [(name, value) for name, value in module.named_parameters() if made or "." not in name]
        names = [f"{path}.{name}" if path else name for name, value in inner if value.ndim > 1]
        if names := [name for name in names if name in used and not name.endswith(("_g", "original0"))]:
            found[path] = names
    return found


def layers_of(network: Network, rank: int) -> dict[str, Layer]:
    """Linear and convolution layers before the tap by dotted name; rank 0 where no low rank saves anything."""
    behind = set(network.behind_tap())
    used = {name for stage, names in network.stages().items() if stage not in behind for name in names}
    found = {}
    for path, module in network.named_modules():
        weight = f"{path}.weight" if path else "weight"
        if isinstance(module, _KINDS) and weight in used:
            groups = getattr(module, "groups", 1)
            rows, columns = module.weight.shape[0] // groups, module.weight[0].numel()
            # r (rows + columns) < rows * columns
            least = (rows * columns - 1) // (rows + columns)
            found[path] = Layer(weight, groups, rows, columns, min(rank, least))
    return found

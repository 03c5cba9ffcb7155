"""A backbone without its classifier, filled from tensors that a saved run brings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from zoo.catalog.spec import Backbone, Preprocessing, Weights
from zoo.errors import IntegrityError
from zoo.models.build import Builder, fill_unsaved
from zoo.models.network import Network
from zoo.models.stages import NoHead, find_head

#: Differences named in an error.
_NAMED = 5


def restore_network(
    spec: Backbone,
    tensors: Mapping[str, Tensor],
    *,
    weights: Weights,
    in_chans: int,
    tap: str | None,
    preprocessing: Preprocessing | None,
    where: Path,
    assets: Mapping[str, bytes] | None = None,
) -> Network:
    """Build `spec` without memory, drop its classifier, and fill it with `tensors`, all of them and no others.

    Args:
        spec: the architecture.
        tensors: by the module's own names, the classifier's left out.
        weights: what it was built from: its number of classes and builder options; without a source for random ones.
        in_chans: channels it was built with.
        tap: where features are read.
        preprocessing: of raw samples.
        where: the file, for messages.
        assets: files that it reads with, by name.

    Raises:
        IntegrityError: a tensor is missing, unexpected or of another shape.
    """
    builder = Builder(spec, weights, seed=0)

    def build(bare: bool) -> nn.Module:
        make = builder.bare if bare else builder.on_meta
        return make(num_classes=weights.num_classes, in_chans=in_chans)

    whole = build(bare=False)
    # Found while it is there: of a network without classifier another layer would be the last one.
    head = ",".join(find_head(whole, spec.head))
    module = without_head(whole, head)
    fill(module, tensors, where)
    fill_unsaved(module, lambda: without_head(build(bare=True), head))
    return Network(
        module.eval(),
        spec,
        head=head,
        tap=tap,
        preprocessing=preprocessing,
        weights=weights.name if weights.source else None,
        weights_id=weights.sha256,
        options=dict(weights.options),
        num_classes=weights.num_classes,
        assets=assets,
    )


def without_head(module: nn.Module, head: str | None) -> nn.Module:
    """The same module without its classifier."""
    for name in find_head(module, head):
        module.set_submodule(name, NoHead())
    return module


def fill(module: nn.Module, tensors: Mapping[str, Tensor], where: Path) -> None:
    """Give every tensor of `module` its value, after proof that names and shapes are the same.

    Raises:
        IntegrityError: they are not; the first five differences are listed.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    differences = [f"missing: {name} {list(shape)}" for name, shape in expected.items() if name not in found]
    differences += [f"unexpected: {name} {list(shape)}" for name, shape in found.items() if name not in expected]
    differences += [
        f"{name}: shape {list(found[name])} in the file, {list(shape)} in the network"
        for name, shape in expected.items()
        if found.get(name, shape) != shape
    ]
    differences += [
        f"{name}: {tensors[name].dtype} in the file, {tensor.dtype} in the network"
        for name, tensor in module.state_dict().items()
        if name in tensors and tensors[name].dtype.is_floating_point != tensor.dtype.is_floating_point
    ]
    if differences:
        raise IntegrityError(
            f"{where} does not fit: {len(differences)} of {len(expected)} tensors differ",
            why="\n".join(differences[:_NAMED]),
            hint="The file was changed, or the plugin's network is not the one that was saved.",
        )
    module.load_state_dict(dict(tensors), strict=True, assign=True)
    for parameter in module.parameters():
        parameter.requires_grad_(True)

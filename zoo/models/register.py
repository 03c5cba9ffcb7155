"""A weights file of the user's own gets a name, once a network was built of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.catalog.pickles import is_pickle, refusal
from zoo.catalog.spec import Weights, check_weights
from zoo.errors import NotFoundError, UsageError
from zoo.weights.header import read_header
from zoo.weights.known import identify
from zoo.weights.register import refuse_taken, register_file
from zoo.weights.source import single

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry


def register_weights(
    file: str | Path,
    backbone: str,
    name: str,
    *,
    license: str | None = None,
    trained_on: str | None = None,
    like: str | None = None,
    default: bool = False,
    replace: bool = False,
    registry: Registry | None = None,
    note: Callable[[str], None] | None = None,
) -> Weights:
    """Copy a safetensors file into the store and name it in the user's registry, after proving that it fits.

    Args:
        file: it is left as it is.
        backbone: the architecture it is for.
        name: `arch.tag` of the new weights.
        license: of the weights.
        trained_on: what they were trained on.
        like: weights whose preprocessing, builder options and further files are taken; None = those of the registry
            entry that is pinned to these very bytes, else the backbone's, which is a guess, and the files that its
            preprocessing names and that lie beside `file`.
        default: whether they become the architecture's default.
        replace: whether weights of this name may be replaced.
        registry: None = the default one.
        note: told a sentence that the user should read.

    Raises:
        NotFoundError: no such file, backbone or weights.
        UsageError: the name does not fit the architecture, or is taken.
        IntegrityError: the file is a pickle, damaged, or for another network. Nothing was added.
        DiskError: the store cannot be written.
    """
    file = Path(file)
    if registry is None:
        from zoo.catalog.registry import default as default_registry

        registry = default_registry()
    spec = registry.backbone(backbone)
    model = registry.resolve(like)[1] if like else None
    if not file.is_file():
        raise NotFoundError(f"no file {file}", hint="Give the path of a .safetensors file.")
    if is_pickle(file.name):
        raise refusal(file)
    tag = name.partition(".")[2]
    if name.rpartition("/")[2].partition(".")[0] != spec.name or not tag:
        raise UsageError(f"the name {name} does not name weights of {spec.name}", hint=f"Write {spec.name}.TAG.")
    read_header(file)
    weights = Weights(
        name=name,
        backbone=spec.name,
        source=f"file:{file}",
        default=default,
        license=license,
        trained_on=trained_on,
        options=model.options if model else {},
        preprocessing=model.preprocessing if model else None,
        files=single(model).files if model else (),
    )
    check_weights(weights)
    if not replace:
        refuse_taken(name, registry)
    weights, said = identify(file, weights, spec, registry)
    if note is not None and said:
        note(said)
    from zoo.models.load import load_network

    network = load_network(spec, weights, file)
    return register_file(file, dataclasses.replace(weights, num_classes=network.num_classes), registry, replace=replace)

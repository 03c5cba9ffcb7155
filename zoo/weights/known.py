"""A file that the registry knows by its bytes, whatever it is called here, and what lies beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.catalog.spec import Backbone, Weights
from zoo.weights.files import hash_file
from zoo.weights.remembered import Remembered
from zoo.weights.source import ASSET, single

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry


def identify(path: Path, weights: Weights, backbone: Backbone, registry: Registry) -> tuple[Weights, str | None]:
    """Fill in what `weights` leaves open about the file at `path`: preprocessing, builder options, classes, origin, and
    further files.

    If a registry entry of the same backbone is pinned to the file's sha256, its facts are taken; else the
    backbone's preprocessing stands, which is a guess, and files that it names ("tokenizer.json") are those beside it.

    Returns:
        The weights, and a sentence that the user should read, or None.

    Raises:
        NotFoundError: there is no such file.
    """
    if weights.preprocessing is not None:
        return weights, None
    sha256 = Remembered(registry.settings).sha256(path)
    for known in registry.weights_of(backbone):
        if known.sha256 == sha256:
            facts = ("preprocessing", "options", "num_classes", "license", "trained_on")
            filled = {name: getattr(weights, name) or getattr(known, name) for name in facts}
            files = weights.files or (single(known).files if known.files else ())
            return (
                dataclasses.replace(weights, **filled, files=files),
                f"{path} is {known.name}: its preprocessing is used",
            )
    files = weights.files or tuple(_beside(path, backbone))
    return dataclasses.replace(weights, files=files), (
        f"how {path} wants samples preprocessed is not known: a guess for {backbone.name} is used"
        + (f", with {', '.join(file['name'] for file in files)} beside it" if files and not weights.files else "")
        + "; register it with --like WEIGHTS to say it"
    )


def _beside(path: Path, backbone: Backbone) -> Iterator[dict[str, Any]]:
    """Entries of the files that the backbone's preprocessing names, where they lie beside `path`."""
    named = backbone.preprocessing.extra.values() if backbone.preprocessing else ()
    for name in named:
        if isinstance(name, str) and ASSET.fullmatch(name) and (file := path.absolute().parent / name).is_file():
            yield {"source": f"file:{file}", "name": name, "sha256": hash_file(file), "role": "asset"}

"""A file that the registry knows by its bytes, whatever it is called here."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.catalog.spec import Backbone, Weights
from zoo.weights.remembered import Remembered

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry


def identify(path: Path, weights: Weights, backbone: Backbone, registry: Registry) -> tuple[Weights, str | None]:
    """Fill in what `weights` leaves open about the file at `path`: preprocessing, builder options, classes, origin.

    If a registry entry of the same backbone is pinned to the file's sha256, its facts are taken; else the
    backbone's preprocessing stands, which is a guess.

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
            return dataclasses.replace(weights, **filled), f"{path} is {known.name}: its preprocessing is used"
    return weights, (
        f"how {path} wants pictures preprocessed is not known: a guess for {backbone.name} is used; "
        "register it with --like WEIGHTS to say it"
    )

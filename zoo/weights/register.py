"""Add a weights file of the user's own to the store and to the user's registry."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.catalog.ledger import add_weights
from zoo.catalog.spec import Weights, check_weights
from zoo.errors import UsageError
from zoo.settings import Settings
from zoo.weights.header import read_header
from zoo.weights.source import Asset, LocalFile, assets_of, source_of
from zoo.weights.store import AssetStore, Store

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry


def register_file(path: Path, weights: Weights, registry: Registry, *, replace: bool = False) -> Weights:
    """Copy `path` into the store and write `weights` into `$ZOO_HOME/registry.toml`.

    Args:
        path: a safetensors file; it is left as it is.
        weights: the entry; its source, sha256 and size are filled in here. Assets that are files of this machine are
            copied too.
        registry: notices the change, so that the name is known at once.
        replace: overwrite an entry of this name.

    Raises:
        UsageError: the name is taken.
        IntegrityError: the file is no sound safetensors file.
    """
    check_weights(weights)
    if not replace:
        refuse_taken(weights.name, registry)
    read_header(path)
    settings = registry.settings
    store = Store(settings)
    sha256 = store.add(path)
    blob = store.path(sha256)
    entry = dataclasses.replace(
        weights,
        source=f"file:{blob.relative_to(settings.home).as_posix()}",
        sha256=sha256,
        bytes=blob.stat().st_size,
        files=tuple(_kept(weights, asset, settings) for asset in assets_of(weights)),
    )
    add_weights(settings.user_registry, entry, replace=replace)
    # A registry that was made without the user's file does not know the entry; its place is then said in full.
    known = (one for one in registry.weights(weights.name) if one.name == weights.name)
    return next(known, dataclasses.replace(entry, source=f"file:{blob}"))


def _kept(weights: Weights, asset: Asset, settings: Settings) -> dict[str, Any]:
    """The entry of an asset, which is copied into the store where it is a file of this machine."""
    facts = {"name": asset.name, "sha256": asset.sha256, "role": asset.role}
    source = source_of(dataclasses.replace(weights, source=asset.source))
    if not isinstance(source, LocalFile):
        return {"source": asset.source, **facts}
    store = AssetStore(settings)
    blob = store.path(store.add(source.path, expected=asset.sha256))
    return {"source": f"file:{blob.relative_to(settings.home).as_posix()}", **facts}


def refuse_taken(name: str, registry: Registry) -> None:
    """Raise `UsageError` if there are weights of this name."""
    if any(known.name == name for known in registry.weights(name)):
        raise UsageError(f"weights {name!r} exist already", hint="Choose another tag, or say --replace (replace=True).")

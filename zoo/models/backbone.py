"""A name -> a loaded network on an accelerator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zoo.catalog.spec import Backbone, Weights
from zoo.models import accelerator as accelerators
from zoo.models.build import Builder
from zoo.models.load import load_network
from zoo.models.network import Network
from zoo.settings import Settings
from zoo.weights.assets import read as read_assets
from zoo.weights.batch import notes_of
from zoo.weights.lock import place
from zoo.weights.pull import Progress, pull, tell

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry


def load_backbone(
    name: str | Backbone,
    weights: str | Path | Weights | None = "default",
    accelerator: str = "auto",
    in_chans: int | None = 3,
    tap: str | None = None,
    *,
    registry: Registry | None = None,
    seed: int = 0,
    num_classes: int | None = None,
    progress: Progress | None = None,
) -> Network:
    """Load a backbone, classifier included; missing weights are pulled, and their terms told as `zoo.pull` does.

    Args:
        name: `arch`, `arch.tag`, `plugin/arch[.tag]`, an alias, or a spec.
        weights: "default", a tag, `arch.tag`, the path of a safetensors file, weights of yours, or None / "none" for
            random ones.
        accelerator: "auto" (the best present), "cpu", "cuda", "cuda:1", "mps" ...
        in_chans: input channels; None = the weights' own.
        tap: where `features` are read; None = the classifier's input.
        registry: where names are looked up; None = the default one.
        seed: of random weights.
        num_classes: None = the weights' own; another number makes the classifier random.
        progress: told of the bytes that arrive.

    Returns:
        An `nn.Module` in eval mode, fp32, contiguous.

    Raises:
        NotFoundError: no such backbone or weights, or not here while offline.
        UsageError: no such accelerator or tap.
        DownloadError, IntegrityError, DiskError: from the pull and the load.
    """
    placement = accelerators.choose(accelerator)
    settings = registry.settings if registry is not None else Settings()
    spec, chosen = _resolve(name, weights, registry)
    with _registry(registry).blaming(spec.plugin):
        Builder(spec, chosen, seed)  # a package that it lacks is said before anything is pulled
    pulled = pull(chosen, settings=settings, registry=registry, progress=progress) if chosen is not None else None
    if chosen is not None and pulled is not None and not pulled.cached:
        for text in notes_of(chosen, pulled, place(settings)):
            tell(text)
    with _registry(registry).blaming(spec.plugin):
        network = load_network(
            spec,
            chosen,
            pulled.path if pulled else None,
            in_chans=in_chans,
            tap=tap,
            seed=seed,
            num_classes=num_classes,
            settings=settings,
            assets=read_assets(pulled.assets) if pulled else None,
        )
    return network.to(placement.device)


def _resolve(
    name: str | Backbone, weights: str | Path | Weights | None, registry: Registry | None
) -> tuple[Backbone, Weights | None]:
    if isinstance(weights, Weights):
        return name if isinstance(name, Backbone) else _registry(registry).backbone(name), weights
    if isinstance(name, Backbone) and weights in (None, "none"):
        return name, None
    return _registry(registry).resolve(name, weights)


def _registry(registry: Registry | None) -> Registry:
    if registry is not None:
        return registry
    from zoo.catalog.registry import default

    return default()

"""The light half of the Python API: what can be asked without torch. Public as `zoo.NAME`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.catalog import registry as _registry
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.catalog.loaded import PluginReport
    from zoo.catalog.spec import Backbone, Strategy, Weights


def list_backbones(
    pattern: str | None = None,
    *,
    pretrained: bool | None = None,
    family: str | None = None,
    plugin: str | None = None,
    license: str | None = None,
    max_params: float | None = None,
    input: str | None = None,
    pulled: bool | None = None,
    shadowed: bool = False,
) -> list[Backbone]:
    """The backbones that pass every filter; see `zoo.Registry.backbones` for the arguments."""
    return _registry.default().backbones(
        pattern,
        pretrained=pretrained,
        family=family,
        plugin=plugin,
        license=license,
        max_params=max_params,
        input=input,
        pulled=pulled,
        shadowed=shadowed,
    )


def list_strategies() -> list[Strategy]:
    """Every way to adapt a backbone."""
    return _registry.default().strategies()


def list_weights(pattern: str | None = None) -> list[Weights]:
    """Every set of weights whose name, `arch.tag`, matches the glob `pattern`."""
    return _registry.default().weights(pattern)


def show(name: str) -> Backbone | Weights | Strategy:
    """One backbone, set of weights or strategy by its name.

    Raises:
        NotFoundError: nothing is called that.
    """
    return _registry.default().find(name)


def plugins() -> list[PluginReport]:
    """What became of each plugin: name, version, origin, state, gives, problem."""
    return _registry.default().reports()


def register(plugin: Any, name: str | None = None) -> str:
    """Add a module or object with `@zoo.hookimpl` functions, or one backbone or strategy spec; returns its name.

    Raises:
        UsageError: another plugin has the name.
    """
    return _registry.default().register(plugin, name)


def unregister(name: str) -> None:
    """Take out the plugin of that name.

    Raises:
        NotFoundError: there is none.
    """
    _registry.default().unregister(name)


def verify(*names: str) -> dict[str, Any]:
    """Hash again what is on this disk, and check headers and numbers; without names everything that is here.

    Returns:
        `ok`, `damaged` and `absent`: how many; `checked`: for each file its names, state, why, path, sha256, bytes.

    Raises:
        NotFoundError: a name that nobody has. Damaged and absent files are in what is returned.
    """
    from zoo.models.finite import not_finite
    from zoo.weights.verify import facts
    from zoo.weights.verify import verify as verify_weights

    return facts(verify_weights(names, _registry.default(), not_finite))


def pull(
    name: str, locked: bool = False, offline: bool | None = None, *, update: bool = False, to: str | Path | None = None
) -> Path:
    """The path of a verified safetensors file with the weights of `name`, downloaded if need be.

    Terms of weights that were just pulled, and what a long wait is for, are warnings of the logger `zoo`.

    Args:
        name: `arch` (its default weights), `arch.tag`, `plugin/arch[.tag]` or an alias.
        locked: take only what zoo.lock or the registry pins, and change nothing in the lock.
        offline: send no request; None = as `ZOO_OFFLINE` says.
        update: ask the source again, unless the registry pins its bytes, and rewrite zoo.lock.
        to: a folder that gets a copy for a machine without network (`zoo cache add`).

    Raises:
        NotFoundError: no such weights, or offline and not pulled yet.
        DownloadError: the network or the server failed.
        IntegrityError: the bytes are not those that were promised.
    """
    from zoo.weights.batch import notes_of
    from zoo.weights.lock import place
    from zoo.weights.pull import pull as pull_weights
    from zoo.weights.pull import tell

    registry = _registry.default()
    weights = registry.resolve(name)[1]
    if weights is None:
        raise UsageError(f"{name!r} names no weights")
    settings = registry.settings if offline is None else replace(registry.settings, offline=offline)
    if to is not None:
        from zoo.weights.portable import expect_place, export

        expect_place(Path(to))
    got = pull_weights(weights, settings=settings, registry=registry, locked=locked, update=update, asked=True)
    for text in () if got.cached else notes_of(weights, got, place(settings)):
        tell(text)
    if to is None:
        return got.path
    return export([weights], [got], Path(to), registry)[got.name]

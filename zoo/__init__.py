"""Transfer learning by composition: any backbone, any adaptation strategy, on real input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

__version__ = "0.1.0"

if TYPE_CHECKING:
    from zoo.adapt.compose import compose
    from zoo.adapt.saved import load
    from zoo.api import (
        list_backbones,
        list_strategies,
        list_weights,
        plugins,
        pull,
        register,
        show,
        unregister,
        verify,
    )
    from zoo.catalog.hookspecs import hookimpl
    from zoo.catalog.registry import Registry
    from zoo.catalog.spec import GRADIENT_OPTIONS, Backbone, Preprocessing, Strategy, Weights
    from zoo.choose.audit import audit
    from zoo.choose.rank import rank
    from zoo.errors import (
        DataError,
        DiskError,
        DownloadError,
        IntegrityError,
        NotFoundError,
        PluginError,
        RegistryError,
        TrainingError,
        UsageError,
        ZooError,
    )
    from zoo.models.backbone import load_backbone
    from zoo.models.register import register_weights

#: Public name -> the module that has it, imported on first use, so that `import zoo` costs nothing.
_HOMES: Final = {
    "compose": "zoo.adapt.compose",
    "load": "zoo.adapt.saved",
    "load_backbone": "zoo.models.backbone",
    "register_weights": "zoo.models.register",
    "audit": "zoo.choose.audit",
    "rank": "zoo.choose.rank",
    "hookimpl": "zoo.catalog.hookspecs",
    "Registry": "zoo.catalog.registry",
    **dict.fromkeys(
        (
            "list_backbones",
            "list_strategies",
            "list_weights",
            "plugins",
            "pull",
            "register",
            "show",
            "unregister",
            "verify",
        ),
        "zoo.api",
    ),
    **dict.fromkeys(("GRADIENT_OPTIONS", "Backbone", "Preprocessing", "Strategy", "Weights"), "zoo.catalog.spec"),
    **dict.fromkeys(
        (
            "DataError",
            "DiskError",
            "DownloadError",
            "IntegrityError",
            "NotFoundError",
            "PluginError",
            "RegistryError",
            "TrainingError",
            "UsageError",
            "ZooError",
        ),
        "zoo.errors",
    ),
}

__all__ = [
    "GRADIENT_OPTIONS",
    "Backbone",
    "DataError",
    "DiskError",
    "DownloadError",
    "IntegrityError",
    "NotFoundError",
    "PluginError",
    "Preprocessing",
    "Registry",
    "RegistryError",
    "Strategy",
    "TrainingError",
    "UsageError",
    "Weights",
    "ZooError",
    "__version__",
    "audit",
    "compose",
    "hookimpl",
    "list_backbones",
    "list_strategies",
    "list_weights",
    "load",
    "load_backbone",
    "plugins",
    "pull",
    "rank",
    "register",
    "register_weights",
    "show",
    "unregister",
    "verify",
]


def __getattr__(name: str) -> Any:
    if (home := _HOMES.get(name)) is None:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})

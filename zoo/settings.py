"""Where files live and how the zoo behaves: command-line flags > environment > defaults."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

_TRUE = {"1", "true", "yes", "on"}


def _flag(*names: str) -> bool:
    return any(os.environ.get(name, "").strip().lower() in _TRUE for name in names)


def _names(variable: str) -> tuple[str, ...] | None:
    value = os.environ.get(variable)
    return None if value is None else tuple(name.strip() for name in value.split(",") if name.strip())


def _home() -> Path:
    if given := os.environ.get("ZOO_HOME"):
        return Path(given).expanduser()
    from platformdirs import user_data_path

    return user_data_path("zoo", appauthor=False)


@dataclass(frozen=True)
class Settings:
    """One reading of the environment. Flags are applied with `dataclasses.replace`."""

    #: The store, the features and the user's registry (`ZOO_HOME`).
    home: Path = field(default_factory=_home)
    #: No request leaves this machine (`ZOO_OFFLINE`, `HF_HUB_OFFLINE`).
    offline: bool = field(default_factory=lambda: _flag("ZOO_OFFLINE", "HF_HUB_OFFLINE"))
    #: The topmost registry file (`--registry`, `ZOO_REGISTRY`).
    registry: Path | None = field(
        default_factory=lambda: Path(p).expanduser() if (p := os.environ.get("ZOO_REGISTRY")) else None
    )
    #: A folder of plugin files (`--plugins-dir`, `ZOO_PLUGINS_DIR`).
    plugins_dir: Path | None = field(
        default_factory=lambda: Path(p).expanduser() if (p := os.environ.get("ZOO_PLUGINS_DIR")) else None
    )
    #: Of the third-party plugins only these (`ZOO_PLUGINS`); None means all.
    plugins: tuple[str, ...] | None = field(default_factory=lambda: _names("ZOO_PLUGINS"))
    #: Plugins never imported (`ZOO_DISABLE`, `-p no:NAME`).
    disabled: tuple[str, ...] = field(default_factory=lambda: _names("ZOO_DISABLE") or ())
    #: A plugin's fault raises instead of being reported (`ZOO_STRICT`).
    strict: bool = field(default_factory=lambda: _flag("ZOO_STRICT"))

    @property
    def user_registry(self) -> Path:
        """The user's own ledger, where `register` and `publish` write."""
        return self.home / "registry.toml"

    @property
    def blobs(self) -> Path:
        """Weights by their hash: `blobs/sha256/ab/abcd...`."""
        return self.home / "blobs" / "sha256"

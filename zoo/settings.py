"""Where files live and how the zoo behaves: command-line flags > environment > defaults."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from zoo.errors import UsageError

#: Bytes of features kept on disk unless `ZOO_FEATURES_LIMIT` says otherwise.
FEATURES_LIMIT: Final = 20 << 30
_UNITS: Final = {"": 1, "b": 1, "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9,
                 "t": 10**12, "tb": 10**12, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}  # fmt: skip
_TRUE: Final = {"1", "true", "yes", "on"}
_FALSE: Final = {"", "0", "false", "no", "off"}


def _flag(*names: str) -> bool:
    values = {name: os.environ.get(name, "").strip().lower() for name in names}
    for name, value in values.items():
        if name.startswith("ZOO_") and value not in _TRUE | _FALSE:
            raise UsageError(f"{name}={value} is neither yes nor no", hint="Write 1 or 0.")
    return any(value in _TRUE for value in values.values())


def _names(variable: str) -> tuple[str, ...] | None:
    value = os.environ.get(variable)
    return None if value is None else tuple(name.strip() for name in value.split(",") if name.strip())


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with a leading `~` or `~user` replaced.

    Raises:
        UsageError: there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{os.fspath(path)}: no home directory is known for {Path(path).parts[0]}") from error


def _path(variable: str) -> Path | None:
    return expanded(value) if (value := os.environ.get(variable)) else None


def _home() -> Path:
    if given := _path("ZOO_HOME"):
        return given
    if sys.platform == "linux" and "XDG_DATA_HOME" not in os.environ:
        return Path("~/.local/share/zoo").expanduser()  # as platformdirs says, which takes 5 ms to import
    from platformdirs import user_data_path

    return user_data_path("zoo", appauthor=False)


def elsewhere(path: str | os.PathLike[str] | None) -> str:
    """Where what a disk refused at `path` could go instead, for a hint: `ZOO_HOME` moves only what lies in it."""
    try:
        home = _home()
    except UsageError:
        home = None
    within = path is not None and home is not None and Path(os.path.abspath(path)).is_relative_to(os.path.abspath(home))
    return "set ZOO_HOME to another disk" if within else "choose another place"


def _features_limit() -> int:
    value = os.environ.get("ZOO_FEATURES_LIMIT", "").strip()
    return parse_size(value, "ZOO_FEATURES_LIMIT") if value else FEATURES_LIMIT


def parse_size(text: str, what: str = "a size") -> int:
    """Bytes of "20GB", "512 MiB", "1e9" or "0".

    Raises:
        UsageError: it is no size; `what` names where it stood.
    """
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = text.strip()[len(number) :].lower()
    try:
        size = float(number) * _UNITS[unit]
        if not 0 <= size < 1 << 60:
            raise ValueError
    except (KeyError, ValueError) as error:
        raise UsageError(f"{what}: {text!r} is no size", hint="Write 20GB, 500MB or 0.") from error
    return int(size)


@dataclass(frozen=True)
class Settings:
    """One reading of the environment. Flags are applied with `dataclasses.replace`."""

    #: The store, the features and the user's registry (`ZOO_HOME`).
    home: Path = field(default_factory=_home)
    #: No request leaves this machine (`ZOO_OFFLINE`, `HF_HUB_OFFLINE`).
    offline: bool = field(default_factory=lambda: _flag("ZOO_OFFLINE", "HF_HUB_OFFLINE"))
    #: The topmost registry file (`--registry`, `ZOO_REGISTRY`).
    registry: Path | None = field(default_factory=lambda: _path("ZOO_REGISTRY"))
    #: A folder of plugin files (`--plugins-dir`, `ZOO_PLUGINS_DIR`).
    plugins_dir: Path | None = field(default_factory=lambda: _path("ZOO_PLUGINS_DIR"))
    #: Of the third-party plugins only these (`ZOO_PLUGINS`); None means all.
    plugins: tuple[str, ...] | None = field(default_factory=lambda: _names("ZOO_PLUGINS"))
    #: Plugins never imported (`ZOO_DISABLE`, `-p no:NAME`).
    disabled: tuple[str, ...] = field(default_factory=lambda: _names("ZOO_DISABLE") or ())
    #: A plugin's fault raises instead of being reported (`ZOO_STRICT`).
    strict: bool = field(default_factory=lambda: _flag("ZOO_STRICT"))

    #: Bytes of features kept on disk; 0 = none (`ZOO_FEATURES_LIMIT`).
    features_limit: int = field(default_factory=_features_limit)

    def __post_init__(self) -> None:
        # What is written about files of the store must hold in every working directory.
        object.__setattr__(self, "home", Path(os.path.abspath(self.home)))

    @property
    def user_registry(self) -> Path:
        """The user's own ledger, where `register` and `publish` write."""
        return self.home / "registry.toml"

    @property
    def blobs(self) -> Path:
        """Weights by their hash: `blobs/sha256/ab/abcd...`."""
        return self.home / "blobs" / "sha256"

    @property
    def features(self) -> Path:
        """Features by the network they are of: `features/SPACE`."""
        return self.home / "features"

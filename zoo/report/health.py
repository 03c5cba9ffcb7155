"""What this machine has, how the zoo is set up on it, and what is wrong, each with its fix."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from zoo import __version__
from zoo.catalog.tables import counted
from zoo.errors import ZooError
from zoo.settings import Settings

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry

#: The packages whose versions a report of a fault needs.
PACKAGES: Final = ("torch", "torchvision", "timm", "safetensors", "huggingface-hub", "pluggy", "accelerate", "numpy")
#: Less free space than this is said.
SCARCE: Final = 2 << 30
#: Seconds that the Hub has to answer.
_ANSWER_S: Final = 5.0


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what.
        state: "ok", "warning" (it works, with a loss) or "problem" (something will fail).
        finding: what was found.
        fix: what to do; None where nothing is to be done.
    """

    name: str
    state: str
    finding: str
    fix: str | None = None


def environment(registry: Registry) -> dict[str, Any]:
    """Versions, machine and accelerators: what a report of a fault needs. Holds no secret."""
    from zoo.models.accelerator import choose, present

    return {
        "zoo": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "packages": {name: _version(name) for name in PACKAGES},
        "accelerators": present(),
        "auto": choose().reason,
        "home": str(registry.settings.home),
        "plugins": {report.name: report.version for report in registry.reports() if report.origin != "built-in"},
    }


def configuration(settings: Settings, registry: Registry) -> list[dict[str, Any]]:
    """Every setting with its value and where it comes from: a flag, the environment or the default."""
    variables = {
        "home": ("ZOO_HOME",),
        "offline": ("ZOO_OFFLINE", "HF_HUB_OFFLINE"),
        "registry": ("ZOO_REGISTRY",),
        "plugins_dir": ("ZOO_PLUGINS_DIR",),
        "plugins": ("ZOO_PLUGINS",),
        "disabled": ("ZOO_DISABLE",),
        "strict": ("ZOO_STRICT",),
        "features_limit": ("ZOO_FEATURES_LIMIT",),
    }
    plain = Settings()
    rows = []
    for name, names in variables.items():
        value = getattr(settings, name)
        given = next((variable for variable in names if os.environ.get(variable)), None)
        source = "a flag" if value != getattr(plain, name) else given or "the default"
        rows.append({"name": name, "value": _plain(value), "source": source})
    for variable in ("HF_ENDPOINT", "ZOO_DEBUG", "NO_COLOR"):
        if os.environ.get(variable):
            rows.append({"name": variable, "value": os.environ[variable], "source": variable})
    files = [str(file.path) for file in registry.files]
    rows.append({"name": "registry files, later wins", "value": files, "source": "see docs/formats.md"})
    return rows


def examine(registry: Registry) -> list[Check]:
    """Look at everything there is; a check that fails itself is a problem, and stops none of the others."""
    checks: tuple[Callable[[Registry], Iterator[Check]], ...] = (
        _packages, _accelerators, _plugins, _registry_files, _home, _lock, _store, _network, _secrets
    )  # fmt: skip
    found: list[Check] = []
    for check in checks:
        name = check.__name__.strip("_").replace("_", " ")
        try:
            found += check(registry)
        except ZooError as error:
            found.append(Check(name, "problem", error.message, error.hint))
        except Exception as error:
            found.append(Check(name, "problem", f"{type(error).__name__}: {error}", "Run again with ZOO_DEBUG=1."))
    return found


def _packages(registry: Registry) -> Iterator[Check]:
    from packaging.requirements import Requirement

    wrong = []
    try:
        needed = metadata.requires("transfer-zoo") or []
    except metadata.PackageNotFoundError:
        needed = []
    for requirement in map(Requirement, needed):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = _version(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version or 'absent'}, {requirement.specifier} is needed")
    if wrong:
        yield Check("packages", "problem", "; ".join(wrong), "pip install --upgrade transfer-zoo")
        return
    try:
        import torchvision  # noqa: F401
    except Exception as error:
        yield Check(
            "packages",
            "problem",
            f"torchvision {_version('torchvision')} does not go with torch {_version('torch')}: {error}",
            "Install the pair that belongs together: pip install --upgrade torch torchvision",
        )
        return
    said = ", ".join(f"{name} {_version(name)}" for name in ("torch", "torchvision", "timm"))
    yield Check("packages", "ok", f"Python {platform.python_version()}, {said}")


def _accelerators(registry: Registry) -> Iterator[Check]:
    import torch

    from zoo.models.accelerator import choose, present

    if present() == ["cpu"] and shutil.which("nvidia-smi"):
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for the CPU alone"
        yield Check(
            "accelerators",
            "warning",
            f"this machine has an NVIDIA driver, but torch ({built}) sees no GPU",
            "Update the driver, or install the torch build for its CUDA version (see pytorch.org).",
        )
    else:
        yield Check("accelerators", "ok", choose().reason)


def _plugins(registry: Registry) -> Iterator[Check]:
    reports = registry.reports()
    broken = [one for one in reports if one.problem and one.state in ("ok", "failed")]
    for one in broken:
        state = "problem" if one.state == "failed" else "warning"
        fix = f"zoo plugins --check {one.name} -v; to go on without it: zoo -p no:{one.name} ..."
        yield Check(f"plugin {one.name}", state, one.problem or "", fix)
    if not broken:
        yield Check("plugins", "ok", f"{sum(one.state == 'ok' for one in reports)} loaded, none has a problem")


def _registry_files(registry: Registry) -> Iterator[Check]:
    for note in registry.notes:
        yield Check("registry files", "warning", note, "zoo config shows which files are read, later wins.")
    yield Check("registry files", "ok", f"{len(registry.files)} read, {len(registry.weights())} weights known")


def _home(registry: Registry) -> Iterator[Check]:
    home = registry.settings.home
    place = home
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        yield Check("home", "warning", f"{home} cannot be written: nothing can be pulled", "Set ZOO_HOME elsewhere.")
    free = shutil.disk_usage(place).free
    if free < SCARCE:
        yield Check("disk", "warning", f"{free / 1e9:.1f} GB are free at {home}", "zoo cache gc, or set ZOO_HOME.")
    else:
        yield Check("disk", "ok", f"{free / 1e9:.0f} GB are free at {home}")


def _lock(registry: Registry) -> Iterator[Check]:
    from zoo.weights.lock import Lock
    from zoo.weights.store import Store

    lock, store = Lock.of(registry.settings), Store(registry.settings)
    known = {weights.name: weights for weights in registry.weights()}
    for name, entry in lock.entries.items():
        weights = known.get(name)
        if weights is None:
            yield Check(
                f"lock {name}", "warning", f"{lock.path} pins {name}, which no registry has", "Take its entry out."
            )
        elif weights.sha256 not in (None, entry.sha256):
            yield Check(
                f"lock {name}",
                "problem",
                f"{lock.path} pins {entry.sha256[:12]}..., the registry {str(weights.sha256)[:12]}...",
                f"zoo pull --update {name}",
            )
        elif not store.has(entry.converted_sha256 or entry.sha256):
            yield Check(f"lock {name}", "warning", "it is pinned and not on this disk", f"zoo pull {name}")
    yield Check("lock", "ok", f"{counted(len(lock.entries), 'name')} pinned in {lock.path}")


def _store(registry: Registry) -> Iterator[Check]:
    from zoo.adapt.kept import kept_features
    from zoo.weights.store import Store

    store = Store(registry.settings)
    blobs = [store.path(sha256) for sha256 in store.ls()]
    empty = [path for path in blobs if not path.stat().st_size]
    if empty:
        many = counted(len(empty), "file is", "files are")
        yield Check("store", "problem", f"{many} empty: {empty[0]}", "zoo verify, then zoo pull again.")
    size = sum(path.stat().st_size for path in blobs)
    features = sum(one.nbytes for one in kept_features(registry.settings, facts=False))
    here = f"{counted(len(blobs), 'file')} of weights ({size / 1e9:.2f} GB), features {features / 1e9:.2f} GB"
    yield Check("store", "ok", here)


def _network(registry: Registry) -> Iterator[Check]:
    if registry.settings.offline:
        yield Check("network", "ok", "offline, as asked for: what is on this disk can be used")
        return
    from zoo.errors import DownloadError
    from zoo.weights.hub import endpoint
    from zoo.weights.transport import Broken, request

    try:
        with request("HEAD", endpoint(), timeout=_ANSWER_S):
            yield Check("network", "ok", f"{endpoint()} answers")
    except (Broken, DownloadError) as error:
        yield Check(
            "network",
            "warning",
            f"{endpoint()} does not answer: {error}",
            "zoo --offline uses what is on this disk. Behind a proxy set HTTPS_PROXY; for a mirror HF_ENDPOINT.",
        )


def _secrets(registry: Registry) -> Iterator[Check]:
    from huggingface_hub import constants, get_token

    if not get_token():
        yield Check("token", "ok", "none: public weights need none")
        return
    path = Path(constants.HF_TOKEN_PATH)
    if os.name == "posix" and path.exists() and path.stat().st_mode & 0o077:
        yield Check("token", "warning", f"{path} can be read by others", f"chmod 600 {path}")
    else:
        yield Check("token", "ok", "there is one; it is sent to the Hub's own address only")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value

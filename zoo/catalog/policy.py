"""Which plugins may be loaded, decided before any is imported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from zoo.catalog.discover import Candidate
from zoo.catalog.near import did_you_mean, plain
from zoo.errors import RegistryError, UsageError

if TYPE_CHECKING:
    from zoo.catalog.ledger import LedgerFile
    from zoo.settings import Settings


def disabled(candidates: Sequence[Candidate], settings: Settings, files: Iterable[LedgerFile]) -> dict[str, str]:
    """Name of each plugin that must not be imported -> why.

    Raises:
        UsageError: a flag or the environment names a plugin that is not here.
        RegistryError: a registry file does, or one that it requires is absent, too old or disabled.
    """
    files = tuple(files)
    known = {**{plain(one.name): one.name for one in candidates}, **{one.name: one.name for one in candidates}}
    reasons: dict[str, str] = {}
    if settings.plugins is not None:
        wanted = {_known(name, known, "ZOO_PLUGINS names") for name in settings.plugins}
        for one in candidates:
            if one.third_party and one.name not in wanted:
                reasons[one.name] = "not among ZOO_PLUGINS"
    for name in settings.disabled:
        reasons[_known(name, known, "ZOO_DISABLE or -p no: names")] = "disabled by ZOO_DISABLE or -p no:"
    for file in files:
        for name in file.disabled:
            reasons[_known(name, known, f"{file.path}: [plugins] disabled names", RegistryError)] = (
                f"disabled in {file.path}"
            )
    for file in files:
        for requirement in file.required:
            _require(requirement, candidates, reasons, f"{file.path}: [plugins] required")
    return reasons


def required_names(candidates: Sequence[Candidate], files: Iterable[LedgerFile]) -> Mapping[str, str]:
    """Name of each plugin that a registry file requires -> that file."""
    return {
        one.name: str(file.path)
        for file in files
        for requirement in file.required
        for one in _matching(requirement, candidates)
    }


def _known(name: str, known: Mapping[str, str], who: str, error: type[UsageError] = UsageError) -> str:
    if (found := known.get(name) or known.get(plain(name))) is None:
        there = sorted(set(known.values()))
        hint = did_you_mean(name, there) or f"Known here: {', '.join(there) or 'none'}."
        raise error(f"{who} a plugin that is not here: {name!r}", hint=hint)
    return found


def _require(text: str, candidates: Sequence[Candidate], reasons: Mapping[str, str], who: str) -> None:
    from packaging.requirements import Requirement

    requirement = Requirement(text)
    matching = _matching(text, candidates)
    if not matching:
        names = {one.distribution or one.name for one in candidates if one.third_party}
        raise RegistryError(
            f"{who} {text!r}, which is not installed",
            hint=" ".join(filter(None, (did_you_mean(requirement.name, names), f"Install it: pip install {text!r}"))),
        )
    for one in matching:
        if one.name in reasons:
            raise RegistryError(f"{who} {text!r}, but the plugin {one.name!r} is off: {reasons[one.name]}")
        version = one.version
        if requirement.specifier and (version is None or not requirement.specifier.contains(version, prereleases=True)):
            raise RegistryError(
                f"{who} {text!r}, but version {version or 'unknown'} is here",
                hint=f"Install it: pip install {text!r}",
            )


def _matching(requirement: str, candidates: Sequence[Candidate]) -> list[Candidate]:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    wanted = canonicalize_name(Requirement(requirement).name)
    return [
        one
        for one in candidates
        if one.shadowed_by is None
        and wanted in (canonicalize_name(one.distribution or one.name), canonicalize_name(one.name))
    ]

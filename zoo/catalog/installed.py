"""Plugins that pip installed, read from their metadata. Nothing of theirs is imported, and none can stop the others."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from zoo import __version__

#: The entry-point group.
GROUP: Final = "zoo"
#: What pip calls the zoo.
ZOO: Final = "transfer-zoo"


@dataclass(frozen=True, slots=True)
class Distribution:
    """What pip installed to bring a plugin.

    Args:
        name: its name; None where its metadata have none.
        version: its version, likewise.
        place: the folder that holds its dist-info, without links.
        requires: its requirements on the zoo itself, as written.
        origin: the text of its direct_url.json, where it was installed from a file, a folder or an address.
    """

    name: str | None
    version: str | None
    place: str
    requires: tuple[str, ...] = ()
    origin: str | None = None

    def __str__(self) -> str:
        return " ".join(filter(None, (self.name, self.version))) or self.place

    @property
    def key(self) -> str:
        """Its name as pip compares names."""
        return _canonical(self.name or "")

    def unmet(self) -> str | None:
        """Why it cannot work with this zoo, by its own word; None if it can."""
        for text in self.requires:
            from packaging.requirements import InvalidRequirement, Requirement

            try:
                requirement = Requirement(text)
            except InvalidRequirement as error:
                return f"its requirement {text!r} cannot be read: {' '.join(str(error).split())}"
            marker = requirement.marker
            if marker is not None and not marker.evaluate({"extra": ""}):
                continue
            if not requirement.specifier.contains(__version__, prereleases=True):
                return f"it needs {ZOO}{requirement.specifier}, and this is {__version__}"
        return None

    def requirement(self) -> tuple[str, str | None]:
        """What a requirements file says to get the same, and why another machine cannot follow it, if it cannot."""
        line = f"{self.name}=={self.version}"
        found = self._origin()
        url = str(found.get("url", ""))
        if url.startswith("file:"):
            how = "in editable mode " if found.get("dir_info", {}).get("editable") else ""
            return line, f"installed {how}from {url}"
        if not url:
            return line, None
        vcs = found.get("vcs_info", {})
        pinned = f"{vcs['vcs']}+{url}@{vcs['commit_id']}" if {"vcs", "commit_id"} <= set(vcs) else url
        folder = f"#subdirectory={found['subdirectory']}" if "subdirectory" in found else ""
        return f"{self.name} @ {pinned}{folder}", None

    def is_editable_at(self, place: str) -> bool:
        """Whether it is installed in editable mode from a folder that holds `place`."""
        found = self._origin()
        if not found.get("dir_info", {}).get("editable"):
            return False
        from urllib.parse import unquote, urlsplit
        from urllib.request import url2pathname

        folder = os.path.realpath(url2pathname(unquote(urlsplit(str(found["url"])).path)))
        return os.path.commonpath([folder, place]) == folder if os.path.isabs(place) else False

    def _origin(self) -> dict[str, Any]:
        import json

        try:
            found = json.loads(self.origin or "{}")
            return {**found, "dir_info": dict(found.get("dir_info", {})), "vcs_info": dict(found.get("vcs_info", {}))}
        except (ValueError, TypeError, AttributeError):
            return {}


class Installed(NamedTuple):
    """One entry point of ours.

    Attributes:
        name: of the entry point; where that cannot be read, of the distribution.
        value: what it names, `package.module[:attribute]`.
        distribution: what brings it.
        point: the `importlib.metadata.EntryPoint`; None where it could not be read.
        fault: why it cannot be loaded, if so.
    """

    name: str
    value: str
    distribution: Distribution
    point: Any
    fault: str | None


def installed() -> list[Installed]:
    """Every entry point of the group `zoo`, by name, then distribution, then the order of `sys.path`."""
    found: list[Installed] = []
    seen: set[tuple[str, str, str | None]] = set()
    for distribution, dist, text in _ours():
        # A folder may stand on the path twice.
        if (one := (distribution.place, distribution.key, distribution.version)) not in seen:
            seen.add(one)
            found += _points(distribution, dist, text)
    return sorted(_without_sources(found), key=lambda one: (one.name, one.distribution.key))


def own() -> Distribution | None:
    """What pip installed to bring the zoo itself; None where it runs from a folder."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        return _read(distribution(ZOO))
    except PackageNotFoundError:
        return None


def _ours() -> Iterator[tuple[Distribution, Any, str]]:
    """Every distribution that speaks of our group, with the text of its entry points."""
    if not _may_be_any():
        return
    from importlib.metadata import distributions

    for dist in distributions():
        try:
            # Most distributions have no entry point of ours: look before parsing.
            text = dist.read_text("entry_points.txt") or ""
        except UnicodeDecodeError as error:
            text = bytes(error.object).decode(errors="replace")
        except OSError:
            continue
        if f"[{GROUP}]" in text:
            yield _read(dist), dist, text


def _read(dist: Any) -> Distribution:
    """The metadata; what cannot be read is left out."""
    place = os.path.realpath(dist.locate_file(""))
    try:
        facts = dist.metadata
        requires = facts.get_all("Requires-Dist") or dist.requires or ()
        ours = tuple(line for line in requires if _names_zoo(line))
        return Distribution(facts["Name"], facts["Version"], place, ours, dist.read_text("direct_url.json"))
    except Exception:  # damaged in any way: what brings the plugin stays unknown, and it may work
        return Distribution(None, None, place)


def _points(distribution: Distribution, dist: Any, text: str) -> list[Installed]:
    try:
        points = [point for point in dist.entry_points if point.group == GROUP]
    except Exception as error:
        name = distribution.name or os.path.basename(distribution.place) or "unknown"
        fault = f"its entry_points.txt cannot be read: {type(error).__name__}: {' '.join(str(error).split())}"
        return [Installed(name, "", distribution, None, fault)]
    return [Installed(point.name, point.value, distribution, point, None) for point in points]


def _without_sources(found: list[Installed]) -> Iterable[Installed]:
    """Leave out the egg-info beside the source of what is installed in editable mode: it is the same installation."""
    editable = [one.distribution for one in found if one.distribution.origin]
    for one in found:
        here = one.distribution
        if not any(
            other.key == here.key and other is not here and other.is_editable_at(here.place) for other in editable
        ):
            yield one


def _names_zoo(requirement: str) -> bool:
    name = re.match(r"\s*([A-Za-z0-9._-]+)", requirement)
    return name is not None and _canonical(name[1]) == ZOO


def _canonical(name: str) -> str:
    # As packaging.utils does it, which takes 15 ms to import.
    return re.sub(r"[-_.]+", "-", name).lower()


def _may_be_any() -> bool:
    """Whether any distribution may have an entry point of ours: a look at files, in 2 ms.

    `importlib.metadata` takes 25 ms to import. It alone knows archives and finders of other kinds, so where there is
    one the answer is yes.
    """
    from importlib.machinery import PathFinder

    if any(hasattr(finder, "find_distributions") and finder is not PathFinder for finder in sys.meta_path):
        return True
    mark = f"[{GROUP}]".encode()
    for folder in sys.path:
        try:
            entries = os.listdir(folder or ".")
        except NotADirectoryError:
            return True
        except OSError:
            continue
        for entry in entries:
            if entry.endswith((".dist-info", ".egg-info")):
                try:
                    with open(os.path.join(folder, entry, "entry_points.txt"), "rb") as file:
                        if mark in file.read():
                            return True
                except OSError:
                    continue
            elif entry.endswith(".egg"):
                return True
    return False

"""Where bytes come from: `hf://org/repo@rev/file`, `https://...`, `file:path`, or a plugin's own scheme.

Every part that becomes a path or a URL matches a strict pattern, whoever wrote it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from zoo.catalog.pickles import PICKLES  # noqa: F401  (sources of such names go through the converter)
from zoo.catalog.spec import Weights
from zoo.errors import RegistryError, UsageError
from zoo.settings import expanded

SHA256: Final = re.compile(r"[0-9a-f]{64}")
SHA256_PREFIX: Final = re.compile(r"[0-9a-f]{8,64}")
COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_PART: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_.+-]{0,126}[A-Za-z0-9_+-])?"
_HUB: Final = re.compile(
    rf"hf://(?P<repo>{_PART}/{_PART})(?:@(?P<revision>{_PART}))?/(?P<file>{_PART}(?:/{_PART}){{0,7}})"
)
_SCHEME: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]{0,31}):")
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
_PATH: Final = re.compile(r"/[A-Za-z0-9_.~!$&'()*+,;=:@%/-]*")

#: The role of the file that holds the tensors.
WEIGHTS: Final = "weights"
#: Names of assets. They become files of a run.
ASSET: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9_-])?")
#: Files that say which shard holds which tensor.
INDEX: Final = ".index.json"


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository on the Hub; `revision` is a branch, a tag or a commit."""

    repo: str
    revision: str
    file: str

    def __str__(self) -> str:
        return f"hf://{self.repo}@{self.revision}/{self.file}"

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, which never changes."""
        return COMMIT.fullmatch(self.revision) is not None

    def same_file(self, other: HubFile) -> bool:
        """Whether `other` can be this one, with its revision resolved."""
        same = (self.repo, self.file) == (other.repo, other.file)
        return same and (not self.pinned or self.revision == other.revision)


@dataclass(frozen=True, slots=True)
class WebFile:
    """A file behind an `https://` address."""

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def file(self) -> str:
        """The last part of the address."""
        return urlsplit(self.url).path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file of this machine, used where it lies."""

    path: Path

    def __str__(self) -> str:
        return f"file:{self.path}"

    @property
    def file(self) -> str:
        """The file's name."""
        return self.path.name


@dataclass(frozen=True, slots=True)
class PluginFile:
    """A source in a scheme that some plugin fetches."""

    scheme: str
    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def file(self) -> str:
        """What follows the last slash."""
        return self.text.rpartition("/")[2]


Source = HubFile | WebFile | LocalFile | PluginFile


def source_of(weights: Weights) -> Source:
    """The source of `weights`; a relative `file:` is relative to the registry file that declared it."""
    return parse(weights.source, base=_base(weights.origin))


def single(weights: Weights) -> Weights:
    """The same with the one file that holds the tensors as `source`, and in `files` only what is an asset.

    Raises:
        UsageError: the tensors are spread over several files, which nothing here joins.
    """
    hint = "Join the shards into one safetensors file, and register that."
    if weights.files:
        chosen = [file for file in weights.files if file.get("role", WEIGHTS) == WEIGHTS]
        beside = tuple(file for file in weights.files if file.get("role", WEIGHTS) != WEIGHTS)
        elsewhere = not chosen and all(file["source"] != weights.source for file in beside)
        if len(chosen) != 1 and not elsewhere:
            raise UsageError(
                f"{weights.name} has {len(chosen)} files with the role 'weights'",
                why="a backbone is loaded from one file",
                hint=hint,
            )
        weights = replace(weights, files=beside)
        if chosen:
            one = chosen[0]
            weights = replace(weights, source=one["source"], sha256=one.get("sha256"), bytes=one.get("bytes"))
    if weights.source.endswith(INDEX):
        raise UsageError(
            f"{weights.name} is an index of shards: {weights.source[:200]}",
            why="a backbone is loaded from one file",
            hint=hint,
        )
    return weights


@dataclass(frozen=True, slots=True)
class Asset:
    """A file that belongs to weights besides their tensors.

    Attributes:
        name: what the reader knows it by: "tokenizer.json".
        source: as in a registry file.
        sha256: of its bytes.
        bytes: its size; None where nobody says.
        role: "tokenizer", say.
    """

    name: str
    source: str
    sha256: str
    bytes: int | None
    role: str


def assets_of(weights: Weights) -> tuple[Asset, ...]:
    """The assets of weights, in the order of `files`.

    Raises:
        RegistryError: one has no sha256, or no name of its own that a file can have.
    """
    found: dict[str, Asset] = {}
    for file in weights.files:
        role = file.get("role", WEIGHTS)
        if role == WEIGHTS:
            continue
        name = file.get("name") or re.split(r"[/:]", file["source"])[-1]
        if not ASSET.fullmatch(name) or name in found:
            why = "two files have it" if name in found else f"A name matches {ASSET.pattern}."
            raise RegistryError(
                f"{weights.name}: {name[:80]!r} cannot name a file", why=why, hint='Say it: name = "...".'
            )
        if "sha256" not in file:
            raise RegistryError(
                f"{weights.name}: {name} has no sha256",
                why="What a network reads with is taken by its hash alone.",
                hint="Write the file's sha256 into its entry of `files`.",
            )
        found[name] = Asset(name, file["source"], file["sha256"], file.get("bytes"), role)
    return tuple(found.values())


def parse(text: str, base: Path | None = None) -> Source:
    """Read a source.

    Raises:
        RegistryError: it has no known form.
    """
    found = _SCHEME.match(text)
    if found is None:
        raise RegistryError(f"the source {text[:200]!r} has no scheme", hint=_FORMS)
    scheme = found["scheme"]
    if scheme == "hf":
        return _hub(text)
    if scheme == "https":
        return _web(text)
    if scheme == "file":
        return _local(text, base)
    if scheme == "http":
        raise RegistryError(f"the source {text[:200]!r} is not encrypted", hint="Write https:// instead of http://.")
    if not text.isprintable() or len(text) > 2048:
        raise RegistryError(f"the source {text[:200]!r} has characters that no address has")
    return PluginFile(scheme, text)


_FORMS: Final = "Forms: hf://org/repo@revision/file, https://host/path/file, file:path."


def _hub(text: str) -> HubFile:
    found = _HUB.fullmatch(text)
    if found is None:
        raise RegistryError(f"the source {text[:200]!r} is not hf://org/repo@revision/file", hint=_FORMS)
    return HubFile(found["repo"], found["revision"] or "main", found["file"])


def _web(text: str) -> WebFile:
    try:
        parts = urlsplit(text)
        sound = parts.port is None or parts.port > 0
    except ValueError:
        sound = False
    if not (
        sound
        and text.isascii()
        and text.isprintable()
        and parts.hostname
        and _HOST.fullmatch(parts.hostname)
        and _PATH.fullmatch(parts.path)
        and "@" not in parts.netloc
    ):
        raise RegistryError(f"the source {text[:200]!r} is not a plain https address", hint=_FORMS)
    return WebFile(text)


def _local(text: str, base: Path | None) -> LocalFile:
    name = text.removeprefix("file:")
    if name.startswith("//"):
        name = unquote(urlsplit(text).path)
    if not name or "\0" in name:
        raise RegistryError(f"the source {text[:200]!r} names no file", hint=_FORMS)
    path = expanded(name)
    return LocalFile(path if path.is_absolute() else (base or Path.cwd()) / path)


def _base(origin: str) -> Path | None:
    path = Path(origin) if origin else None
    return path.parent if path is not None and path.suffix == ".toml" else None

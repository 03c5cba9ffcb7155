"""The frozen facts a plugin or a registry file declares. Data only: importing this costs nothing.

Names: an architecture is `arch`; weights are `arch.tag`; either may be written `plugin/arch[.tag]`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from zoo.errors import RegistryError

#: An architecture's, a strategy's or a plugin's name. No dot: the dot begins the tag.
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
#: What follows the first dot of a weights name.
TAG: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
#: Where code is named in a spec: `package.module:function`.
TARGET: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")

_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a raw sample becomes the tensor that the weights were trained on.

    `kind` names the reader ("image", "audio", "text", "table"); the fields below are the image reader's, and other
    readers keep theirs in `extra`.
    """

    kind: str = "image"
    #: (channels, height, width)
    input_size: tuple[int, ...] = (3, 224, 224)
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bicubic"
    #: The shorter side is resized to `input_size / crop_pct`, then the centre is cut out.
    crop_pct: float = 0.875
    #: "center" (resize the shorter side, cut the centre), "squash" (resize both sides, keep all) or "border" (pad).
    crop_mode: str = "center"
    extra: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)


@dataclass(frozen=True, slots=True)
class Backbone:
    """One architecture that a plugin offers.

    Args:
        name: `arch`, unique within its plugin.
        family: what `list --family` filters by, e.g. "resnet".
        build: `"package.module:function"` or a callable, called as `build(num_classes=, in_chans=, **options)`;
            returns an `nn.Module` with its classifier.
        num_features: width D of the features at the default tap, the classifier's input.
        params: number of parameters with the default head and three input channels.
        input_size: (channels, height, width) for images; the reader of another `input` says what it means there.
        head: dotted name of the classifier inside the module (or names, separated by commas, where an architecture
            has several); None = found as timm does.
        input: the kind of raw sample eaten: "image", "audio", "text", "table" ...
        options: names that `build` accepts from data files besides `num_classes` and `in_chans`.
        preprocessing: for weights that do not say their own.
        stages: stage name -> dotted module (or parameter) names inside it, stem to head; the last one listed is where
            the stage can be tapped. None = derived from the module's children.
        gmacs: multiply-accumulates of one forward pass at `input_size`, in 1e9.
        requires: distributions needed besides the zoo's own.
        plugin: stamped by the registry.
    """

    name: str
    family: str
    build: str | Callable[..., Any]
    num_features: int
    params: int
    input_size: tuple[int, ...] = (3, 224, 224)
    head: str | None = None
    input: str = "image"
    options: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    stages: Mapping[str, tuple[str, ...]] | None = None
    gmacs: float | None = None
    requires: tuple[str, ...] = ()
    summary: str = ""
    paper: str = ""
    plugin: str = ""

    @property
    def full_name(self) -> str:
        """`plugin/arch`."""
        return f"{self.plugin}/{self.name}" if self.plugin else self.name


@dataclass(frozen=True, slots=True)
class Strategy:
    """One way to adapt a backbone.

    Args:
        name: e.g. "linear-probe"; `-` and `_` are the same.
        kind: "closed-form" or "gradient".
        make: `"package.module:Class"` or the class: a frozen dataclass of hyper-parameters
            (see `zoo.adapt.strategy`).
        options: hyper-parameter -> default, for people to see without importing `make`.
        needs: what it must be given: "teacher", "target", "source-head", "batchnorm" ...
        plugin: stamped by the registry.
    """

    name: str
    kind: str
    make: str | Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    needs: tuple[str, ...] = ()
    summary: str = ""
    paper: str = ""
    plugin: str = ""


@dataclass(frozen=True, slots=True)
class Weights:
    """One set of weights for a backbone: where the bytes are, what proves them, what they were trained on.

    `name` is `arch.tag`. `origin` (the file or plugin that declared it) and `plugin` are stamped by the registry.
    """

    name: str
    backbone: str
    source: str
    default: bool = False
    sha256: str | None = None
    sha256_prefix: str | None = None
    bytes: int | None = None
    license: str | None = None
    trained_on: str | None = None
    num_classes: int | None = None
    options: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    metrics: Mapping[str, float] = field(default_factory=lambda: _EMPTY)
    preprocessing: Preprocessing | None = None
    #: More than one file: mappings with `source`, `sha256`, `role`.
    files: tuple[Mapping[str, Any], ...] = ()
    origin: str = ""
    plugin: str = ""

    @property
    def arch(self) -> str:
        """The part of the name before the tag."""
        return self.name.partition(".")[0]

    @property
    def tag(self) -> str:
        """The part of the name after the first dot."""
        return self.name.partition(".")[2]


def check_backbone(spec: Backbone) -> None:
    """Raise `RegistryError` unless every field has the type and form the zoo relies on."""
    who = f"backbone {spec.name!r}"
    _matches(who, "name", spec.name, NAME)
    _is(who, "family", spec.family, str)
    _target(who, "build", spec.build)
    for key in ("num_features", "params"):
        _is(who, key, getattr(spec, key), int)
    _is(who, "input", spec.input, str)
    if not isinstance(spec.input_size, tuple) or not all(type(n) is int and n > 0 for n in spec.input_size):
        raise RegistryError(f"{who}: input_size must be a tuple of positive integers, not {spec.input_size!r}")
    if spec.preprocessing is not None:
        _is(who, "preprocessing", spec.preprocessing, Preprocessing)


def check_strategy(spec: Strategy) -> None:
    """Raise `RegistryError` unless every field has the type and form the zoo relies on."""
    who = f"strategy {spec.name!r}"
    _matches(who, "name", spec.name, NAME)
    _target(who, "make", spec.make)
    if spec.kind not in ("closed-form", "gradient"):
        raise RegistryError(f"{who}: kind must be 'closed-form' or 'gradient', not {spec.kind!r}")
    _is(who, "options", spec.options, Mapping)


def check_weights(spec: Weights) -> None:
    """Raise `RegistryError` unless every field has the type and form the zoo relies on."""
    who = f"weights {spec.name!r}"
    _is(who, "name", spec.name, str)
    _matches(who, "name's architecture", spec.arch, NAME)
    _matches(who, "name's tag", spec.tag, TAG)
    _is(who, "backbone", spec.backbone, str)
    if spec.backbone.rpartition("/")[2] != spec.arch:
        raise RegistryError(f"{who} must be named {spec.backbone.rpartition('/')[2]}.TAG, after its backbone")
    _is(who, "source", spec.source, str)


def _is(who: str, key: str, value: object, kind: type) -> None:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise RegistryError(f"{who}: {key} must be {kind.__name__}, not {type(value).__name__}")


def _matches(who: str, key: str, value: object, pattern: re.Pattern[str]) -> None:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise RegistryError(f"{who}: the {key} {value!r} must match {pattern.pattern}")


def _target(who: str, key: str, value: object) -> None:
    if not callable(value):
        _matches(who, key, value, TARGET)

"""The frozen facts a plugin or a registry file declares. Data only: importing this costs nothing.

Names: an architecture is `arch`; weights are `arch.tag`; either may be written `plugin/arch[.tag]`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from types import MappingProxyType
from typing import Any, Final, Self

from zoo.catalog.quick import quick
from zoo.errors import RegistryError

#: An architecture's, a strategy's or a plugin's name. No dot: the dot begins the tag.
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
#: What follows the first dot of a weights name.
TAG: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
#: Where code is named in a spec: `package.module:function`.
TARGET: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")

#: The sha256 of a file, and a published beginning of one.
SHA256: Final = re.compile(r"[0-9a-f]{64}")
SHA256_PREFIX: Final = re.compile(r"[0-9a-f]{6,64}")

#: Nothing that is counted reaches it.
_MOST: Final = 2**63
_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})

#: What every gradient strategy takes (see `zoo.adapt.strategy.Gradient`), for the `options` of a spec:
#: `options={**zoo.GRADIENT_OPTIONS, "rank": 8}`.
GRADIENT_OPTIONS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "epochs": None,
        "batch_size": 32,
        "lr": 1e-3,
        "weight_decay": 0.01,
        "optimizer": "adamw",
        "momentum": 0.9,
        "schedule": "cosine",
        "clip": 1.0,
        "head": "linear",
        "accumulate": 1,
        "ema": None,
        "early_stop": None,
    }
)


class _Fixed:
    """Facts that never change, so that a copy of what holds them shares them.

    A mapping proxy, which some hold, can be neither copied nor pickled.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        """A call that makes it again: only what is not at its default."""
        from zoo.catalog.tables import changed

        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in changed(self).items())})"

    def _repr_html_(self) -> str:
        from zoo.catalog.tables import changed, facts_table

        facts = changed(self)
        return facts_table(f"{type(self).__name__} {facts.pop('name', '')}".rstrip(), facts)

    def __copy__(self) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        values = (getattr(self, name) for name in self.__dataclass_fields__)  # type: ignore[attr-defined]
        return type(self), tuple(dict(one) if isinstance(one, MappingProxyType) else one for one in values)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


@quick
@dataclass(frozen=True, slots=True, repr=False)
class Preprocessing(_Fixed):
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


@quick
@dataclass(frozen=True, slots=True, repr=False)
class Backbone(_Fixed):
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
        translate: `"package.module:function"` or a callable, called as `translate(tensors, module)` for files whose
            names or shapes are not the network's own; returns the tensors by the network's names
            (see `zoo.models.translate`).
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
    translate: str | Callable[..., Any] | None = None

    @property
    def full_name(self) -> str:
        """`plugin/arch`."""
        return f"{self.plugin}/{self.name}" if self.plugin else self.name


@dataclass(frozen=True, slots=True, repr=False)
class Strategy(_Fixed):
    """One way to adapt a backbone.

    Args:
        name: e.g. "linear-probe"; `-` and `_` are the same.
        kind: "closed-form" or "gradient".
        make: `"package.module:Class"` or the class: a frozen dataclass of hyper-parameters
            (see `zoo.adapt.strategy`).
        options: hyper-parameter -> default, for people to see without importing `make`; those of every gradient
            strategy are in `GRADIENT_OPTIONS`.
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


@quick
@dataclass(frozen=True, slots=True, repr=False)
class Weights(_Fixed):
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
    #: More than one file: mappings with `source`, `sha256`, `role`, and `name` where the source does not end in it.
    #: What has another role than "weights" is an asset, which the reader is given ("tokenizer.json").
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
    """Raise `RegistryError` unless every field has the type and form the zoo relies on.

    Called for every spec at every start, of which there may be 100,000: hence plain tests and late messages.
    """
    if not _named(spec.name, NAME):
        raise _misnamed("backbone", spec.name, NAME)
    if not isinstance(spec.family, str):
        raise _mistyped("backbone", spec, "family", str)
    if not (_named(spec.build, TARGET) or callable(spec.build)):
        raise _untargeted("backbone", spec, "build")
    if spec.translate is not None and not (_named(spec.translate, TARGET) or callable(spec.translate)):
        raise _untargeted("backbone", spec, "translate")
    if type(spec.num_features) is not int or not 0 < spec.num_features < _MOST:
        raise _uncounted(spec, "num_features")
    if type(spec.params) is not int or not 0 <= spec.params < _MOST:
        raise _uncounted(spec, "params")
    if not isinstance(spec.input, str):
        raise _mistyped("backbone", spec, "input", str)
    sized = isinstance(spec.input_size, tuple)
    for n in spec.input_size if sized else ():
        sized = sized and type(n) is int and n > 0
    if not sized:
        raise RegistryError(
            f"backbone {spec.name!r}: input_size must be a tuple of positive integers, not {spec.input_size!r}"
        )
    if spec.options != () and not _are_strings(spec.options):
        raise RegistryError(f"backbone {spec.name!r}: options must be a tuple of strings, not {spec.options!r}")
    if spec.requires != () and not _are_strings(spec.requires):
        raise RegistryError(f"backbone {spec.name!r}: requires must be a tuple of strings, not {spec.requires!r}")
    if spec.preprocessing is not None and not isinstance(spec.preprocessing, Preprocessing):
        raise _mistyped("backbone", spec, "preprocessing", Preprocessing)
    if not isinstance(spec.head, str | None):
        raise _mistyped("backbone", spec, "head", str)
    if not (isinstance(spec.summary, str) and isinstance(spec.paper, str)):
        raise _mistyped("backbone", spec, "paper" if isinstance(spec.summary, str) else "summary", str)
    if spec.gmacs is not None and not (isinstance(spec.gmacs, float | int) and 0 <= spec.gmacs < _MOST):
        raise RegistryError(f"backbone {spec.name!r}: gmacs must be a number of at least 0, not {spec.gmacs!r}")
    if spec.stages is not None and not (
        isinstance(spec.stages, Mapping)
        and all(isinstance(name, str) and name and _are_strings(held) and held for name, held in spec.stages.items())
    ):
        raise RegistryError(
            f"backbone {spec.name!r}: stages must map names to tuples of module names, not {spec.stages!r}"
        )


def check_strategy(spec: Strategy) -> None:
    """Raise `RegistryError` unless every field has the type and form the zoo relies on."""
    if not _named(spec.name, NAME):
        raise _misnamed("strategy", spec.name, NAME)
    if not (_named(spec.make, TARGET) or callable(spec.make)):
        raise _untargeted("strategy", spec, "make")
    if spec.kind not in ("closed-form", "gradient"):
        raise RegistryError(f"strategy {spec.name!r}: kind must be 'closed-form' or 'gradient', not {spec.kind!r}")
    if not isinstance(spec.options, Mapping):
        raise _mistyped("strategy", spec, "options", Mapping)
    for name, value in spec.options.items():
        if not (isinstance(name, str) and _is_plain(value)):
            raise RegistryError(
                f"strategy {spec.name!r}: options map names to None, truth values, finite numbers, strings, or tuples "
                f"or mappings of these, and {name!r} is {value!r}"
            )
    if not isinstance(spec.needs, tuple | frozenset | list) or not all(isinstance(need, str) for need in spec.needs):
        raise RegistryError(f"strategy {spec.name!r}: needs must be a tuple of strings, not {spec.needs!r}")
    for key in ("summary", "paper"):
        if not isinstance(getattr(spec, key), str):
            raise _mistyped("strategy", spec, key, str)


def check_weights(spec: Weights) -> None:
    """Raise `RegistryError` unless every field has the type and form the zoo relies on."""
    if not isinstance(spec.name, str):
        raise RegistryError(f"weights {spec.name!r}: name must be str, not {type(spec.name).__name__}")
    arch, _, tag = spec.name.partition(".")
    if not _named(arch, NAME):
        raise _misnamed("weights", spec.name, NAME, "name's architecture")
    if not _named(tag, TAG):
        raise _misnamed("weights", spec.name, TAG, "name's tag")
    if not isinstance(spec.backbone, str):
        raise _mistyped("weights", spec, "backbone", str)
    if spec.backbone != arch:
        plugin, _, short = spec.backbone.rpartition("/")
        if short != arch:
            raise RegistryError(f"weights {spec.name!r} must be named {short}.TAG, after its backbone")
        if not _named(plugin, NAME):
            raise _misnamed("weights", spec.name, NAME, "backbone's plugin")
    if not isinstance(spec.source, str) or not spec.source:
        raise _mistyped("weights", spec, "source", str)
    # They become paths.
    if spec.sha256 is not None and not _named(spec.sha256, SHA256):
        raise RegistryError(f"weights {spec.name!r}: sha256 must be 64 hexadecimal digits in lower case")
    if spec.sha256_prefix is not None and not _named(spec.sha256_prefix, SHA256_PREFIX):
        raise RegistryError(f"weights {spec.name!r}: sha256_prefix must be 6 to 64 hexadecimal digits in lower case")


def _named(value: object, pattern: re.Pattern[str]) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_plain(value: object) -> bool:
    """Whether JSON knows it, as `zoo strategies --json` and a saved run need."""
    if isinstance(value, Mapping):
        return all(isinstance(name, str) and _is_plain(item) for name, item in value.items())
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return isinstance(value, str | int | None) or (isinstance(value, float) and isfinite(value))


def _are_strings(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, str) for item in value)


def _misnamed(what: str, value: object, pattern: re.Pattern[str], key: str = "name") -> RegistryError:
    return RegistryError(f"{what} {value!r}: the {key} must match {pattern.pattern}")


def _mistyped(what: str, spec: Any, key: str, kind: type) -> RegistryError:
    value = getattr(spec, key)
    given = "an empty one" if value == "" else type(value).__name__
    return RegistryError(f"{what} {spec.name!r}: {key} must be {kind.__name__}, not {given}")


def _untargeted(what: str, spec: Any, key: str) -> RegistryError:
    return RegistryError(
        f"{what} {spec.name!r}: {key} must be a callable or 'package.module:name', not {getattr(spec, key)!r}"
    )


def _uncounted(spec: Backbone, key: str) -> RegistryError:
    return RegistryError(f"backbone {spec.name!r}: {key} must be a whole number, not {getattr(spec, key)!r}")

"""A backbone's module behind one contract: logits, features at a tap, stages, preprocessing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn

from zoo.catalog.spec import Backbone, Preprocessing
from zoo.data.preprocess import Reader, fitted_width, reader
from zoo.errors import DataError, PluginError, UsageError
from zoo.models.stages import HEAD, NoHead, derive_stages, find_head, inside

#: What torch says where an input is of the wrong shape for a layer.
_SHAPE_ERRORS: Final = (
    "(unbatched)",
    "shapes cannot be multiplied",
    "Output size is too small",
    "can't be greater than actual input size",
)


#: What a network says of itself. A module may have a parameter or a child of such a name.
_FACTS: Final = {
    "spec", "weights", "weights_id", "classes", "options", "num_classes", "task_kind", "own", "preprocessing",
    "head_names", "tap", "assets",
}  # fmt: skip


class Network(nn.Module):
    """A built backbone, classifier included.

    It *is* the module for all that asks for tensors: `state_dict()`, `named_parameters()` and `to()` see the wrapped
    module's own names, because both share one table of children.

    Args:
        module: what the backbone's builder returned, or any module of yours.
        spec: the facts about it; None for a module of your own.
        head: dotted name of the classifier; None = the spec's, else found.
        tap: where `features` are read: None = the classifier's input; a stage's name; or any dotted module name.
        preprocessing: how raw samples become tensors; None = the spec's.
        weights: the name of the weights it holds ("arch.tag"), if any.
        weights_id: their sha256, if any.
        classes: names of the classifier's outputs, where the weights say so.
        options: what the builder was given besides the number of classes and channels.
        num_classes: outputs of the classifier it was built with, where known.
        task_kind: what those outputs are (see `zoo.data.task`), where the weights say so.
        assets: files that belong to the weights besides tensors, by name ("tokenizer.json").
        own: whether the caller may have changed what `spec` built, so that it shares features with no other network.
    """

    def __init__(
        self,
        module: nn.Module,
        spec: Backbone | None = None,
        *,
        head: str | None = None,
        tap: str | None = None,
        preprocessing: Preprocessing | None = None,
        weights: str | None = None,
        weights_id: str | None = None,
        classes: tuple[str, ...] | None = None,
        options: Mapping[str, Any] | None = None,
        num_classes: int | None = None,
        task_kind: str | None = None,
        assets: Mapping[str, bytes] | None = None,
        own: bool = False,
    ) -> None:
        super().__init__()
        self._module: nn.Module
        object.__setattr__(self, "_module", module)
        # One table of children for both, so that names are the module's own and `to()` or `eval()` reach it.
        self._modules = module._modules
        self._parameters = module._parameters
        self._buffers = module._buffers
        self._non_persistent_buffers_set = module._non_persistent_buffers_set
        self.training = module.training
        self.spec = spec
        self.weights = weights
        self.weights_id = weights_id
        self.classes = classes
        self.options = dict(options or {})
        self.num_classes = num_classes
        self.task_kind = task_kind
        self.assets = dict(assets or {})
        self.own = own
        self.preprocessing = preprocessing or (default_preprocessing(spec) if spec else None)
        self.head_names = find_head(module, head or (spec.head if spec else None))
        self.tap = self._check_tap(tap)
        # Builder options, or another classifier, may change the width that the spec declares.
        declares = spec is not None and not self.options and self._is_at_its_place(module, spec)
        self._declared = spec.num_features if spec and declares else None
        self._num_features = self._declared if self.tap is None else None

    def _is_at_its_place(self, module: nn.Module, spec: Backbone) -> bool:
        """Whether the classifier is the spec's own, which a saved run has left out, so that nobody can look for it."""
        if all(isinstance(module.get_submodule(name), NoHead) for name in self.head_names):
            return True
        return self.head_names == find_head(module, spec.head)

    # -- running ---------------------------------------------------------------------------------------------------

    def forward(self, x: Any) -> Any:
        """Logits of the backbone's own classifier."""
        return _call(self._module, x)

    def features(self, x: Any) -> Tensor:
        """Pooled features (N, D) at the tap. What lies behind the tap is not computed.

        Args:
            x: a tensor, a tuple of tensors, or a mapping of names to tensors: whatever the module eats.

        Raises:
            UsageError: the tap is not reached, or only behind the classifier.
            PluginError: the backbone's spec declares another width.
        """
        captured: list[Any] = []

        def at_input(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            captured.append(inputs[0] if inputs else next(iter(named.values())))
            raise _Reached

        def at_output(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if not ahead:  # of several classifiers side by side, some may run before the tap
                raise self._behind_head(str(self.tap))
            captured.append(output)
            raise _Reached

        heads = [self._module.get_submodule(name) for name in self.head_names]
        ahead = set(heads)

        def passed(head: nn.Module, _: Any) -> None:
            ahead.discard(head)

        if self.tap is None:
            handles = [heads[0].register_forward_pre_hook(at_input, with_kwargs=True)]
        else:
            handles = [head.register_forward_pre_hook(passed) for head in heads]
            handles.append(self._module.get_submodule(self.end_of(self.tap)).register_forward_hook(at_output))
        try:
            _call(self._module, x)
        except _Reached:
            found = pool(captured[0], self._module, x)
            self.note_width(found.shape[1])
            return found
        finally:
            for handle in handles:
                handle.remove()
        raise UsageError(f"the tap {self.tap or self.head_names[0]!r} was never reached in a forward pass")

    @property
    def num_features(self) -> int:
        """Width D of the features at the tap.

        Raises:
            UsageError: it can be told neither from the module nor from a blank picture, and `features` never ran.
        """
        if self._num_features is None:
            self._num_features = self._measure()
        return self._num_features

    @property
    def knows_width(self) -> bool:
        """Whether `num_features` can be told without a batch of data."""
        return self._num_features is not None or self._linear_width() is not None or self._picture_size() is not None

    def note_width(self, width: int) -> None:
        """Remember the width that features at the tap were seen to have.

        Raises:
            PluginError: the backbone's spec declares another one.
        """
        spec = self.spec
        if spec and self.tap is None and self._declared not in (None, width):
            raise PluginError(
                f"the features of the backbone {spec.full_name} are {width} wide, not {spec.num_features}",
                why=f"Its plugin {spec.plugin or '(none)'} declares num_features={spec.num_features}.",
                hint=f"The plugin must declare num_features={width}, or name the right classifier (head=).",
            )
        self._num_features = width

    def _measure(self) -> int:
        width = self._linear_width()
        if width is not None:
            return width
        size = self._picture_size()
        if size is None:
            raise UsageError(
                "the width of the features is not known before a batch was seen",
                hint="Call features(x) first, or give a preprocessing.",
            )
        example = next(iter(self.parameters()), torch.empty(0))
        x = torch.zeros((2, self.in_chans, *size[1:]), device=example.device, dtype=example.dtype)
        with running_in_eval(self), torch.no_grad():
            return self.features(x).shape[1]

    def _linear_width(self) -> int | None:
        """The width that the classifier itself tells."""
        head = self._module.get_submodule(self.head_names[0])
        if self.tap is not None:
            return None
        if isinstance(head, nn.Linear):
            return head.in_features
        width = getattr(head, "in_features", None) if self._picture_size() is None else None
        return None if width is None else int(width)

    def _picture_size(self) -> tuple[int, ...] | None:
        """(C, H, W) of a picture the network takes; None where it eats something else, or nobody said."""
        if self.spec and self.spec.input != "image":
            return None
        return self.preprocessing.input_size if self.preprocessing else self.spec.input_size if self.spec else None

    # -- what it is made of ----------------------------------------------------------------------------------------

    @property
    def module(self) -> nn.Module:
        """The module the builder returned."""
        return self._module

    @property
    def source_head(self) -> nn.Module | None:
        """The classifier that came with the weights, or None where the weights are random or have none."""
        head = self._module.get_submodule(self.head_names[0])
        return None if self.weights is None or isinstance(head, (nn.Identity, NoHead)) else head

    def reader(self, preprocessing: Preprocessing | None = None) -> Reader:
        """What turns raw samples into its input.

        Args:
            preprocessing: None = its own.

        Raises:
            UsageError: nobody knows the kind of sample, or a setting of it.
        """
        return reader(preprocessing or self.preprocessing, self.in_chans, self.assets)

    @property
    def in_chans(self) -> int:
        """Input channels: what the module says, else read off the first convolution; else what a fitted reader gives,
        or 3."""
        said = getattr(self._module, "in_chans", None)  # timm's say it; a stem may fold pixels into channels
        if type(said) is int:
            return said
        for module in self._module.modules():
            if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
                return module.in_channels
        return fitted_width(self.preprocessing) or 3

    def taps(self) -> list[str]:
        """Names of the stages that can be tapped, stem to last before the head. Any dotted module name works too."""
        return [name for name in self._stage_modules() if name != HEAD]

    def stages(self) -> dict[str, list[str]]:
        """Parameter names by stage, stem to head. Every parameter is in exactly one."""
        groups: dict[str, list[str]] = {name: [] for name in self._stage_modules()}
        owner = [(prefix, name) for name, prefixes in self._stage_modules().items() for prefix in prefixes]
        owner.sort(key=lambda pair: len(pair[0]), reverse=True)
        first = next(iter(groups))
        for parameter, _ in self._module.named_parameters():
            stage = next((name for prefix, name in owner if inside(parameter, prefix)), first)
            groups[stage].append(parameter)
        return {name: members for name, members in groups.items() if members}

    def modules_of(self, stage: str) -> list[str]:
        """Dotted names of the modules that a stage consists of, in order."""
        return list(self._stage_modules()[stage])

    def behind_tap(self) -> list[str]:
        """Names of the stages that `features` does not use: those behind the tap, and the source head."""
        names = list(self._stage_modules())
        if self.tap is None:
            return [HEAD]
        stage = self.tap if self.tap in names else self.stage_of(self.tap)
        return names[names.index(stage) + 1 :]

    def stage_of(self, module: str) -> str:
        """The stage that a module, a parameter or a buffer (by dotted name) belongs to."""
        for name, prefixes in self._stage_modules().items():
            if any(inside(module, prefix) or inside(prefix, module) for prefix in prefixes):
                return name
        return next(iter(self._stage_modules()))

    def _stage_modules(self) -> Mapping[str, tuple[str, ...]]:
        if self.spec and self.spec.stages:
            return {**self.spec.stages, HEAD: self.head_names}
        return derive_stages(self._module, self.head_names)

    def end_of(self, tap: str) -> str:
        """The module whose output a tap is: the last one listed of a stage; any other name is a module's own."""
        stages = self._stage_modules()
        return stages[tap][-1] if tap in stages else tap

    def _check_tap(self, tap: str | None) -> str | None:
        if tap is None:
            return tap
        if tap not in self.taps() and tap not in dict(self._module.named_modules()):
            raise UsageError(
                f"no tap called {tap!r}", hint=f"Taps: {', '.join(self.taps())}; or the dotted name of any module."
            )
        if any(self._is_behind(self.end_of(tap), head) for head in self.head_names):
            raise self._behind_head(tap)
        return tap

    def _is_behind(self, tap: str, head: str) -> bool:
        """Whether the tap is the head, holds it, lies in it, or follows it in a sequence."""
        if not tap or inside(head, tap) or inside(tap, head):
            return True
        parts = head.split(".")
        for depth in range(len(parts)):
            parent = ".".join(parts[:depth])
            if isinstance(holder := self._module.get_submodule(parent), nn.Sequential):
                names = [name for name, _ in holder.named_children()]
                later = names[names.index(parts[depth]) + 1 :]
                if any(inside(tap, f"{parent}.{name}" if parent else name) for name in later):
                    return True
        return False

    def _behind_head(self, tap: str) -> UsageError:
        return UsageError(
            f"the tap {tap!r} is the classifier ({', '.join(self.head_names)}), holds it, or lies behind it",
            why="The learned head stands in the classifier's place, so features are read before it.",
            hint=f"Taps: {', '.join(self.taps())}; or the dotted name of any module before the classifier.",
        )

    # -- nn.Module --------------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FACTS:
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def get_submodule(self, target: str) -> nn.Module:
        """The wrapped module's, which may have a child called as a method here (`features`)."""
        return self._module.get_submodule(target)

    def train(self, mode: bool = True) -> Network:
        """Set the wrapped module's mode too (it may override `train`)."""
        self._module.train(mode)
        self.training = mode
        return self

    def __repr__(self) -> str:
        name = self.weights or (self.spec.name if self.spec else type(self._module).__name__)
        return f"<Network {name}, features {self._num_features or '?'} at {self.tap or 'the head'}>"


def default_preprocessing(spec: Backbone) -> Preprocessing | None:
    """What weights that say nothing of their own are given: the spec's, else ImageNet's at the spec's input size."""
    if spec.preprocessing is not None or spec.input != "image":
        return spec.preprocessing
    return Preprocessing(input_size=spec.input_size)


class _Reached(Exception):  # noqa: N818  (it is a signal, not an error)
    """The tap was reached; the rest of the forward pass is not wanted."""


def pool(features: Any, module: nn.Module | None = None, x: Any = None) -> Tensor:
    """Make (N, D) of what a tap gave: (N, D) as is, maps averaged over space, tokens averaged over positions.

    Maps are (N, C, H, W), or (N, H, W, C) where the module says `output_fmt = "NHWC"`. A transformer's prefix tokens
    (`num_prefix_tokens`) are left out of the average. A module that has `pool_tokens(tokens, *x)` pools tokens
    (N, L, C) itself: it knows which of them are padding.

    Args:
        features: what the tap gave.
        module: the network's.
        x: the input that it was given.
    """
    if isinstance(features, (tuple, list)) and features:
        features = features[0]
    if not isinstance(features, Tensor) or features.ndim < 2:
        raise UsageError("the tap gives no tensor of features (N, ...)", hint="Choose another module as tap.")
    if features.ndim == 4:
        nhwc = str(getattr(module, "output_fmt", "NCHW")).upper().endswith("NHWC")
        return features.mean(dim=(1, 2) if nhwc else (2, 3))
    if features.ndim == 3:
        own = getattr(module, "pool_tokens", None)
        if own is not None and x is not None:
            return own(features, **x) if isinstance(x, Mapping) else own(features, *_parts(x))
        skip = int(getattr(module, "num_prefix_tokens", 0) or 0)
        return features[:, skip if features.shape[1] > skip else 0 :].mean(dim=1)
    return features.flatten(1)


@contextmanager
def running_in_eval(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; every submodule gets its own mode back."""
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for child, mode in modes:
            child.training = mode


def _call(module: nn.Module, x: Any) -> Any:
    try:
        if isinstance(x, Mapping):
            return module(**x)
        return module(*x) if isinstance(x, (tuple, list)) else module(x)
    except TypeError as error:
        if len(_parts(x)) > 1 and "argument" in str(error):
            raise DataError(
                f"the network does not take samples of {len(_parts(x))} parts",
                why=str(error),
                hint="Without labels a pair (X, Y) of arrays is samples of two parts: give X alone.",
            ) from error
        raise
    except RuntimeError as error:
        text = str(error)
        if "to have" in text and "channels" in text:
            raise DataError(
                "the input has another number of channels than the network",
                why=text.splitlines()[0],
                hint="Load the network with in_chans=N, or give images that the preprocessing can convert.",
            ) from error
        if any(words in text for words in _SHAPE_ERRORS):
            shapes = ", ".join(str(tuple(part.shape)) for part in _parts(x))
            raise DataError(
                f"an input of shape {shapes} does not fit the network",
                why=text.splitlines()[0],
                hint="Give rows of the shape that the network takes; raw uint8 images are resized to it.",
            ) from error
        raise


def _parts(x: Any) -> list[Tensor]:
    parts = x.values() if isinstance(x, Mapping) else x if isinstance(x, (tuple, list)) else (x,)
    return [part for part in parts if isinstance(part, Tensor)]

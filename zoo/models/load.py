"""A spec and verified bytes -> a network, with proof that every tensor arrived."""

from __future__ import annotations

import json
import unicodedata
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from zoo.catalog.spec import Backbone, Weights
from zoo.data.preprocess import fitted_width
from zoo.errors import IntegrityError, PluginError, UsageError
from zoo.models.build import Builder, fill_unsaved
from zoo.models.finite import has_finite, is_finite
from zoo.models.network import Network
from zoo.models.stages import find_head
from zoo.models.stem import adapt_stem, first_convolutions
from zoo.models.translate import Arriving, foresee, kind, translate
from zoo.settings import Settings
from zoo.weights.header import Header, TensorInfo, read_header
from zoo.weights.remembered import Remembered
from zoo.weights.store import Store

#: Differences named in an error.
_NAMED: Final = 5
#: The only tensors that a file may lack: old files have no batch counter, and only momentum-free BatchNorm reads it.
_COUNTER: Final = "num_batches_tracked"
#: What a file may claim beyond the network it is compared with.
_MOST_CLASSES: Final = 1_000_000
_MOST_CHANNELS: Final = 4096


def load_network(
    spec: Backbone,
    weights: Weights | None,
    path: Path | None,
    *,
    in_chans: int | None = 3,
    tap: str | None = None,
    seed: int = 0,
    num_classes: int | None = None,
    settings: Settings | None = None,
    assets: Mapping[str, bytes] | None = None,
    like: Weights | None = None,
) -> Network:
    """Build the backbone `spec` and fill it from the safetensors file at `path`.

    The network is built without memory, its tensors are compared with the file's header, and only then is the file
    mapped: it loads whole or not at all. Names, shapes and kinds of type must be equal, with three exceptions:
    `num_batches_tracked` may be absent and is then 0; the first convolution is adapted to `in_chans`; the classifier
    may differ where `num_classes` asks for another one than the file's, and is then random.

    Args:
        weights: what the file is; None = nobody has said.
        path: the verified file; None (with `weights` None) = random weights.
        in_chans: input channels; None = the file's own (or the spec's, for random weights). One channel takes the sum
            of the filters over the file's channels; otherwise they are repeated and scaled so that the sum of the
            input's weights stays. Weights whose reader was fitted (`zoo.data.preprocess.fit_reader`) have their own.
        tap: where features are read; see `Network`.
        seed: of all that is random. The caller's generator is left as it was.
        num_classes: None = the file's own (or the builder's default, for random weights).
        assets: the weights' files besides tensors, by name.
        like: for random weights: others whose builder options and preprocessing are taken.

    Returns:
        The network: on the CPU, in eval mode, fp32, contiguous, its parameters free to be written.

    Raises:
        IntegrityError: the file is damaged, is for another architecture, or holds numbers that are not finite.
        UsageError: `weights` without `path`, or a tap that does not exist.
        PluginError: the builder failed.
    """
    if in_chans is not None and in_chans < 1:
        raise UsageError(f"in_chans must be at least 1, not {in_chans}")
    in_chans = fitted_width(weights.preprocessing if weights else None) or in_chans
    build = Builder(spec, weights or like, seed)
    if path is None:
        if weights is not None:
            raise UsageError(f"the weights {weights.name} have no file", hint="Pull them first.")
        channels = in_chans or (spec.input_size[0] if spec.input == "image" else 3)
        module = build.random(num_classes=num_classes, in_chans=channels)
        classes = build.default_classes() if num_classes is None else num_classes
        return Network(
            module.eval(),
            spec,
            tap=tap,
            preprocessing=like.preprocessing if like else None,
            options=build.options,
            num_classes=classes,
            assets=assets,
        )
    path = Path(path)
    filled = _Filling(spec, weights, path, build, in_chans, num_classes, settings or Settings())
    return Network(
        filled.module().eval(),
        spec,
        tap=tap,
        preprocessing=weights.preprocessing if weights else None,
        weights=weights.name if weights else path.stem,
        weights_id=filled.sha256,
        classes=filled.classes(),
        options=build.options,
        num_classes=filled.num_classes,
        task_kind=filled.task_kind(),
        assets=assets,
    )


class _Filling:
    """One file on its way into one network."""

    def __init__(
        self,
        spec: Backbone,
        weights: Weights | None,
        path: Path,
        build: Builder,
        in_chans: int | None,
        num_classes: int | None,
        settings: Settings,
    ) -> None:
        self.spec, self.weights, self.path, self.build = spec, weights, path, build
        self.header: Header = read_header(path)
        self.remembered, self.store = Remembered(settings), Store(settings)
        self.sha256 = ""
        #: What arrives under the network's names; another than the header's where the file is translated.
        self.found: Mapping[str, TensorInfo | Arriving] = self.header.tensors
        self.translated = False
        self.trouble: str | None = None
        #: Names that the network has for one and the same parameter.
        self.ties: list[list[str]] = []
        self.own_channels = in_chans is None
        self.in_chans = in_chans or 3
        self.asked = num_classes
        self.file_classes = self.num_classes = 0

    @property
    def new_head(self) -> bool:
        return self.num_classes != self.file_classes

    def identify(self) -> None:
        """Take the file's hash. A file outside the store may have changed since it was pulled.

        Only for a file that fits: hashing one that claims a hundred gigabytes would take minutes.
        """
        if (blob := self.store.sha256_of(self.path)) is not None:
            self.sha256 = blob
            return
        self.sha256 = self.remembered.sha256(self.path)
        promised = (self.weights.sha256 or self.weights.sha256_prefix or "") if self.weights else ""
        if not self.sha256.startswith(promised):
            raise IntegrityError(
                f"{self.path} is not the file that was promised",
                why=f"its sha256 is {self.sha256}, {promised} was promised",
                hint="Restore the file, or pull the weights again.",
            )

    def module(self) -> nn.Module:
        """The filled module."""
        module, stems = self.built()
        self.ties = _ties(module)
        head = find_head(module, self.spec.head) if self.new_head else ()
        expected = module.state_dict()
        missing = self.compare(expected, self.found, stems, head)
        self.identify()
        fillers = self.fillers(expected, missing, head)
        arrived = self.read()
        if self.translated:
            arrived = self.translate(arrived, module)
            self.compare(expected, {name: Arriving.of(tensor) for name, tensor in arrived.items()}, stems, head)
        tensors = {name: tensor for name, tensor in arrived.items() if name in expected and name not in fillers}
        self.expect_finite(tensors)
        self.share(tensors)
        for name, channels in stems.items():
            tensors[name] = adapt_stem(tensors[name].float(), self.in_chans, channels)
        ready = {name: _cast(tensors[name], like) for name, like in expected.items() if name in tensors}
        try:
            module.load_state_dict({**ready, **fillers}, strict=True, assign=True)
        except RuntimeError as error:
            raise IntegrityError(f"{self.path} does not fit {self.spec.full_name}", why=str(error)) from error
        _tie(module, self.ties)
        fill_unsaved(module, lambda: self.build.bare(num_classes=self.num_classes, in_chans=self.in_chans))
        module.float()
        _make_contiguous(module)
        return module

    def share(self, tensors: dict[str, Tensor]) -> None:
        """Give what the network has under several names to those that the file left out."""
        for names in self.ties:
            there = [name for name in names if name in tensors]
            for name in there[1:]:
                if not torch.equal(tensors[there[0]], tensors[name]):
                    raise IntegrityError(
                        f"{self.path} is not for {self.spec.full_name}",
                        why=f"{there[0]} and {name} are one in the network and two in the file",
                    )
            tensors.update((name, tensors[there[0]]) for name in names if there)

    def built(self) -> tuple[nn.Module, dict[str, int]]:
        """The module on meta, and the channels that each convolution to be adapted was made for."""
        declared = self.weights.num_classes if self.weights is not None else None
        module = self.build.on_meta(num_classes=declared, in_chans=self.in_chans)
        if self.spec.translate is not None and not self.fits(module):
            self.foresee(module)
        self.file_classes = self.count_classes(module) if declared is None else declared
        if self.file_classes > _MOST_CLASSES:
            raise IntegrityError(
                f"{self.path} claims {self.file_classes} classes", why=f"At most {_MOST_CLASSES} are believed."
            )
        self.num_classes = self.file_classes if self.asked is None else self.asked
        if self.num_classes != (self.build.default_classes() if declared is None else declared):
            module = self.build.on_meta(num_classes=self.num_classes, in_chans=self.in_chans)
        stems = self.stems(module)
        if stems and self.own_channels:
            self.in_chans = next(iter(stems.values()))
            return self.build.on_meta(num_classes=self.num_classes, in_chans=self.in_chans), {}
        return module, stems

    def fits(self, module: nn.Module) -> bool:
        """Whether names and shapes are the network's own, classifier and input channels aside."""
        self.ties = _ties(module)
        head = find_head(module, self.spec.head)
        return not self.differences(module.state_dict(), self.found, self.stems(module), head)[1]

    def foresee(self, module: nn.Module) -> None:
        """Take the names and shapes that the file's tensors will have once they are translated."""
        try:
            self.found = foresee(self.spec, self.header.tensors, module)
            self.translated = True
        except IntegrityError as error:  # then the file is compared as it is
            self.trouble = error.why

    def translate(self, arrived: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
        try:
            return translate(self.spec, arrived, module)
        except IntegrityError as error:
            raise IntegrityError(
                f"{self.path} could not be translated for {self.spec.full_name}",
                why=error.why,
                hint="Name the backbone that these weights were made for.",
            ) from error

    def count_classes(self, module: nn.Module) -> int:
        """Of the file's own classifier: the rows of the head's tensors; 0 = none."""
        for head in find_head(module, self.spec.head):
            for name in (f"{head}.weight", f"{head}.bias"):
                if (info := self.found.get(name)) is not None and info.shape:
                    return info.shape[0]
            # A head of several layers: the last one's rows.
            if (last := self._last_layer(module, head)) is not None:
                return last
        return 0 if self.can_be_headless() else self.build.default_classes()

    def can_be_headless(self) -> bool:
        """Whether the builder gives a network without classifier for `num_classes=0`, as timm's do."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns of layers without elements
                module = self.build.on_meta(num_classes=0, in_chans=3)
            heads = [module.get_submodule(name) for name in find_head(module, self.spec.head)]
        except (PluginError, UsageError):
            return False
        return not any(True for head in heads for _ in head.parameters())

    def _last_layer(self, module: nn.Module, head: str) -> int | None:
        names = [n for n, m in module.get_submodule(head).named_modules(prefix=head) if isinstance(m, nn.Linear)]
        info = self.found.get(f"{names[-1]}.weight") if names else None
        return info.shape[0] if info is not None and info.shape else None

    def stems(self, module: nn.Module) -> dict[str, int]:
        """The first convolutions that the file has for another number of channels: name -> that number."""
        found: dict[str, int] = {}
        for name, weight in first_convolutions(module).items():
            here, there = tuple(weight.shape), self.found[name].shape if name in self.found else ()
            if len(here) != len(there) or here[1] == there[1] or (here[0], *here[2:]) != (there[0], *there[2:]):
                continue
            # A stem may fold pixels into channels, and then has a multiple of the input's.
            parts, unfolded = divmod(here[1], self.in_chans)
            if parts and not unfolded and there[1] and there[1] % parts == 0 and there[1] <= parts * _MOST_CHANNELS:
                found[name] = there[1] // parts
        return found

    def differences(
        self,
        expected: Mapping[str, Tensor],
        found: Mapping[str, TensorInfo | Arriving],
        stems: Mapping[str, int],
        head: tuple[str, ...],
    ) -> tuple[list[str], list[str]]:
        """The batch counters that the file lacks, and every other difference, a line each."""
        missing, differences = [], []
        for name in (name for name in expected if name not in found and not _inside(name, head)):
            if name.rpartition(".")[2] == _COUNTER:
                missing.append(name)
            elif not any(name in names and any(other in found for other in names) for names in self.ties):
                differences.append(f"missing: {name} {list(expected[name].shape)}")
        for name, info in found.items():
            if _inside(name, head):
                continue
            if name not in expected:
                differences.append(f"unexpected: {name} {list(info.shape)}")
            elif problem := _differs(expected[name], info, adapted=name in stems):
                differences.append(f"{name}: {problem}")
        return missing, differences

    def compare(
        self,
        expected: Mapping[str, Tensor],
        found: Mapping[str, TensorInfo | Arriving],
        stems: Mapping[str, int],
        head: tuple[str, ...],
    ) -> list[str]:
        """Prove that what was found is for this network; give the batch counters it lacks."""
        missing, differences = self.differences(expected, found, stems, head)
        if differences:
            more = len(differences) - _NAMED
            listed = [f"  {line}" for line in differences[:_NAMED]] + [f"  and {more} more"] * (more > 0)
            if self.trouble is not None:
                listed.append(f"  it could not be translated either ({self.trouble[:200]})")
            classes = f" with {self.num_classes} classes" if self.num_classes else ""
            raise IntegrityError(
                f"{self.path} is not for {self.spec.full_name}{classes}: {len(differences)} differences",
                why="\n".join(listed),
                hint="Name the backbone that these weights were made for.",
            )
        return missing

    def fillers(self, expected: Mapping[str, Tensor], missing: list[str], head: tuple[str, ...]) -> dict[str, Tensor]:
        """Tensors that do not come from the file: absent batch counters, and a head of another size."""
        filled = {name: torch.zeros(expected[name].shape, dtype=expected[name].dtype) for name in missing}
        if head:
            random = self.build.random(num_classes=self.num_classes, in_chans=self.in_chans).state_dict()
            filled.update((name, random[name]) for name in expected if _inside(name, head))
        return filled

    def read(self) -> dict[str, Tensor]:
        """Every tensor of the file, mapped privately: writing to it copies the page and never reaches the file."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(self.path, device="cpu")
        except (SafetensorError, OSError) as error:
            raise IntegrityError(f"{self.path} cannot be read", why=str(error)) from error

    def expect_finite(self, tensors: Mapping[str, Tensor]) -> None:
        """Once for each file: no tensor that is used holds NaN or infinity."""
        if self.remembered.is_finite(self.sha256):
            return
        for name, tensor in tensors.items():
            if has_finite(tensor.dtype) and not is_finite(tensor):
                raise IntegrityError(
                    f"{self.path} holds numbers that are not finite",
                    why=f"in the tensor {name}",
                    hint="The weights are damaged, or their training diverged; take others.",
                )
        if len(tensors) == len(self.header.tensors) and not self.translated:
            self.remembered.note_finite(self.sha256)

    def classes(self) -> tuple[str, ...] | None:
        """The names of the classifier's outputs, from the file's metadata."""
        text = self.header.metadata.get("classes")
        if text is None or self.new_head:
            return None
        try:
            names = json.loads(text)
        except (ValueError, RecursionError):
            names = None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise IntegrityError(f"{self.path}: the metadata 'classes' is not a JSON list of names")
        if any(unicodedata.category(letter) in ("Cc", "Cs") for name in names for letter in name):
            raise IntegrityError(f"{self.path}: the metadata 'classes' has control characters")
        if len(names) != self.num_classes:
            raise IntegrityError(f"{self.path} names {len(names)} classes and has {self.num_classes}")
        return tuple(names)

    def task_kind(self) -> str | None:
        """The kind of task that the classifier was fitted for, from the file's metadata."""
        return None if self.new_head else self.header.metadata.get("task")


def _ties(module: nn.Module) -> list[list[str]]:
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [group for group in names.values() if len(group) > 1]


def _tie(module: nn.Module, ties: list[list[str]]) -> None:
    for first, *others in ties:
        parameter = module.get_parameter(first)
        for name in others:
            path, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(path), leaf, parameter)


def _differs(expected: Tensor, info: TensorInfo | Arriving, *, adapted: bool) -> str | None:
    shape = tuple(expected.shape)
    if not adapted and shape != info.shape:
        return f"shape {list(info.shape)} in the file, {list(shape)} in the network"
    needed = kind(expected.dtype)
    return None if needed == info.kind else f"{info.kind} ({info.dtype}) in the file, {needed} in the network"


def _cast(tensor: Tensor, like: Tensor) -> Tensor:
    tensor = tensor.to(torch.float32 if like.is_floating_point() else like.dtype).contiguous()
    # The format promises no alignment; some processors need it.
    return tensor.clone() if tensor.data_ptr() % tensor.element_size() else tensor


def _inside(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def _make_contiguous(module: nn.Module) -> None:
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if not tensor.is_contiguous():
                tensor.data = tensor.data.contiguous()
            if isinstance(tensor, nn.Parameter) and tensor.is_floating_point():
                tensor.requires_grad_(True)

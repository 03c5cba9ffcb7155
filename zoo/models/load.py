"""A spec and verified bytes -> a network, with proof that every tensor arrived."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from zoo.catalog.spec import Backbone, Weights
from zoo.errors import IntegrityError, PluginError, UsageError
from zoo.models.build import Builder, fill_unsaved
from zoo.models.network import Network
from zoo.models.stages import find_head
from zoo.models.stem import adapt_stem, first_convolution
from zoo.settings import Settings
from zoo.weights.header import Header, TensorInfo, read_header
from zoo.weights.remembered import Remembered
from zoo.weights.store import Store

#: Differences named in an error.
_NAMED: Final = 5
#: The only tensors that a file may lack: old files have no batch counter, and only momentum-free BatchNorm reads it.
_COUNTER: Final = "num_batches_tracked"
#: Tensors up to this size are copied where the file does not align them: the last bit of a product depends on it.
_COPIED: Final = 4 * 2**20
_ALIGNED: Final = 64


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
            input's weights stays.
        tap: where features are read; see `Network`.
        seed: of all that is random. The caller's generator is left as it was.
        num_classes: None = the file's own (or the builder's default, for random weights).

    Returns:
        The network: on the CPU, in eval mode, fp32, contiguous, its parameters free to be written.

    Raises:
        IntegrityError: the file is damaged, is for another architecture, or holds numbers that are not finite.
        UsageError: `weights` without `path`, or a tap that does not exist.
        PluginError: the builder failed.
    """
    if in_chans is not None and in_chans < 1:
        raise UsageError(f"in_chans must be at least 1, not {in_chans}")
    build = Builder(spec, weights, seed)
    if path is None:
        if weights is not None:
            raise UsageError(f"the weights {weights.name} have no file", hint="Pull them first.")
        channels = in_chans or (spec.input_size[0] if spec.input == "image" else 3)
        module = build.random(num_classes=num_classes, in_chans=channels)
        classes = build.default_classes() if num_classes is None else num_classes
        return Network(module.eval(), spec, tap=tap, options=build.options, num_classes=classes)
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
        self.remembered = Remembered(settings)
        blob = Store(settings).sha256_of(path)
        self.in_store = blob is not None
        self.sha256 = blob or self.remembered.sha256(path)
        self.expect_promised()
        self.file_classes = self.count_classes()
        self.num_classes = self.file_classes if num_classes is None else num_classes
        self.in_chans = in_chans

    @property
    def new_head(self) -> bool:
        return self.num_classes != self.file_classes

    def expect_promised(self) -> None:
        """A file outside the store may have changed since it was pulled."""
        promised = (self.weights.sha256 or self.weights.sha256_prefix or "") if self.weights else ""
        if not self.in_store and not self.sha256.startswith(promised):
            raise IntegrityError(
                f"{self.path} is not the file that was promised",
                why=f"its sha256 is {self.sha256}, {promised} was promised",
                hint="Restore the file, or pull the weights again.",
            )

    def count_classes(self) -> int:
        """Of the file's own classifier: as its registry entry says, else the rows of the head's tensors; 0 = none."""
        if self.weights is not None and self.weights.num_classes is not None:
            return self.weights.num_classes
        module = self.build.on_meta(num_classes=None, in_chans=3)
        for head in find_head(module, self.spec.head):
            for name in (f"{head}.weight", f"{head}.bias"):
                if (info := self.header.tensors.get(name)) is not None and info.shape:
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
        info = self.header.tensors.get(f"{names[-1]}.weight") if names else None
        return info.shape[0] if info is not None and info.shape else None

    def module(self) -> nn.Module:
        """The filled module."""
        module, stem = self.built()
        head = find_head(module, self.spec.head) if self.new_head else ()
        expected = module.state_dict()
        missing = self.compare(expected, stem, head)
        fillers = self.fillers(module, expected, missing, head)
        tensors = {name: tensor for name, tensor in self.read().items() if name in expected and name not in fillers}
        self.expect_finite(tensors)
        if stem is not None:
            tensors[stem] = adapt_stem(tensors[stem].float(), expected[stem].shape[1])
        ready = {name: _cast(tensors[name], like) for name, like in expected.items() if name in tensors}
        try:
            module.load_state_dict({**ready, **fillers}, strict=True, assign=True)
        except RuntimeError as error:
            raise IntegrityError(f"{self.path} does not fit {self.spec.full_name}", why=str(error)) from error
        channels = self._channels(module)
        fill_unsaved(module, lambda: self.build.bare(num_classes=self.num_classes, in_chans=channels))
        module.float()
        _make_contiguous(module)
        return module

    def built(self) -> tuple[nn.Module, str | None]:
        """The module on meta and, where its first convolution needs adapting, the name of that weight."""
        channels = self.in_chans or 3
        module = self.build.on_meta(num_classes=self.num_classes, in_chans=channels)
        name, weight = first_convolution(module)
        info = self.header.tensors.get(name) if name else None
        if weight is None or info is None or len(info.shape) != weight.ndim or info.shape == tuple(weight.shape):
            return module, None
        here, there = tuple(weight.shape), info.shape
        if here[1] == there[1] or (here[0], *here[2:]) != (there[0], *there[2:]):
            return module, None
        if self.in_chans is None:
            return self.build.on_meta(num_classes=self.num_classes, in_chans=there[1]), None
        return module, name

    def compare(self, expected: Mapping[str, Tensor], stem: str | None, head: tuple[str, ...]) -> list[str]:
        """Prove that the file is for this network; give the batch counters it lacks."""
        found = self.header.tensors
        missing, differences = [], []
        for name in (name for name in expected if name not in found and not _inside(name, head)):
            if name.rpartition(".")[2] == _COUNTER:
                missing.append(name)
            else:
                differences.append(f"missing: {name} {list(expected[name].shape)}")
        for name, info in found.items():
            if _inside(name, head):
                continue
            if name not in expected:
                differences.append(f"unexpected: {name} {list(info.shape)}")
            elif problem := _differs(expected[name], info, adapted=name == stem):
                differences.append(f"{name}: {problem}")
        if differences:
            more = len(differences) - _NAMED
            listed = [f"  {line}" for line in differences[:_NAMED]] + [f"  and {more} more"] * (more > 0)
            classes = f" with {self.num_classes} classes" if self.num_classes else ""
            raise IntegrityError(
                f"{self.path} is not for {self.spec.full_name}{classes}: {len(differences)} differences",
                why="\n".join(listed),
                hint="Name the backbone that these weights were made for.",
            )
        return missing

    def fillers(
        self, module: nn.Module, expected: Mapping[str, Tensor], missing: list[str], head: tuple[str, ...]
    ) -> dict[str, Tensor]:
        """Tensors that do not come from the file: absent batch counters, and a head of another size."""
        filled = {name: torch.zeros(expected[name].shape, dtype=expected[name].dtype) for name in missing}
        if head:
            random = self.build.random(num_classes=self.num_classes, in_chans=self.in_chans or 3).state_dict()
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
            if tensor.is_floating_point() and not _is_finite(tensor):
                raise IntegrityError(
                    f"{self.path} holds numbers that are not finite",
                    why=f"in the tensor {name}",
                    hint="The weights are damaged, or their training diverged; take others.",
                )
        if len(tensors) == len(self.header.tensors):
            self.remembered.note_finite(self.sha256)

    def _channels(self, module: nn.Module) -> int:
        _, weight = first_convolution(module)
        return self.in_chans or (weight.shape[1] if weight is not None else 3)

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
        if len(names) != self.num_classes:
            raise IntegrityError(f"{self.path} names {len(names)} classes and has {self.num_classes}")
        return tuple(names)

    def task_kind(self) -> str | None:
        """The kind of task that the classifier was fitted for, from the file's metadata."""
        return None if self.new_head else self.header.metadata.get("task")


def _differs(expected: Tensor, info: TensorInfo, *, adapted: bool) -> str | None:
    shape = tuple(expected.shape)
    if not adapted and shape != info.shape:
        return f"shape {list(info.shape)} in the file, {list(shape)} in the network"
    kind = _kind(expected.dtype)
    return None if kind == info.kind else f"{info.kind} ({info.dtype}) in the file, {kind} in the network"


def _kind(dtype: torch.dtype) -> str:
    if dtype.is_floating_point:
        return "float"
    return "complex" if dtype.is_complex else "bool" if dtype == torch.bool else "int"


def _cast(tensor: Tensor, like: Tensor) -> Tensor:
    tensor = tensor.to(torch.float32 if like.is_floating_point() else like.dtype).contiguous()
    small = tensor.numel() * tensor.element_size() <= _COPIED
    return tensor.clone() if small and tensor.data_ptr() % _ALIGNED else tensor


def _is_finite(tensor: Tensor) -> bool:
    if tensor.numel() == 0:
        return True
    if tensor.element_size() == 1:  # no reduction knows the 8-bit floats
        tensor = tensor.float()
    # Both ends carry NaN and infinity, and no mask as large as the tensor is made.
    low, high = torch.aminmax(tensor)
    return bool(torch.isfinite(low) and torch.isfinite(high))


def _inside(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def _make_contiguous(module: nn.Module) -> None:
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if not tensor.is_contiguous():
                tensor.data = tensor.data.contiguous()
            if isinstance(tensor, nn.Parameter) and tensor.is_floating_point():
                tensor.requires_grad_(True)

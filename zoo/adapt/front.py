"""The frozen front of a backbone: computed once for each row, and left out of every step.

Where the first stages of a network stay as they are for a whole fit, what they give for a row is always the same. It is
kept in memory, and a step begins behind them. No architecture needs code of its own: the modules of the frozen stages
stand still and give zeros of the shape they always gave, which costs nothing, and the last one gives what was kept. So
whatever a network does between its modules still runs; whether it depends on anything but the last one's output is
found out beforehand, on real rows: NaN in the place of the zeros shows it, even behind a gate that is closed as yet.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from zoo.adapt.features import to_device
from zoo.adapt.strategy import Model
from zoo.data import loading
from zoo.data.dataset import Split
from zoo.data.preprocess import Reader
from zoo.models.accelerator import Placement
from zoo.models.network import running_in_eval

#: Most bytes that are kept.
LIMIT: Final = 1 << 30


class Front:
    """The frozen stages of a model's backbone, from the first to `last`.

    Args:
        model: on its device and in its memory format.
        stages: names of the frozen stages, from the first on.
    """

    def __init__(self, model: Model, stages: tuple[str, ...]) -> None:
        network = model.backbone
        self._network: Final = network
        whole = set(stages) >= set(network.stages()) - set(network.behind_tap())
        #: Where the front ends; None = at the tap, so that what is kept are the features.
        self._end: Final = None if whole else network.get_submodule(network.end_of(stages[-1]))
        taps = network.taps()
        ahead = [] if whole else taps[: taps.index(stages[-1]) + 1]
        self._frozen: Final = [module for stage in ahead for name in network.modules_of(stage)
                               for module in _called(network.get_submodule(name))]  # fmt: skip
        self._shapes: dict[nn.Module, tuple[torch.Size, torch.dtype]] = {}
        self._kept: Tensor | None = None
        self._input: torch.Size | None = None
        self._dtype = torch.float32
        self._format: torch.memory_format = torch.contiguous_format

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """Those that stand still, and all within them."""
        return tuple(inner for module in self._frozen for inner in module.modules())

    # -- reading -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def reads(self, x: Any, placement: Placement) -> Tensor:
        """What the front gives for a batch."""
        with running_in_eval(self._network), placement.autocast():
            return self._read(x)

    def _read(self, x: Any) -> Tensor:
        if self._end is None:
            return self._network.features(x)
        found: list[Any] = []
        with _hooked(self._end, lambda module, inputs, output: found.append(output)):
            self._network.features(x)
        if len(found) != 1 or not isinstance(found[0], Tensor) or found[0].ndim < 2:
            raise _Unfit
        return found[0]

    def fits(self, x: Any, placement: Placement) -> bool:
        """Whether the rest gives the same features, bit for bit, for what is kept of this batch as for the batch, and
        what is kept is what a step would see."""
        if not isinstance(x, Tensor) or not x.is_floating_point():
            return False
        try:
            with running_in_eval(self._network), torch.no_grad(), placement.autocast(), self._noted():
                expected = self._network.features(x)
            kept = self.reads(x, placement)
            if not torch.equal(self._reads_in_training(x, placement), kept):
                return False
            self._input, self._dtype = x.shape, kept.dtype
            if kept.ndim == 4 and kept.is_contiguous(memory_format=torch.channels_last):
                self._format = torch.channels_last
            with running_in_eval(self._network), torch.no_grad(), placement.autocast():
                for stand_in in (math.nan, 0.0):  # 0 * NaN is NaN: a factor that is 0 now may be another soon
                    with self.left_out(stand_in):
                        if not torch.equal(self._network.features(kept.clone()), expected):
                            return False
            return True
        except Exception:  # a network that does not work this way is run as it is
            return False

    @torch.no_grad()
    def _reads_in_training(self, x: Any, placement: Placement) -> Tensor:
        """What the front gives in a step, where the modules around it train: they may drop out by themselves."""
        whole = self._network.module
        around = [module for module in whole.modules() if self._end in list(module.modules())[1:]]
        with running_in_eval(whole), running_in_eval(self._network), placement.autocast(), torch.random.fork_rng():
            for module in around:
                module.training = True
            return self._read(x)

    def keep(
        self,
        split: Split,
        read: Reader,
        placement: Placement,
        batch_size: int,
        progress: Callable[[int, int], None] | None = None,
    ) -> Split | None:
        """The split with what the front gives for each row in its place; None where it would be more than `LIMIT`.

        Every batch has `batch_size` rows, as those of the fit have: some kernels round otherwise with other sizes.
        """
        store: Tensor | None = None
        for batch in loading.batches(split, read, batch_size):
            rows = len(batch)
            x = batch.x
            assert isinstance(x, Tensor)
            if rows < batch_size <= len(split):
                x = torch.cat([x, x.new_zeros((batch_size - rows, *x.shape[1:]))])
            found = self.reads(to_device(x, placement), placement)[:rows].cpu()
            if store is None:
                if found[0].numel() * found.element_size() * len(split) > LIMIT:
                    return None
                store = torch.empty((len(split), *found.shape[1:]), dtype=found.dtype)
            store[batch.index] = found
            if progress:
                progress(int(batch.index[-1]) + 1, len(split))
        if store is None:
            return None
        return Split(split.name, loading.HeldSamples(split, store), np.arange(len(split)), split.targets, split.task)

    # -- leaving out ---------------------------------------------------------------------------------------------------

    @contextmanager
    def left_out(self, stand_in: float = 0.0) -> Iterator[None]:
        """For a while `network.features` takes what is kept of the rows, not the rows.

        Args:
            stand_in: what the rows, and all that stands still, consist of.
        """
        network = self._network
        run = network.features

        def features(kept: Tensor) -> Tensor:
            kept = kept.to(self._dtype, memory_format=self._format)
            if self._end is None:
                return kept
            self._kept = kept
            assert self._input is not None
            return run(kept.new_full((), stand_in, dtype=torch.float32).expand(len(kept), *self._input[1:]))

        with contextlib.ExitStack() as stack:
            stack.callback(setattr, self, "_kept", None)
            stack.enter_context(_instead(network, "features", features))
            for module in self._frozen:
                still = self._give if module is self._end else self._still(module, stand_in)
                stack.enter_context(_instead(module, "forward", still))
            yield

    def _give(self, *_: Any, **__: Any) -> Tensor:
        assert self._kept is not None
        return self._kept

    def _still(self, module: nn.Module, stand_in: float) -> Callable[..., Tensor]:
        def still(*_: Any, **__: Any) -> Tensor:
            assert self._kept is not None
            shape, dtype = self._shapes[module]
            return self._kept.new_full((), stand_in, dtype=dtype).expand(len(self._kept), *shape[1:])

        return still

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """Note the shape of what each frozen module gives."""

        def note(module: nn.Module, inputs: Any, output: Any) -> None:
            if not isinstance(output, Tensor) or not output.is_floating_point():
                raise _Unfit
            self._shapes[module] = output.shape, output.dtype

        with contextlib.ExitStack() as stack:
            for module in self._frozen:
                stack.enter_context(_hooked(module, note))
            yield


def _called(module: nn.Module) -> list[nn.Module]:
    """The module, or where it only holds others, those."""
    if isinstance(module, (nn.ModuleList, nn.ModuleDict)):
        return [inner for child in module.children() for inner in _called(child)]
    return [module]


class _Unfit(Exception):  # noqa: N818  (it is a signal, not an error)
    """The network cannot be cut here."""


@contextmanager
def _hooked(module: nn.Module, hook: Callable[..., None]) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _instead(module: nn.Module, name: str, method: Callable[..., Any]) -> Iterator[None]:
    """For a while another method; one that the module itself had before, beside its class's, is its own again."""
    own = vars(module)
    missing = object()
    before = own.get(name, missing)
    own[name] = method
    try:
        yield
    finally:
        if before is missing:
            own.pop(name, None)
        else:
            own[name] = before

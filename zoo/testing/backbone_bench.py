"""One backbone, built once, and what a forward pass shows of it: what the checks look at."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from zoo.catalog.spec import Backbone
from zoo.errors import UsageError
from zoo.models.build import Builder
from zoo.models.network import Network, pool
from zoo.models.stages import find_head
from zoo.testing.findings import SkippedCheck, fail

#: Rows of a batch that is fed.
ROWS: Final = 2
#: Another class count than the default, to see what depends on it.
CLASSES: Final = 7

#: Of the texts that are fed: how long, and the ids that every vocabulary has.
LENGTH: Final = 12
WORDS: Final = 64

#: (spec, rows) -> a batch of what the backbone eats.
Example = Callable[[Backbone, int], Any]


def example(spec: Backbone, rows: int) -> Any:
    """Seeded numbers (rows, *input_size), for all that eats one tensor of floats; of texts token ids and their mask.

    Raises:
        SkippedCheck: the backbone eats tokens, whose numbers the kit does not know.
    """
    if spec.input == "text":
        ids = torch.randint(1, WORDS, (rows, LENGTH), generator=torch.Generator().manual_seed(7))
        mask = torch.ones(rows, LENGTH, dtype=torch.int64)
        mask[-1, LENGTH // 2 :] = 0
        return ids, mask
    if spec.input == "tokens":
        raise SkippedCheck(
            f"the kit does not know what {spec.name} eats; say it with `example` of PluginContract, or check(example=)"
        )
    return torch.randn(rows, *spec.input_size, generator=torch.Generator().manual_seed(7))


class BackboneBench:
    """One backbone, built once.

    Args:
        spec: what is declared.
        example: gives what it eats.
        runs: whether it is built with memory and run; else its facts are read off torch's `meta` device, where only
            shapes exist.
    """

    def __init__(self, spec: Backbone, example: Example = example, *, runs: bool = True) -> None:
        self.spec = spec
        self.example = example
        self.runs = runs

    @cached_property
    def builder(self) -> Builder:
        return Builder(self.spec, None, seed=0)

    @property
    def default_head_is_hidden(self) -> bool:
        """Whether `build` takes any keyword and does not name num_classes, so that its default is its own secret."""
        try:
            parameters = inspect.signature(self.builder.build).parameters
        except (TypeError, ValueError):
            return True
        return "num_classes" not in parameters

    @property
    def channels(self) -> int:
        """What the example has: pictures say it first."""
        return self.spec.input_size[0] if self.spec.input == "image" else 3

    @cached_property
    def module(self) -> nn.Module:
        """With its default head, in evaluation mode."""
        return self.build()

    def build(self) -> nn.Module:
        """Another one, of the same seed."""
        make = self.builder.random if self.runs else self.builder.on_meta
        return make(num_classes=None, in_chans=self.channels).eval()

    def state_after(self, seed: int) -> bytes:
        """What torch's generator holds when a build that began at `seed` has ended; shapes alone are made."""
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            torch.default_generator.manual_seed(seed)
            with suppress(Exception):  # where it cannot be built so: what was drawn or seeded until then
                self.builder.build(num_classes=CLASSES, in_chans=self.channels)
            return torch.get_rng_state().numpy().tobytes()

    @cached_property
    def small(self) -> nn.Module:
        """With few classes, without memory."""
        return self.builder.on_meta(num_classes=CLASSES, in_chans=self.channels).eval()

    @cached_property
    def measured(self) -> Backbone:
        """The spec with the width that the features have, so that one slip is told by one check."""
        heads = head_of(self.module, self.spec)
        bare = Network(self.module, head=",".join(heads))
        return replace(self.spec, num_features=self.call(bare.features).shape[1])

    @cached_property
    def network(self) -> Network:
        return Network(self.module, self.measured)

    @cached_property
    def input(self) -> Any:
        """Rows of what it eats, where the module lies."""
        x = self.example(self.spec, ROWS)
        return x if self.runs else each(x, lambda part: part.to("meta"))

    @cached_property
    def seen(self) -> _Seen:
        """One forward pass, watched."""
        return self.call(lambda x: _watch(self.network, x))

    @cached_property
    def features(self) -> Tensor:
        return self.call(self.network.features)  # type: ignore[no-any-return]

    def place(self) -> AbstractContextManager[Any]:
        """Where a forward pass makes tensors of its own."""
        return nullcontext() if self.runs else torch.device("meta")

    def call(self, function: Callable[[Any], Any], x: Any = None) -> Any:
        """Without gradients, in its place; on a copy of its input where no other is given."""
        with torch.no_grad(), self.place():
            return function(each(self.input, Tensor.clone) if x is None else x)


@dataclass
class _Seen:
    """What one forward pass showed.

    Attributes:
        logits: what it gave.
        scores: what its classifier gave, where it has one alone.
        order: names of modules, as they ended.
        taps: stage -> its pooled features, or why there are none.
        gmacs: multiply-accumulates of one row in 1e9, as torch counts them where it ran.
    """

    logits: Any = None
    scores: Any = None
    order: list[str] = field(default_factory=list)
    taps: dict[str, Tensor | str] = field(default_factory=dict)
    gmacs: float = 0.0


def _watch(network: Network, x: Any) -> _Seen:
    seen = _Seen()
    ends = {network.end_of(tap): tap for tap in network.taps()}

    def ended(path: str, module: nn.Module, output: Any) -> None:
        seen.order.append(path)
        if [path] == list(network.head_names):
            seen.scores = output
        if (tap := ends.get(path)) is None or tap in seen.taps:
            return
        if set(network.head_names) <= set(seen.order):
            seen.taps[tap] = "the classifier runs before it"
            return
        try:
            seen.taps[tap] = pool(output, network.module, x)
        except UsageError as error:
            seen.taps[tap] = error.message

    handles = [
        child.register_forward_hook(lambda module, _, output, path=path: ended(path, module, output))
        for path, child in network.module.named_modules()
    ]
    try:
        with FlopCounterMode(display=False) as counter:
            seen.logits = network(x)
    finally:
        for handle in handles:
            handle.remove()
    seen.gmacs = counter.get_total_flops() / ROWS / 2e9
    return seen


def each(x: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """`change` applied to every tensor of a batch's input."""
    if isinstance(x, Mapping):
        return {name: change(part) for name, part in x.items()}
    return tuple(change(part) for part in x) if isinstance(x, (tuple, list)) else change(x)


def head_of(module: nn.Module, spec: Backbone) -> tuple[str, ...]:
    """Dotted names of the classifier, or a finding where there is none."""
    try:
        return find_head(module, spec.head)
    except UsageError as error:
        linear = [name for name, child in module.named_modules() if isinstance(child, nn.Linear)]
        fail(error.message, f'Write head="{linear[-1]}".' if linear else "Name the classifier's module: head=...")

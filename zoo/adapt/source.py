"""Where a learner's network comes from: the registry, or a module of the user's own."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from zoo.catalog.spec import Backbone, Preprocessing, Weights
from zoo.data.preprocess import fit_reader
from zoo.errors import UsageError
from zoo.models.network import Network, default_preprocessing
from zoo.weights.source import assets_of, single

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry
    from zoo.data.dataset import Split


def kind_of(preprocessing: Preprocessing | None) -> str:
    """The kind of raw samples (see `zoo.data.dataset.Samples`) that a preprocessing reads; without one, tensors."""
    return preprocessing.kind if preprocessing else "tensor"


class NamedSource:
    """A backbone of the registry with its weights, or with random ones.

    Args:
        spec: the architecture.
        weights: what to load; None = random, from the seed.
        registry: for pulling.
        in_chans: channels of the input.
        tap: where features are read.
        seed: of random weights.
        like: for random weights: others whose files it reads with (a tokenizer), and whose builder options and
            preprocessing go with these; None = it reads without files.

    Attributes:
        notes: what the user should know of weights that were just pulled: their terms, and what pins them.
        assets: the files that a network with random weights reads with; None = those of `like`, pulled.
        fitted: what a reader was told by the rows of a fit, and what the user should know of that; None = nothing.
    """

    notes: Sequence[str] = ()
    assets: Mapping[str, bytes] | None = None
    fitted: tuple[Preprocessing, list[str]] | None = None

    def __init__(
        self,
        spec: Backbone,
        weights: Weights | None,
        registry: Registry,
        *,
        in_chans: int = 3,
        tap: str | None = None,
        seed: int = 0,
        like: Weights | None = None,
    ) -> None:
        self.spec = spec
        self.weights = weights
        self.like = None if weights else like
        self.registry = registry
        self.in_chans = in_chans
        self.tap = tap
        self.seed = seed
        if tap is not None:
            self._expect_tap(tap)

    @property
    def name(self) -> str:
        """The architecture's name."""
        return self.spec.name

    @property
    def pretrained(self) -> bool:
        """Whether it comes with weights."""
        return self.weights is not None

    @property
    def preprocessing(self) -> Preprocessing | None:
        """What a fit has fitted, else the weights' own, else the architecture's."""
        return self.fitted[0] if self.fitted else self._given()

    def _given(self) -> Preprocessing | None:
        known = self.weights or self.like
        return (known.preprocessing if known else None) or default_preprocessing(self.spec)

    def reads_as(self, network: Network) -> None:
        """Let random weights read with the files of another network of this architecture, where it has any."""
        if network.assets and self.weights is None:
            name = f"{self.spec.name}.none"
            self.like = Weights(name, self.spec.name, "", options=network.options, preprocessing=network.preprocessing)
            self.assets = network.assets

    def fitted_on(self, split: Split) -> NamedSource:
        """The same with a reader that was fitted on these rows, and a network for what it gives; itself where its
        reader needs no fitting, or came fitted with the weights.

        Raises:
            UsageError: weights whose reader should have come fitted with them.
            DataError: nothing can be learned from these rows.
        """
        given = self._given()
        preprocessing, notes = fit_reader(given, split)
        if preprocessing is given or preprocessing is None:
            return self
        if self.weights is not None:
            raise UsageError(
                f"{self.weights.name} does not say what rows it learned from, so that it cannot read any",
                why=f"Its {preprocessing.kind!r} preprocessing is not fitted: rows would become other numbers.",
                hint="Take weights that were published (zoo pretrain, publish), which bring that with them.",
            )
        made = copy.copy(self)
        made.fitted, made.in_chans, made.notes = (preprocessing, notes), preprocessing.input_size[0], ()
        return made

    def _expect_tap(self, tap: str) -> None:
        """Raise `UsageError` for a tap that cannot be read, before anything is pulled: on a network without memory."""
        from zoo.models.build import Builder

        classes = self.weights.num_classes if self.weights else None
        module = Builder(self.spec, self.weights, self.seed).on_meta(num_classes=classes, in_chans=self.in_chans)
        Network(module, self.spec, tap=tap)

    def network(self, progress: Any = None) -> Network:
        """Pull what is missing, check it, and build the network (on the CPU, evaluation mode)."""
        from zoo.models.build import Builder
        from zoo.models.load import load_network
        from zoo.weights.assets import pull_asset, read
        from zoo.weights.batch import notes_of
        from zoo.weights.lock import place
        from zoo.weights.pull import pull

        path, assets, settings = None, self.assets, self.registry.settings
        Builder(self.spec, self.weights, self.seed)  # a package that it lacks is said before anything is pulled
        self.notes = []
        if self.weights is not None:
            told = (lambda have, total: progress("pull", have, total or 0)) if progress else None
            got = pull(self.weights, settings=settings, registry=self.registry, progress=told)
            self.notes = [] if got.cached else notes_of(self.weights, got, place(settings))
            path, assets = got.path, read(got.assets)
        elif self.like is not None and assets is None:
            assets = read([pull_asset(self.like, one, settings, self.registry) for one in assets_of(self.like)])
        network = load_network(
            self.spec, self.weights, path, in_chans=self.in_chans, tap=self.tap, seed=self.seed, settings=settings,
            assets=assets, like=self.like,
        )  # fmt: skip
        if self.fitted is not None:
            network.preprocessing = self.fitted[0]
            self.notes = [*self.notes, *self.fitted[1]]
        return network


class ModuleSource:
    """A module of the user's own. Each call of `network` gives a fresh copy of it.

    Args:
        module: kept as it was given. A `Network` keeps its spec, preprocessing, tap, classifier, weights' name and
            classes where nothing else is said here.
        head: dotted name of its classifier; None = the last linear layer.
        tap: where features are read.
        preprocessing: how raw samples become its input; None = it is given tensors.
    """

    spec: None = None
    weights: None = None
    notes: Sequence[str] = ()

    def __init__(
        self,
        module: nn.Module,
        *,
        head: str | None = None,
        tap: str | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        given = module if isinstance(module, Network) else None
        self.module = module
        self.head = head or (",".join(given.head_names) if given else None)
        self.tap = given.tap if given and tap is None else tap
        self.given = preprocessing or (given.preprocessing if given else None)
        self.preprocessing = self.given
        self.network()  # a wrong head or tap is said now

    @property
    def name(self) -> str:
        """The class of the module."""
        return type(self.module.module if isinstance(self.module, Network) else self.module).__name__

    @property
    def pretrained(self) -> bool:
        """What a module of the user's own holds is theirs to say, and taken as learned; a network of ours knows."""
        return not isinstance(self.module, Network) or self.module.spec is None or self.module.weights is not None

    @property
    def in_chans(self) -> int:
        """Channels of the input."""
        return self.network().in_chans

    def fitted_on(self, split: Split) -> ModuleSource:
        """The same with a reader that was fitted on these rows; itself where its reader needs no fitting."""
        preprocessing, notes = fit_reader(self.given, split)
        if preprocessing is self.given:
            return self
        made = copy.copy(self)
        made.preprocessing, made.notes = preprocessing, notes
        return made

    def network(self, progress: Any = None) -> Network:
        """A copy of the module behind the network contract (evaluation mode)."""
        module: Any = copy.deepcopy(self.module).eval()
        facts: dict[str, Any] = {}
        if isinstance(module, Network):
            kept = ("spec", "weights", "weights_id", "classes", "options", "num_classes", "task_kind", "assets")
            facts = {name: getattr(module, name) for name in kept}
            module = module.module
        with torch.no_grad():
            return Network(module, head=self.head, tap=self.tap, preprocessing=self.preprocessing, own=True, **facts)


def with_files(weights: Weights | None) -> Weights | None:
    """The weights, where they bring files that a network reads with."""
    if weights is None or not weights.files:
        return None
    weights = single(weights)
    return weights if weights.files else None


Source = NamedSource | ModuleSource

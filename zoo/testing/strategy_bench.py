"""One strategy, tiny backbones with weights of the kit's making, and rows to try it on."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from torch import nn

from zoo.adapt.compose import compose
from zoo.adapt.features import FeatureStore
from zoo.adapt.learner import Learner
from zoo.adapt.strategy import ClosedForm, Gradient
from zoo.catalog import targets
from zoo.catalog.hookspecs import hookimpl
from zoo.catalog.registry import Registry
from zoo.catalog.spec import Strategy, Weights
from zoo.models.tensors import write_tensors
from zoo.settings import Settings
from zoo.testing import tiny
from zoo.testing.findings import expect

#: What the kit can give a strategy that needs it.
SERVED: Final = frozenset({"teacher", "target", "unlabelled", "source-head", "batchnorm", "random-weights"})
#: Rows of the kit's data.
ROWS: Final = 24
#: The tiny backbones, by what they eat.
PICTURES, PAIR = "tiny", "tiny_pair"


@dataclass(frozen=True)
class Given:
    """What the checks of one strategy add to what the kit gives.

    Args:
        options: hyper-parameters; what needs a value other than its default, or would take long.
        fit: arguments of `fit`, for what the kit does not know.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    fit: Mapping[str, Any] = field(default_factory=dict)


class StrategyBench:
    """One strategy and what it is tried on.

    Args:
        spec: what is declared.
        plugin: the plugin object that gives it, and its name; so that a saved run finds it again.
        given: what it needs beside what the kit gives.
    """

    def __init__(self, spec: Strategy, plugin: Any, given: Given | None = None) -> None:
        self.spec = spec
        self.given = given or Given()
        self.folder: Final = Path(tempfile.mkdtemp(prefix="zoo-kit-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.store: Final = FeatureStore()
        plugins = {tiny.__name__.rpartition(".")[2]: tiny, "kit": _Pretrained(self.folder)}
        if spec.plugin and spec.plugin not in plugins:
            plugins[spec.plugin] = plugin
        home = Settings(
            home=self.folder / "home", offline=True, registry=None, plugins_dir=None, plugins=None, disabled=()
        )
        self.registry: Final = Registry(plugins, settings=home, builtins=False, entry_points=False, files=())

    @cached_property
    def make(self) -> Any:
        """The strategy's class."""
        made: Any = targets.load(self.spec.make, plugin=self.spec.plugin)
        expect(
            isinstance(made, type) and issubclass(made, (ClosedForm, Gradient)),
            f"make gives {made!r}, which is no subclass of ClosedForm or Gradient",
            "Derive the class from zoo.adapt.strategy.ClosedForm or Gradient, and name it in make.",
        )
        return made

    @property
    def needs(self) -> frozenset[str]:
        return frozenset(self.spec.needs) | frozenset(self.make.needs)

    def options(self, backbone: str = PICTURES) -> dict[str, Any]:
        """Short, and with a teacher where one is needed."""
        quick: dict[str, Any] = {"epochs": 2, "batch_size": 8} if issubclass(self.make, Gradient) else {}
        if "teacher" in self.needs:
            quick["teacher"] = f"{backbone}.kit"
        known = {one.name for one in dataclasses.fields(self.make)}
        return {**{name: value for name, value in quick.items() if name in known}, **self.given.options}

    def learner(
        self, backbone: str = PICTURES, strategy: Any = None, *, pretrained: bool = True, **options: Any
    ) -> Learner:
        """A fresh one on the CPU in fp32, composed with the strategy (or a stand-in for it)."""
        weights = "default" if pretrained and "random-weights" not in self.needs else None
        return compose(
            backbone,
            strategy or self.spec,
            weights=weights,
            accelerator="cpu",
            precision="fp32",
            registry=self.registry,
            store=self.store,
            **({**self.options(backbone), **options} if strategy is None else {}),
        )

    def fit(self, learner: Learner, x: Any, y: np.ndarray, **more: Any) -> Learner:
        """On rows of the kit, with unlabelled ones where they are wanted."""
        unknown = self.needs - SERVED
        arguments = {**self.given.fit, **more}
        expect(
            not unknown or self.given.options or self.given.fit,
            f"it needs {', '.join(sorted(unknown))}, which the kit does not know",
            "Say what to give it: given={'" + self.spec.name + "': Given(options=..., fit=...)} of PluginContract.",
        )
        if self.needs & {"target", "unlabelled"} and "target" not in arguments:
            arguments["target"] = _others(x)
        return learner.fit((x, y), **arguments)

    def fitted(self, **options: Any) -> Learner:
        """On pictures of three classes."""
        return self.fit(self.learner(**options), *pictures())


class _Pretrained:
    """A plugin of weights for the tiny backbones: random ones, in real files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @hookimpl
    def zoo_weights(self) -> list[Weights]:
        from zoo.models.load import load_network

        found = []
        for spec in tiny.zoo_backbones():
            path = self.folder / f"{spec.name}.safetensors"
            if not path.exists():
                network = load_network(spec, None, None, num_classes=3, seed=11, settings=Settings(home=self.folder))
                _warm(network.module)
                write_tensors(path, network.state_dict())
            found.append(Weights(name=f"{spec.name}.kit", backbone=spec.name, source=f"file:{path}", default=True))
        return found


def _warm(module: nn.Module) -> None:
    """Statistics other than the initial 0 and 1, so that nobody passes by resetting them."""
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            assert child.running_mean is not None
            assert child.running_var is not None
            child.running_mean += 0.1
            child.running_var *= 1.5


def pictures(rows: int = ROWS, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Prepared pictures (rows, 3, 8, 8) of three classes, each brightest in a channel of its own."""
    generator = np.random.default_rng(seed)
    y = np.arange(rows) % 3
    x = generator.normal(size=(rows, 3, 8, 8)) + 1.5 * np.eye(3)[y][:, :, None, None]
    return x.astype(np.float32), y


def pairs(rows: int = ROWS, seed: int = 3) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Token ids (rows, 6) and their mask, of three classes with words of their own."""
    generator = np.random.default_rng(seed)
    y = np.arange(rows) % 3
    ids = generator.integers(0, 10, (rows, 6)) + 10 * y[:, None]
    mask = np.ones((rows, 6), np.float32)
    mask[::2, 4:] = 0
    return (ids, mask), y


def _others(x: Any) -> Any:
    """Rows like these, and none of them."""
    return pairs(seed=4)[0] if isinstance(x, tuple) else pictures(seed=4)[0]

"""Publishing: the file is proved before it is registered, and says what its outputs are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import zoo
from zoo.adapt.publish import check_publishable
from zoo.catalog.registry import Registry, default
from zoo.catalog.spec import Backbone
from zoo.errors import UsageError
from zoo.testing.networks import Tiny
from zoo.weights.header import read_header
from zoo.weights.pull import pull


class Convolved(nn.Module):
    """The classifier is a 1x1 convolution of the pooled map."""

    def __init__(
        self, num_classes: int = 10, in_chans: int = 3, bias: bool = True, act: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, 6, 3)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Conv2d(6, num_classes, 1, bias=bias)
        self.act = act or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.fc(self.pool(self.conv(x).relu()))).flatten(1)


def unbiased(*, num_classes: int = 10, in_chans: int = 3) -> nn.Module:
    return Convolved(num_classes, in_chans, bias=False)


def rectified(*, num_classes: int = 10, in_chans: int = 3) -> nn.Module:
    return Convolved(num_classes, in_chans, act=nn.ReLU())


class Wide(Convolved):
    """The classifier is a 3x3 convolution."""

    def __init__(self, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__(num_classes, in_chans)
        self.fc = nn.Conv2d(6, num_classes, 3, padding=1)


class Two(Convolved):
    """Two classifiers, averaged."""

    def __init__(self, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__(num_classes, in_chans)
        self.other = nn.Conv2d(6, num_classes, 1)


def registry(build: Callable[..., nn.Module], head: str = "fc") -> Registry:
    class Plugin:
        @zoo.hookimpl
        def zoo_backbones(self) -> list[Backbone]:
            size = (3, 8, 8)
            return [Backbone(name="net", family="n", build=build, num_features=6, params=1, input_size=size, head=head)]

    return Registry(plugins={"mine": Plugin()}, entry_points=False)


@pytest.fixture
def pictures() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    y = np.arange(30) % 3
    x = np.eye(3)[y][:, None, None, :] * 120 + random.integers(0, 130, (30, 8, 8, 3))
    return x.astype(np.uint8), y


def compose(known: Registry, strategy: str = "linear-probe") -> zoo.Learner:
    return zoo.compose("net", strategy, weights=None, registry=known, precision="fp32", accelerator="cpu")


def test_a_convolution_as_classifier(pictures) -> None:
    known = registry(Convolved)
    learner = compose(known).fit(pictures)
    weights = learner.publish("net.mine")
    network = zoo.load_backbone("net.mine", accelerator="cpu", registry=known)
    x = torch.randn(4, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(network(x), learner.model(x))
    assert network.classes == ("0", "1", "2")
    assert network.num_classes == weights.num_classes == 3
    again = zoo.compose("net.mine", "linear-probe", registry=known, precision="fp32", accelerator="cpu")
    assert again.fit(pictures).predict(pictures[0]).shape == (30,)


@pytest.mark.parametrize(
    ("build", "head", "said"),
    [(unbiased, "fc", "bias=False"), (Wide, "fc", r"kernel_size=\(3, 3\)"), (Two, "fc,other", "2 classifiers")],
)
def test_no_place_for_a_linear_head(build: Callable[..., nn.Module], head: str, said: str) -> None:
    learner = compose(registry(build, head))
    with pytest.raises(UsageError, match="cannot be the classifier") as caught:
        check_publishable(learner)
    assert caught.value.why is not None
    assert said.replace("\\", "") in caught.value.why


def test_what_answers_otherwise_is_never_registered(pictures, home: Path) -> None:
    known = registry(rectified)
    learner = compose(known).fit(pictures)
    with pytest.raises(UsageError, match="cannot be the classifier") as caught:
        learner.publish("net.mine")
    assert "otherwise" in caught.value.why
    assert not (home / "registry.toml").exists()
    assert not list((home / "blobs").rglob("*.safetensors"))
    assert known.weights("net.mine") == []


@pytest.mark.usefixtures("tiny_plugin")
@pytest.mark.parametrize("kind", ["classes", "multi-label", "regression"])
def test_the_task_is_kept(kind: str, pictures) -> None:
    x, y = pictures
    targets = {"classes": y, "multi-label": np.eye(3, dtype=int)[y], "regression": np.eye(3)[y] + 0.5}[kind]
    zoo.compose("tiny", "linear-probe", weights=None).fit((x, targets)).publish("tiny.mine")
    network = zoo.load_backbone("tiny.mine", accelerator="cpu")
    assert network.task_kind == kind
    assert zoo.load_backbone("tiny.mine", accelerator="cpu", num_classes=7).task_kind is None
    assert zoo.load_backbone("tiny", None, accelerator="cpu").task_kind is None
    weights = default().weights("tiny.mine")[0]
    assert read_header(pull(weights, settings=default().settings).path).metadata["task"] == kind


def test_a_module_of_your_own_has_no_name(pictures) -> None:
    with pytest.raises(UsageError, match="no name"):
        check_publishable(zoo.compose(Tiny(), "linear-probe"))

"""Options of strategies: types and ranges, the same by composing and by constructing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from zoo_plugins.strategies.distillation.strategy import Distillation
from zoo_plugins.strategies.fine_tune.strategy import FineTune
from zoo_plugins.strategies.from_scratch.strategy import FromScratch
from zoo_plugins.strategies.linear_probe.strategy import LinearProbe

import zoo
from zoo.adapt.options import check_types
from zoo.adapt.strategy import ClosedForm
from zoo.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAKERS: dict[str, Callable[..., Any]] = {
    "fine-tune": FineTune,
    "from-scratch": FromScratch,
    "distillation": Distillation,
    "linear-probe": LinearProbe,
}

TRAINED = [
    ("epochs", 1.5),
    ("epochs", True),
    ("epochs", 0),
    ("epochs", "many"),
    ("batch_size", None),
    ("batch_size", 8.0),
    ("lr", math.inf),
    ("lr", math.nan),
    ("lr", 10**400),
    ("lr", "fast"),
    ("lr", False),
    ("lr", -1e-3),
    ("weight_decay", None),
    ("weight_decay", -0.1),
    ("momentum", 2),
    ("momentum", 1.0),
    ("clip", 0.0),
    ("clip", [1.0]),
    ("optimizer", 3),
    ("optimizer", "adamm"),
    ("schedule", "linear"),
    ("head", "mpl(3)"),
    ("head", 512),
]

CASES = [
    *[(name, *case) for name in ("fine-tune", "from-scratch", "distillation") for case in TRAINED],
    ("fine-tune", "layer_decay", 0.0),
    ("fine-tune", "label_smoothing", 1.0),
    ("fine-tune", "label_smoothing", "much"),
    ("from-scratch", "recipe", "articel"),
    ("from-scratch", "recipe", ["article"]),
    ("from-scratch", "label_smoothing", -0.1),
    ("distillation", "alpha", 1.5),
    ("distillation", "temperature", 0),
    ("linear-probe", "head", None),
    ("linear-probe", "lr", "fast"),
    ("linear-probe", "epochs", 2.0),
    ("linear-probe", "floor", True),
]


@pytest.mark.parametrize(("strategy", "option", "value"), CASES)
def test_a_bad_value_is_refused_by_name(strategy: str, option: str, value: Any) -> None:
    others = {"head": "mlp(4)"} if strategy == "linear-probe" and option in ("lr", "epochs") else {}
    messages = []
    for make in (
        lambda: MAKERS[strategy](**{option: value}, **others),
        lambda: zoo.compose(nn.Linear(4, 2), strategy, backbone_head="", **{option: value}, **others),
    ):
        with pytest.raises(UsageError) as caught:
            make()
        assert option in caught.value.message
        messages.append(caught.value.message)
    assert messages[0] == messages[1]


def test_good_values_pass() -> None:
    FineTune(epochs=3, lr=1, weight_decay=0, momentum=0.99, clip=None, head="mlp(4)")
    FromScratch(epochs=None, lr="recipe", clip=None, weight_decay=0)
    LinearProbe(regularizer=1, floor=0.5, class_weight="balanced")


def test_what_would_be_right_is_said() -> None:
    with pytest.raises(UsageError, match=r"epochs must be a whole number or null, not 1\.5"):
        FineTune(epochs=1.5)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="lr must be a finite number or 'recipe', not 'fast'"):
        FromScratch(lr="fast")  # type: ignore[arg-type]


@dataclass(frozen=True)
class Mine(ClosedForm):
    """A strategy of somebody's own without a `__post_init__`."""

    k: int = 5

    def solve(self, features: torch.Tensor, targets: Any, context: Any) -> nn.Module:
        return nn.Linear(features.shape[1], 2)


@dataclass(frozen=True)
class Silent(Mine):
    """One that does not hand `__post_init__` on."""

    def __post_init__(self) -> None:
        pass


def test_strategies_of_others_are_checked_too() -> None:
    with pytest.raises(UsageError, match=r"k must be a whole number, not 2\.5"):
        Mine(k=2.5)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="k must be a whole number"):
        zoo.compose(nn.Linear(4, 2), Silent(), k=2.5)
    with pytest.raises(UsageError, match="k must be a whole number"):
        zoo.compose(nn.Linear(4, 2), Silent(k="three"))  # type: ignore[arg-type]


@dataclass
class Hidden:
    """An annotation that only type checkers can resolve."""

    steps: Sequence[int] = ()
    k: int = 1


def test_annotations_that_cannot_be_resolved_check_nothing() -> None:
    check_types(Hidden(steps=3, k="x"))  # type: ignore[arg-type]


@dataclass
class Many:
    """Hints of other shapes."""

    names: list[str] | None = None
    call: Callable[[], int] | None = None
    anything: Any = None
    flag: bool = False


def test_containers_are_not_looked_into() -> None:
    check_types(Many(names=["a", 3], call=lambda: 1, anything=object(), flag=True))  # type: ignore[list-item]
    with pytest.raises(UsageError, match="names must be list"):
        check_types(Many(names="a"))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="flag must be true or false, not 1"):
        check_types(Many(flag=1))  # type: ignore[arg-type]

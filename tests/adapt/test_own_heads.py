"""A head of your own: a module or what makes one, straight into compose."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import zoo
from zoo.errors import UsageError

TINY = "tiny"
PICTURES = torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = [i % 3 for i in range(24)]


class Cosine(nn.Module):
    """No name makes it."""

    def __init__(self, num_features: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, num_features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(x) @ nn.functional.normalize(self.weight).T


@pytest.fixture(autouse=True)
def tiny(tiny_plugin: str) -> None:
    """The tiny backbones are known."""


def fitted(head: object, strategy: str = "from-scratch") -> zoo.adapt.learner.Learner:  # type: ignore[name-defined]
    learner = zoo.compose(TINY, strategy, weights=None, head=head, epochs=1, batch_size=8)
    return learner.fit((PICTURES, LABELS))


@pytest.mark.parametrize("strategy", ["from-scratch", "fine-tune"])
def test_a_callable_makes_the_head(strategy: str) -> None:
    learner = fitted(Cosine, strategy)
    assert isinstance(learner.model.head, Cosine)
    assert learner.model.head.weight.shape == (3, 8)
    assert learner.predict_proba(PICTURES).shape == (24, 3)


def test_a_module_is_copied_and_learns() -> None:
    torch.manual_seed(0)
    mine = Cosine(8, 3)
    before = mine.weight.detach().clone()
    learner = fitted(mine)
    assert torch.equal(mine.weight, before), "yours is never changed"
    assert not torch.equal(learner.model.head.weight, before)


def test_it_travels_where_it_is_given_again(tmp_path: Path) -> None:
    learner = fitted(Cosine)
    run = learner.save(tmp_path / "run")
    with pytest.raises(UsageError, match="a head of your own") as caught:
        zoo.load(run)
    assert "head=" in (caught.value.hint or "")
    for given in (Cosine, Cosine(8, 3)):
        again = zoo.load(run, head=given)
        assert (again.predict_proba(PICTURES) == learner.predict_proba(PICTURES)).all()


def test_a_head_that_a_name_makes_needs_no_word(tmp_path: Path) -> None:
    learner = fitted(nn.Linear)
    run = learner.save(tmp_path / "run")
    assert (zoo.load(run).predict_proba(PICTURES) == learner.predict_proba(PICTURES)).all()


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (lambda num_features, outputs: nn.Linear(num_features, outputs + 1), r"\(2, 3\) is needed"),
        (nn.Linear(5, 3), r"cannot take features \(N, 8\)"),
        (lambda num_features, outputs: None, "made a NoneType"),
    ],
)
def test_what_is_no_head_for_these_features(head: object, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        fitted(head)


def test_what_can_be_no_head_at_all() -> None:
    with pytest.raises(UsageError, match="head must be a word or a callable, not 3"):
        fitted(3)
    with pytest.raises(UsageError, match="head"):
        zoo.compose(TINY, "knn", weights=None, head=nn.Linear)

"""from-scratch: random weights, and the article's recipe."""

from __future__ import annotations

import pytest
import torch
from tuning_kit import batch, context, model
from zoo_plugins.strategies.from_scratch.strategy import FromScratch

from zoo.adapt.compose import make_strategy
from zoo.adapt.training import train
from zoo.catalog.registry import default
from zoo.data import loading
from zoo.data.task import MULTI_LABEL
from zoo.errors import UsageError

ARTICLE = {
    "epochs": 10, "lr": 0.01, "weight_decay": 0.0, "optimizer": "sgd", "momentum": 0.0, "schedule": "constant",
    "clip": None,
}  # fmt: skip


def settled(strategy: FromScratch) -> dict[str, object]:
    resolved = strategy.resolve(context())
    return {name: getattr(resolved, name) for name in ARTICLE}


class TestRecipes:
    def test_article(self) -> None:
        assert settled(FromScratch(recipe="article")) == ARTICLE

    def test_default(self) -> None:
        found = settled(FromScratch())
        assert found["epochs"] is None
        assert (found["optimizer"], found["lr"], found["schedule"], found["clip"]) == ("adamw", 1e-3, "cosine", 1.0)

    @pytest.mark.parametrize(("name", "value"), [("lr", 1e-3), ("epochs", None), ("epochs", 3), ("clip", 1.0)])
    def test_what_is_said_wins(self, name: str, value: object) -> None:
        """Also where it is said with the other recipe's value, or None."""
        assert settled(FromScratch(recipe="article", **{name: value})) == {**ARTICLE, name: value}

    def test_a_recipe_for_an_object(self) -> None:
        _, made = make_strategy(FromScratch(), {"recipe": "article"}, default())
        assert settled(made) == ARTICLE

    @pytest.mark.parametrize(
        "option", [{"recipe": "artikel"}, {"lr": -1.0}, {"epochs": 0}, {"optimizer": "adm"}, {"label_smoothing": 1}]
    )
    def test_impossible(self, option: dict) -> None:
        with pytest.raises(UsageError, match=next(iter(option))):
            FromScratch(**option)

    def test_smoothing_is_for_classes(self) -> None:
        with pytest.raises(UsageError, match="label_smoothing"):
            FromScratch(label_smoothing=0.1).resolve(context(MULTI_LABEL))


def test_the_articles_training_is_plain_sgd() -> None:
    """Against the loop as a beginner writes it."""
    ours, theirs, given = model(), model(), batch(rows=20)
    parts = [torch.randperm(20, generator=torch.Generator().manual_seed(epoch)).split(8) for epoch in range(10)]

    torch.manual_seed(2)
    history = train(
        ours,
        FromScratch(recipe="article"),
        lambda epoch: [loading.Batch(given.x[part], given.y[part], part) for part in parts[epoch]],
        context(rows=20),
        steps_per_epoch=3,
    )
    torch.manual_seed(2)
    theirs = theirs.to(memory_format=torch.channels_last).train()
    used = [p for name, p in theirs.named_parameters() if "classifier" not in name]
    optimizer = torch.optim.SGD(used, lr=0.01)
    for epoch in parts:
        for part in epoch:
            optimizer.zero_grad()
            x = given.x[part].contiguous(memory_format=torch.channels_last)
            torch.nn.functional.cross_entropy(theirs(x), given.y[part]).backward()
            optimizer.step()
    assert len(history) == 10
    assert {epoch["lr"] for epoch in history} == {0.01}
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], tensor, atol=1e-6, rtol=1e-6)


def test_batchnorm_learns_its_statistics() -> None:
    made, given = model(), batch(rows=16)
    before = made.backbone.module.norm.running_mean.clone()
    train(
        made,
        FromScratch(epochs=2),
        lambda epoch: [loading.Batch(given.x, given.y, given.index)],
        context(rows=16, pretrained=True),
        steps_per_epoch=1,
    )
    assert not torch.equal(made.backbone.module.norm.running_mean, before)

"""scarf: its loss and its corruption by their formulas; labels play no part in what the backbone learns."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from zoo_plugins.strategies.scarf.strategy import Scarf, corrupted, info_nce

import zoo
from zoo.catalog.registry import default
from zoo.catalog.targets import load
from zoo.errors import UsageError

sys.path.insert(0, str(Path(__file__).parents[2]))
from tables_kit import data_of

QUICK = {"epochs": 2, "batch_size": 32, "accelerator": "cpu", "precision": "fp32", "weights": None}


def test_the_spec_tells_the_truth() -> None:
    spec = default().strategy("scarf")
    assert dict(spec.options) == {field.name: field.default for field in dataclasses.fields(load(spec.make))}


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_the_loss_is_the_formula(temperature: float) -> None:
    """-log of the softmax over the batch of the cosine with one's own changed row, row by row in plain Python."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(7, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    one, other = (x / x.norm(dim=1, keepdim=True) for x in (a, b))
    losses = []
    for i in range(7):
        cosine = [sum(float(a[i, k] * b[j, k]) for k in range(5)) / float(a[i].norm() * b[j].norm()) for j in range(7)]
        losses.append(-math.log(math.exp(cosine[i] / temperature) / sum(math.exp(c / temperature) for c in cosine)))
    assert float(info_nce(one, other, temperature)) == pytest.approx(sum(losses) / 7, rel=1e-12)


def test_columns_are_replaced_whole_by_those_of_other_rows() -> None:
    torch.manual_seed(0)
    cells = torch.tensor([0, 1, 1, 2, 2, 2, 3, 4])
    x = torch.arange(40.0)[:, None] + torch.arange(8) * 100  # a cell says its row and its place
    found = corrupted(x, cells, 0.6)
    rows = found - torch.arange(8) * 100
    changed = rows != torch.arange(40.0)[:, None]
    for column in range(5):
        members = rows[:, cells == column]
        assert (members == members[:, :1]).all()  # from one row
    assert ((rows >= 0) & (rows < 40)).all()
    per_row = torch.stack([changed[:, cells == column].any(dim=1) for column in range(5)], dim=1).sum(dim=1)
    assert per_row.max() == 3  # floor(0.6 * 5); a row may draw itself
    assert per_row.float().mean() > 2.5


def test_each_column_draws_from_its_own_values_evenly() -> None:
    torch.manual_seed(1)
    x = torch.tensor([[0.0, 10.0], [1.0, 11.0], [2.0, 12.0], [3.0, 13.0]]).repeat(3000, 1)
    found = corrupted(x, None, 1.0)
    for column, start in ((0, 0.0), (1, 10.0)):
        values, counts = found[:, column].unique(return_counts=True)
        assert values.tolist() == [start, start + 1, start + 2, start + 3]
        assert ((counts / len(x) - 0.25).abs() < 0.02).all()
    together = (found[:, 0] + 10 == found[:, 1]).float().mean()
    assert float(together) == pytest.approx(0.25, abs=0.03)  # columns are drawn apart


def test_at_least_one_column_and_any_shape() -> None:
    torch.manual_seed(2)
    x = torch.randn(50, 2, 3, 3)
    found = corrupted(x, None, 0.01)
    assert found.shape == x.shape
    assert ((found != x).flatten(1).sum(dim=1) <= 1).all()
    assert (found != x).any()


def test_labels_play_no_part_in_what_the_backbone_learns() -> None:
    one, other = data_of(90), data_of(90)
    train = other.splits["train"]
    shuffled = np.random.default_rng(0).permutation(train.targets)
    # The reported rows are named by the data, so that labels do not divide them either.
    other = dataclasses.replace(other, splits={**other.splits, "train": dataclasses.replace(train, targets=shuffled)})
    fits = [zoo.compose("tabular_resnet", "scarf", **QUICK).fit(data, "test") for data in (one, other)]
    tensors = [learner.model.backbone.state_dict() for learner in fits]
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    assert not torch.equal(fits[0].model.head.weight, fits[1].model.head.weight)


def test_rows_are_told_from_others_better_than_by_chance_and_ever_better() -> None:
    learner = zoo.compose("tabular_resnet", "scarf", **{**QUICK, "epochs": 30}).fit(data_of(240), "test")
    losses = [epoch["loss"] for epoch in learner.history]
    assert losses[0] < math.log(32) + 0.2
    assert losses[-1] < losses[0] - 0.1
    assert learner.history[-1]["found"] > 5 / 32


def test_the_head_is_the_probes_on_what_was_learned() -> None:
    from zoo.adapt.solve import solve_head

    learner = zoo.compose("tabular_resnet", "scarf", **QUICK).fit(data := data_of(90), "test")
    train = data.splits["train"]
    features = learner.store.features(learner.model.backbone, train, learner.placement)
    expected = solve_head(features, train.targets, learner.task, seed=0)
    torch.testing.assert_close(learner.model.head.weight.detach(), expected.weight.detach())


def test_data_without_labels() -> None:
    """Each row's own numbers are the targets of the head."""
    bare = zoo.compose("tabular_resnet", "scarf", **QUICK).fit(data_of(90, labelled=False), "test")
    assert bare.task.kind == "regression"
    assert bare.classes == bare.model.backbone.reader().names
    assert bare.evaluation.primary == "r2"
    assert bare.evaluation.value > 0.5
    assert any(note.startswith("there are no labels") for note in bare.notes)
    elsewhere = data_of(30, seed=4).splits["train"].samples.rows
    apart = zoo.compose("tabular_resnet", "scarf", **QUICK).fit(data_of(90, labelled=False), elsewhere)
    assert apart.evaluation.n == 30
    with pytest.raises(UsageError, match="a guard compares"):
        zoo.compose("tabular_resnet", "scarf", **QUICK).fit(data_of(90, labelled=False), "test", guard=True)
    with pytest.raises(zoo.DataError):
        zoo.compose("tabular_resnet", "linear-probe", weights=None).fit(data_of(90, labelled=False), "test")


def test_rows_without_a_label_take_part() -> None:
    few = {"labels_per_class": 5, "val": "test"}
    alone, more = (
        zoo.compose("tabular_resnet", "scarf", **QUICK).fit(data_of(120), **few, **target)
        for target in ({}, {"target": "rest"})
    )
    assert more.record["data"]["rows"]["unlabelled"] == 70
    assert more.model.backbone.preprocessing.extra["rows"] == 80
    assert alone.model.backbone.preprocessing.extra["rows"] == 10


@pytest.mark.parametrize(
    "options",
    [{"corruption": 0}, {"corruption": 1.5}, {"temperature": -1}, {"early_stop": 3}, {"head": torch.nn.Linear}],
)
def test_impossible_options(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Scarf(**options)  # type: ignore[arg-type]


def test_without_labels_a_fit_goes_on_where_it_was_broken_off(tmp_path: Path) -> None:
    data = data_of(90, labelled=False)

    def break_off(what: str, done: int, steps: int) -> None:
        if what == "train" and done == 3:
            raise InterruptedError

    whole = zoo.compose("tabular_resnet", "scarf", **QUICK).fit(data, "test")
    with pytest.raises(InterruptedError):
        zoo.compose("tabular_resnet", "scarf", **QUICK).fit(data, "test", resume=tmp_path / "run", progress=break_off)
    resumed = zoo.compose("tabular_resnet", "scarf", **QUICK).fit(data, "test", resume=tmp_path / "run")
    assert any("went on from its checkpoint" in note for note in resumed.notes)
    one, other = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    again = zoo.load(resumed.save(tmp_path / "run"), accelerator="cpu")
    assert again.classes == whole.classes
    test = data.splits["test"]
    np.testing.assert_allclose(again.predict(test), whole.predict(test), atol=1e-5)

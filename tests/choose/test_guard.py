"""Verdicts on cases whose truth is known, statistics against their definitions, and refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import RidgeClassifierCV
from torch import nn

import zoo
from zoo.adapt.again import find_again
from zoo.adapt.clusters import bootstrap
from zoo.catalog.tables import counted
from zoo.choose.compare import too_few
from zoo.data.open import open_data
from zoo.errors import DataError

Publish = Callable[[str, float], None]


def pictures(n: int, seed: int, signal: float = 60.0) -> tuple[np.ndarray, np.ndarray]:
    """Noisy pictures of three colours."""
    random = np.random.default_rng(seed)
    codes = np.arange(n) % 3
    pixels = random.normal(110, 50, (n, 8, 8, 3))
    pixels[np.arange(n), :, :, codes] += signal
    return np.clip(pixels, 0, 255).astype(np.uint8), np.array(["red", "green", "blue"])[codes]


def test_the_interval_is_the_bootstrap_of_the_mean() -> None:
    random = np.random.default_rng(0)
    differences = random.choice([-1.0, 0.0, 1.0], size=400, p=[0.1, 0.7, 0.2])
    low, high = bootstrap(differences)
    error = differences.std() / np.sqrt(400)
    assert low == pytest.approx(differences.mean() - 1.96 * error, abs=0.01)
    assert high == pytest.approx(differences.mean() + 1.96 * error, abs=0.01)
    smooth = random.normal(0.3, 1, 500)
    low, high = bootstrap(smooth)
    assert low == pytest.approx(smooth.mean() - 1.96 * smooth.std() / np.sqrt(500), abs=0.02)
    assert bootstrap(differences) == bootstrap(differences)


def test_what_anybody_can_learn_is_no_evidence(published: Publish) -> None:
    published("good", 1.0)
    learner = zoo.compose("tiny.good", "linear-probe").fit(pictures(90, 0))
    found = learner.evaluate(pictures(60, 1), guard=True, train=pictures(90, 0))
    assert found.guard is not None
    assert found.guard["verdict"] == "no-evidence"
    assert {one["name"] for one in found.guard["baselines"]} == {"majority", "raw", "random-weights"}
    assert "cannot be seen" in found.guard["advice"]
    assert "guard: no-evidence" in str(found)
    assert "guard: no-evidence" in found._repr_html_()
    json.dumps(found.as_json(), allow_nan=False)


def test_a_blind_network_is_negative_transfer(published: Publish) -> None:
    published("blind", 0.0)
    learner = zoo.compose("tiny.blind", "linear-probe").fit(pictures(90, 0))
    found = learner.evaluate(pictures(60, 1), guard=True, train=pictures(90, 0)).guard
    assert found["verdict"] == "negative-transfer"
    assert found["interval"][1] < 0
    assert found["baselines"][0]["name"] == found["against"]


class Knowing(nn.Module):
    """Of rows of 300 numbers it knows the one that counts."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x[:, :1])


def numbers(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of 300 numbers, of which the first tells the class: six labels a class are too few to find it."""
    random = np.random.default_rng(seed)
    codes = np.arange(n) % 2
    x = random.normal(size=(n, 300)).astype(np.float32)
    x[:, 0] += 4 * codes
    return x, codes


def test_knowledge_that_the_rows_do_not_hold_helps() -> None:
    learner = zoo.compose(Knowing(), "linear-probe").fit(numbers(12, 0), numbers(20, 5))
    found = learner.evaluate(numbers(200, 1), guard=True, train=numbers(12, 0)).guard
    assert found["verdict"] == "helps"
    assert found["interval"][0] > 0
    assert any("random-weights" in note for note in found["notes"])
    assert "groups" not in found


@pytest.mark.parametrize(("groups", "verdict"), [(40, "helps"), (4, "no-evidence"), (1, "no-evidence")])
def test_groups_are_what_a_verdict_rests_on(groups: int, verdict: str) -> None:
    learner = zoo.compose(Knowing(), "linear-probe").fit(numbers(12, 0), numbers(20, 5))
    test = open_data(numbers(200, 1)).train
    by_rows = learner.evaluate(test, guard=True, train=numbers(12, 0)).guard
    test = replace(test, groups=np.arange(200) % groups, group_names=tuple(map(str, range(groups))))
    found = learner.evaluate(test, guard=True, train=numbers(12, 0)).guard
    assert by_rows["verdict"] == "helps"
    assert (found["verdict"], found["groups"]) == (verdict, groups)
    assert found["gain"] == by_rows["gain"]
    for mine, other in zip(found["baselines"], by_rows["baselines"], strict=True):
        assert mine["p_value"] > other["p_value"]
        assert mine["gain_interval"][0] <= other["gain_interval"][0] <= other["gain_interval"][1]
        assert mine["gain_interval"][1] >= other["gain_interval"][1]
    assert f"on 200 rows of {counted(groups, 'group')}." in found["words"]
    assert (too_few(groups, 2) in found["notes"]) == ("nothing can be told" in found["advice"]) == (groups < 10)


def test_the_test_of_groups_is_the_definition() -> None:
    """The p of each baseline, by going through every choice of signs of whole groups, and Holm's correction."""
    learner = zoo.compose(Knowing(), "linear-probe").fit(numbers(12, 0), numbers(20, 5))
    (x, codes), groups = numbers(60, 1), np.arange(60) % 12
    test = replace(open_data((x, codes)).train, groups=groups, group_names=tuple(map(str, range(12))))
    found = {one["name"]: one for one in learner.evaluate(test, guard=True, train=numbers(12, 0)).guard["baselines"]}
    ours = (learner.outputs(test).argmax(dim=1).numpy() != codes).astype(float)
    sums = np.bincount(groups, weights=(codes != 0) - ours)  # the majority says 0
    share = np.mean([abs(np.dot(signs, sums)) >= abs(sums.sum()) - 1e-9 for signs in product((-1, 1), repeat=12)])
    assert any(found["majority"]["p_value"] == pytest.approx(times * share) for times in (1, 2))


def test_baselines_are_what_scikit_learn_makes_of_them(published: Publish) -> None:
    published("good", 1.0)
    (x, y), (tx, ty) = pictures(90, 0, 25.0), pictures(60, 1, 25.0)
    learner = zoo.compose("tiny.good", "linear-probe").fit((x, y), (tx, ty))
    found = {one["name"]: one for one in learner.evaluate((tx, ty), guard=True, train=(x, y)).guard["baselines"]}
    majority = DummyClassifier().fit(x.reshape(90, -1), y).score(tx.reshape(60, -1), ty)
    assert found["majority"]["accuracy"] == pytest.approx(majority)
    flat, other = x.reshape(90, -1) / 127.5 - 1, tx.reshape(60, -1) / 127.5 - 1
    oracle = RidgeClassifierCV(alphas=np.logspace(-3, 6, 40)).fit(flat, y).score(other, ty)
    assert found["raw"]["accuracy"] == pytest.approx(oracle, abs=0.07)


@pytest.mark.parametrize("kind", ["multi-label", "regression"])
def test_every_kind_of_target_has_a_guard(published: Publish, kind: str) -> None:
    """Colours say nothing to a network that is blind, and all to a regression on the raw numbers."""
    published("blind", 0.0)

    def labelled(x: np.ndarray, names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if kind == "regression":
            return x, x.mean(axis=(1, 2, 3)) / 10.0
        return x, np.stack([names == "red", names != "blue"], axis=1).astype(np.int64)

    train, test = labelled(*pictures(90, 0)), labelled(*pictures(60, 1))
    learner = zoo.compose("tiny.blind", "linear-probe").fit(train)
    found = learner.evaluate(test, guard=True, train=train).guard
    assert found["verdict"] == "negative-transfer"
    assert found["against"] == "raw"
    raw = {one["name"]: one for one in found["baselines"]}["raw"]
    assert raw["gain"] < 0
    assert raw["p_value"] < 0.05
    assert (raw["accuracy"] is None) == (kind == "regression")


def test_training_rows_are_found_again_and_proved(published: Publish, photos: Path, tmp_path: Path) -> None:
    published("good", 1.0)
    run = zoo.compose("tiny.good", "linear-probe", seed=3).fit(photos, labels_per_class=6).save(tmp_path / "run")
    again = zoo.load(run)
    assert len(find_again(again).train) == 12
    assert again.evaluate(photos, guard=True).guard["notes"][0].startswith("12 of 24 rows were learned from")
    (photos / "red" / "00.png").unlink()
    with pytest.raises(DataError, match="not the data"):
        find_again(again)
    with pytest.raises(DataError, match="cannot be read"):
        find_again(again, tmp_path / "nowhere")
    learner = zoo.compose("tiny.good", "linear-probe").fit(pictures(30, 0))
    with pytest.raises(DataError, match="as objects"):
        learner.evaluate(pictures(30, 1), guard=True)


def test_a_saved_run_carries_its_guard(published: Publish, photos: Path, tmp_path: Path) -> None:
    published("good", 1.0)
    learner = zoo.compose("tiny.good", "linear-probe").fit(photos, guard=True)
    assert learner.evaluation.guard["n"] == learner.evaluation.n
    assert zoo.load(learner.save(tmp_path / "run")).evaluation.guard == learner.evaluation.guard


def test_from_scratch_on_demand(published: Publish) -> None:
    published("good", 1.0)
    train, test = pictures(60, 0), pictures(30, 1)
    found = zoo.compose("tiny.good", "linear-probe").fit(train).evaluate(test, guard=True, train=train, scratch=True)
    assert "from-scratch" in {one["name"] for one in found.guard["baselines"]}

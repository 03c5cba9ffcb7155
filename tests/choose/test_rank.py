"""Ranking: what can tell the classes apart comes first, equals are ties, and features are read once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import zoo
from zoo.adapt.evaluation import few_groups
from zoo.adapt.features import FeatureStore
from zoo.choose import compare, rank
from zoo.data.open import open_data
from zoo.data.split import choose
from zoo.errors import DataError, NotFoundError, UsageError

Publish = Callable[[str, float], None]


@pytest.fixture
def three(published: Publish) -> None:
    for tag, factor in (("good", 1.0), ("twin", 1.0), ("blind", 0.0)):
        published(tag, factor)


@pytest.fixture
def colours() -> tuple[np.ndarray, np.ndarray]:
    """120 noisy pictures of three colours."""
    random = np.random.default_rng(0)
    codes = np.arange(120) % 3
    pictures = np.clip(random.normal(110, 50, (120, 8, 8, 3)), 0, 255)
    pictures[np.arange(120), :, :, codes] += 60
    return np.clip(pictures, 0, 255).astype(np.uint8), np.array(["red", "green", "blue"])[codes]


@pytest.mark.usefixtures("three")
def test_the_better_comes_first_and_equals_are_ties(colours: tuple[np.ndarray, np.ndarray]) -> None:
    ranking = zoo.rank("tiny*", colours)
    assert [row.weights for row in ranking][2] == "tiny.blind"
    assert [row.tied_with_best for row in ranking] == [True, True, False]
    assert ranking[0].score > 0.8 > ranking[2].score
    assert ranking[0].logme > ranking[2].logme
    assert ranking[0].h_score > ranking[2].h_score
    assert ranking[0].knn > ranking[2].knn
    assert ranking[0].leep > ranking[2].leep
    assert ranking[0].rows == 96  # the rows that a fit would report on are not seen
    assert ranking[2].p_value < 0.05
    assert ranking[0].p_value is None
    assert ranking[0].license == "mit"
    assert ranking[0].bytes_to_pull == 0
    error = np.sqrt(ranking[0].score * (1 - ranking[0].score) / 95)
    assert ranking[0].stderr == pytest.approx(error)
    assert "tiny.twin" in str(ranking)
    assert "<td>tiny.blind</td>" in ranking._repr_html_()
    json.dumps(ranking.as_json(), allow_nan=False)


@pytest.mark.usefixtures("three")
def test_a_second_ranking_computes_no_feature(colours: tuple[np.ndarray, np.ndarray]) -> None:
    store = FeatureStore()
    first = zoo.rank(["tiny.good"], colours, store=store)
    assert first[0].images_per_second is not None
    again = zoo.rank(["tiny.good"], colours, store=store)
    assert again[0].images_per_second is None
    assert again[0].score == first[0].score
    assert "others" not in again.sentence()  # there are none


@pytest.mark.usefixtures("three")
def test_halving_drops_the_worse_half_on_few_rows() -> None:
    random = np.random.default_rng(0)
    codes = np.arange(1300) % 2
    pictures = np.clip(random.normal(120, 30, (1300, 8, 8, 3)) + 20 * codes[:, None, None, None], 0, 255)
    ranking = zoo.rank("tiny.*", (pictures.astype(np.uint8), codes), many=True)
    assert [(row.weights, row.rows) for row in ranking][2] == ("tiny.blind", 520)
    assert ranking[0].rows == 1040
    assert not ranking[2].tied_with_best
    assert ranking[2].p_value < 0.05  # of the round in which it left
    assert any("go on" in note for note in ranking.notes)


def test_halving_loses_no_tie(published: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four names of the same numbers, and one that sees nothing, which the first of three rounds drops."""
    monkeypatch.setattr(compare, "FIRST", 60)
    for tag, factor in (("one", 1.0), ("two", 1.0), ("three", 1.0), ("four", 1.0), ("blind", 0.0)):
        published(tag, factor)
    random = np.random.default_rng(0)
    level = random.uniform(0, 1, 320)
    pictures = np.clip(random.normal(80, 30, (320, 8, 8, 3)) + 80 * level[:, None, None, None], 0, 255)
    ranking = zoo.rank("tiny.*", (pictures.astype(np.uint8), level), halving=True)
    assert [row.tied_with_best for row in ranking] == [True] * 4 + [False]
    assert [row.rows for row in ranking] == [256] * 4 + [64]
    assert [row.p_value for row in ranking[:4]] == [None, 1.0, 1.0, 1.0]
    assert ranking[4].p_value < 0.05


@pytest.mark.usefixtures("three")
def test_of_many_rows_a_sample_is_ranked_on(colours: tuple[np.ndarray, np.ndarray], monkeypatch) -> None:
    monkeypatch.setattr(compare, "MOST", 60)
    ranking = zoo.rank(["tiny.good", "tiny.blind"], colours)
    assert [row.rows for row in ranking] == [60, 60]
    assert ranking[0].score > 0.8 > ranking[1].score
    assert "60 of 96 training rows are ranked on, a seeded sample" in ranking.notes


def test_copies_are_in_one_fold(published: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    published("good", 1.0)
    seen: list[np.ndarray] = []
    judge = rank.out_of_fold
    monkeypatch.setattr(rank, "out_of_fold", lambda *given: (seen.extend(given[1:4:2]), judge(*given))[1])
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (60, 8, 8, 3)).astype(np.uint8)
    numbers = np.arange(60.0)  # by which a picture is known again
    order = random.permutation(np.arange(60).repeat(4))
    ranking = zoo.rank("tiny.good", (pictures[order], numbers[order]))
    known, fold = seen[0].ravel(), seen[1]
    assert all(len(np.unique(fold[known == number])) == 1 for number in np.unique(known))
    copies = 192 - len(np.unique(known))
    assert any(f"{copies} of 192 training rows are exact copies of others: they are" in n for n in ranking.notes)


@pytest.mark.parametrize("people", [6, 12])
def test_groups_are_what_is_counted(published: Publish, photos: Path, tmp_path: Path, people: int) -> None:
    published("good", 1.0)
    published("blind", 0.0)
    table = tmp_path / "table.csv"
    files = sorted(photos.rglob("*.png"))
    lines = [f"{file},{file.parent.name},{number % people}" for number, file in enumerate(files)]
    table.write_text("\n".join(["path,label,who", *lines]) + "\n")
    ranking = zoo.rank(["tiny.good", "tiny.blind"], table, group_by="who", folds=2)
    train = choose(open_data(table, group_by="who")).train
    groups = len(np.unique(train.groups))
    assert (few_groups(groups) in ranking.notes) == (groups < 10)
    assert [note for note in ranking.notes if "beyond chance" in note] == [compare.too_few(groups, 1)] * (people == 6)
    assert [row.tied_with_best for row in ranking] == [True, people == 6]  # so few cannot tell
    assert not [note for note in zoo.rank(["tiny.good", "tiny.blind"], table, folds=2).notes if "group" in note]


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("kind", ["multi-label", "regression"])
def test_other_targets_have_scores_too(kind: str, colours: tuple[np.ndarray, np.ndarray]) -> None:
    pictures, names = colours
    if kind == "multi-label":
        targets = np.stack([names == "red", names != "blue"], axis=1).astype(np.int64)
    else:
        targets = pictures.mean(axis=(1, 2, 3)) / 10
    ranking = zoo.rank("tiny.*", (pictures, targets))
    assert ranking.measure == {"multi-label": "f1", "regression": "r2"}[kind]
    assert ranking[0].score > ranking[-1].score
    assert ranking[0].h_score is ranking[0].leep is ranking[0].knn is None
    assert ranking[0].stderr >= 0


@pytest.mark.usefixtures("three")
def test_what_cannot_be_had_is_left_out_unless_it_was_named(colours: tuple[np.ndarray, np.ndarray], home: Path) -> None:
    zoo.catalog.ledger.add_weights(
        home / "registry.toml",
        zoo.Weights(name="tiny.far", backbone="tiny", source="hf://org/far@main/model.safetensors"),
    )
    zoo.catalog.registry.reset_default()
    ranking = zoo.rank("tiny.*", colours)
    assert len(ranking) == 3
    assert any("tiny.far is left out" in note for note in ranking.notes)
    assert any(note.startswith("to pull: tiny.far") for note in ranking.notes)
    with pytest.raises(NotFoundError, match=r"tiny\.far"):
        zoo.rank(["tiny.good", "tiny.far"], colours)


def test_refusals(published: Publish, colours: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(UsageError, match="no weights are on this disk"):
        zoo.rank((), colours)
    published("good", 1.0)
    assert [row.weights for row in zoo.rank((), colours)] == ["tiny.good"]
    with pytest.raises(NotFoundError, match="no weights match"):
        zoo.rank("nothing*", colours)
    with pytest.raises(UsageError, match="folds is 1"):
        zoo.rank("tiny.good", colours, folds=1)
    with pytest.raises(DataError):
        zoo.rank("tiny.good", (colours[0][:4], colours[1][:4]))


def test_a_broad_glob_compares_what_is_here(published: Publish, colours: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(UsageError, match="would have to be pulled"):
        zoo.rank("resnet*", colours)
    published("good", 1.0)
    ranking = zoo.rank(["resnet*", "tiny*"], colours)
    assert [row.weights for row in ranking] == ["tiny.good"]
    assert any("more match but are not on this disk" in note for note in ranking.notes)


@pytest.mark.usefixtures("three")
def test_those_that_take_other_samples_are_left_out(colours: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = [{"age": float(random.normal(30 + 20 * code)), "risk": "ab"[code]} for code in (0, 1) * 30]
    first = zoo.compose("tiny_rows", "from-scratch", weights=None, epochs=1).fit(rows, label="risk")
    first.publish("tiny_rows.people")
    ranking = zoo.rank("tiny*", colours)
    assert {row.weights for row in ranking} == {"tiny.good", "tiny.twin", "tiny.blind"}
    assert "left out, as they do not take pictures: tiny_rows.people" in ranking.notes
    assert [row.weights for row in zoo.rank("tiny*", rows, label="risk")] == ["tiny_rows.people"]
    with pytest.raises(DataError, match="holds pictures, but the backbone takes rows of a table"):
        zoo.rank("tiny_rows*", colours)

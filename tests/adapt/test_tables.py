"""Tables through the whole seam: fit, save, load, publish, guard, rank, audit, report, export."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

import zoo
from zoo.adapt.learner import Learner
from zoo.choose.raw import raw_outputs
from zoo.data.dataset import Data
from zoo.data.task import MULTI_LABEL, REGRESSION, Task
from zoo.errors import DataError, IntegrityError, NotFoundError, UsageError
from zoo.models.tensors import write_tensors

sys.path.insert(0, str(Path(__file__).parents[1]))
from tables_kit import data_of, people, split_of

PLACE = {"accelerator": "cpu", "precision": "fp32"}


def learned(strategy: str = "from-scratch", **options: object) -> Learner:
    quick = {"epochs": 4} if strategy in ("from-scratch", "scarf") else {}
    return zoo.compose("tabular_resnet", strategy, weights=None, **PLACE, **{**quick, **options})


@pytest.fixture
def fitted() -> Learner:
    return learned(epochs=20).fit(data_of(240), "test")


def test_the_network_is_built_for_the_numbers_that_rows_become(fitted: Learner) -> None:
    network = fitted.model.backbone
    assert network.in_chans == 7
    assert network.module.stem.in_features == 7
    assert fitted.evaluation.accuracy > 0.75
    assert [note for note in fitted.notes if "left out" in note and note.startswith("column")]


def test_it_is_fitted_on_what_is_learned_from_alone() -> None:
    """Neither the reported nor the inner rows, nor those of test, change a number of the reader."""
    data = data_of(90)
    strange = [{**row, "age": 1e6, "housing": "castle"} for row in people(30, seed=4)[0]]
    other = dataclasses.replace(data, splits={**data.splits, "test": split_of(strange, people(30, seed=4)[1], "test")})
    states = [learned().fit(one, "test").model.backbone.preprocessing for one in (data, other)]
    assert states[0] == states[1]
    assert states[0].extra["rows"] == 60
    learner = learned(early_stop=2).fit(data, "test")
    assert learner.record["data"]["rows"]["inner"] == 12
    assert learner.model.backbone.preprocessing.extra["rows"] == 48


def test_a_second_fit_is_fitted_anew() -> None:
    learner = learned().fit(data_of(90), "test")
    first = learner.model.backbone.preprocessing
    rows, labels = people(60, seed=2)
    narrow = split_of([{"age": row["age"], "owns": row["owns"]} for row in rows], labels)
    learner.fit(Data("narrow", narrow.task, {"train": narrow}))
    assert learner.model.backbone.in_chans == 2
    assert learner.model.backbone.preprocessing != first


def test_saved_and_loaded_it_reads_as_it_was_fitted(fitted: Learner, tmp_path: Path) -> None:
    run = fitted.save(tmp_path / "run")
    again = zoo.load(run, accelerator="cpu")
    new = split_of(people(20, seed=7)[0], name="all")
    np.testing.assert_allclose(again.predict_proba(new), fitted.predict_proba(new), atol=1e-6)
    assert again.model.backbone.preprocessing == fitted.model.backbone.preprocessing
    record = json.loads((run / "run.json").read_text())
    assert [one["name"] for one in record["preprocessing"]["extra"]["columns"]] == ["age", "savings", "housing", "owns"]
    record["preprocessing"]["extra"]["columns"][0]["scale"] = -1
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(IntegrityError, match="cannot be built"):
        zoo.load(run)


def test_new_rows_are_looked_at_before_they_are_predicted(fitted: Learner, caplog: pytest.LogCaptureFixture) -> None:
    rows = people(4, seed=8)[0]
    rows[1]["housing"] = "castle"
    fitted.predict(split_of(rows, name="all"))
    assert len(fitted.seen) == 1
    assert "1 of 4 rows have the new category 'castle'" in fitted.seen[0]
    fitted.predict(split_of(people(4, seed=8)[0], name="all"))
    assert fitted.seen == []
    del rows[2]["age"]
    with pytest.raises(DataError, match="row 4: the column 'age' is missing"):
        fitted.predict(split_of(rows, name="all"))
    assert not caplog.records  # who opened the rows reads `seen`


def test_published_it_brings_its_columns_along(tmp_path: Path) -> None:
    pretrained = learned("scarf").fit(data_of(120), "test")
    weights = pretrained.publish("tabular_resnet.people")
    assert weights.default
    data = data_of(150, seed=5)
    probe = zoo.compose("tabular_resnet", "linear-probe", **PLACE).fit(data, "test")
    network = probe.model.backbone
    assert network.preprocessing == pretrained.model.backbone.preprocessing
    assert network.in_chans == 7
    ours, theirs = network.state_dict(), pretrained.model.backbone.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if not name.startswith("classifier."))
    for strategy, options in (("knn", {}), ("fine-tune", {"epochs": 1}), ("lora", {"epochs": 1, "rank": 2})):
        found = zoo.compose("tabular_resnet.people", strategy, **PLACE, **options).fit(data, "test")
        assert found.model.backbone.preprocessing == network.preprocessing
        assert 0 <= found.evaluation.accuracy <= 1
    bare = zoo.load_backbone("tabular_resnet")
    assert bare.in_chans == 7
    assert bare.features(torch.zeros(2, 7)).shape == (2, 128)
    narrow = split_of([{"age": float(i)} for i in range(20)], ["a", "b"] * 10)
    with pytest.raises(DataError, match="the columns 'savings', 'housing', 'owns' are missing"):
        zoo.compose("tabular_resnet", "linear-probe").fit(Data("narrow", narrow.task, {"train": narrow}))
    kept = probe.save(tmp_path / "probe", embed=False)
    new = split_of(people(20, seed=7)[0], name="all")
    np.testing.assert_allclose(zoo.load(kept).predict_proba(new), probe.predict_proba(new), atol=1e-6)


@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        ("linear-probe", {"head": "mlp(4)", "epochs": 1}),
        ("bitfit", {"epochs": 1}),
        ("distillation", {"epochs": 1, "teacher": "tabular_resnet.people"}),
        ("coral", {}),
        ("adabn", {}),
        ("dann", {"epochs": 1}),
        ("scarf", {"epochs": 1}),
    ],
)
def test_every_strategy_takes_tables(strategy: str, options: dict[str, object]) -> None:
    learned(epochs=1).fit(data_of(60), "test").publish("tabular_resnet.people")
    learner = zoo.compose("tabular_resnet.people", strategy, **PLACE, **options)
    elsewhere = data_of(40, seed=3, labelled=False)
    target = {"target": elsewhere} if learner.needs & {"target", "unlabelled"} else {}
    learner.fit(data_of(60, seed=2), "test", **target)
    assert np.isfinite(learner.predict_proba(elsewhere.splits["test"])).all()


def test_a_module_of_your_own() -> None:
    """It is given what the reader makes; a width that it was not made for is named."""
    plain = zoo.Preprocessing(kind="table", input_size=(7,))
    for width in (7, 8):
        module = torch.nn.Sequential(torch.nn.Linear(width, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
        learner = zoo.compose(module, "fine-tune", preprocessing=plain, epochs=1, **PLACE)
        if width == 7:
            assert learner.fit(data_of(60), "test").model.backbone.preprocessing.extra["rows"] == 40
            continue
        with pytest.raises(DataError, match="does not fit the network"):
            learner.fit(data_of(60), "test")


def test_random_weights_are_never_silent() -> None:
    with pytest.raises(NotFoundError):
        zoo.compose("tabular_resnet", "linear-probe")
    found = zoo.compose("tabular_resnet", "linear-probe", weights=None, **PLACE).fit(data_of(90), "test")
    assert found.source.weights is None


def test_weights_that_do_not_say_their_columns(tmp_path: Path) -> None:
    """A file alone: rows standardised anew would be other numbers than those it learned from."""
    network = zoo.load_backbone("tabular_resnet", weights=None, in_chans=7, num_classes=2)
    write_tensors(tmp_path / "bare.safetensors", network.state_dict())
    learner = zoo.compose("tabular_resnet", "linear-probe", weights=tmp_path / "bare.safetensors", in_chans=7, **PLACE)
    with pytest.raises(UsageError, match="does not say what rows it learned from"):
        learner.fit(data_of(90), "test")


def test_the_raw_baseline_is_boosted_trees(fitted: Learner) -> None:
    """scikit-learn's on a frame of the same columns, categories as codes."""
    data = data_of(240)
    train, test = data.splits["train"], data.splits["test"]
    network = fitted.model.backbone

    def matrix(split: object) -> np.ndarray:
        rows = [split.raw(i) for i in range(len(split))]  # type: ignore[attr-defined, arg-type]
        codes = {"free": 0, "own": 1, "rent": 2}
        return np.array([[r["age"], np.nan if r["savings"] is None else r["savings"], codes[r["housing"]], r["owns"]]
                         for r in rows], dtype=float)  # fmt: skip

    options = {"categorical_features": [2], "random_state": 0, "min_samples_leaf": len(train) // 20}
    trees = HistGradientBoostingClassifier(**options).fit(matrix(train), train.targets)
    found = raw_outputs(network, train, test, train.task)
    np.testing.assert_allclose(found.exp().numpy(), trees.predict_proba(matrix(test)), atol=1e-9)
    numbers = np.stack([train.targets * 2.0, np.arange(len(train)) * 1.0], axis=1).astype("f4")
    task = Task(REGRESSION, ("a", "b"))
    found = raw_outputs(network, dataclasses.replace(train, targets=numbers, task=task), test, task)
    for column in range(2):
        expected = HistGradientBoostingRegressor(**options).fit(matrix(train), numbers[:, column])
        np.testing.assert_allclose(found[:, column].numpy(), expected.predict(matrix(test)), atol=1e-9)
    labels = np.stack([train.targets, np.ones(len(train))], axis=1).astype("f4")
    task = Task(MULTI_LABEL, ("a", "b"))
    found = raw_outputs(network, dataclasses.replace(train, targets=labels, task=task), test, task)
    assert ((found[:, 0] > 0).numpy() == trees.predict(matrix(test))).all()
    assert (found[:, 1] > 0).all()


def test_of_few_rows_trees_learn_too(fitted: Learner) -> None:
    rows = [{"a": float(i % 10), "b": "xy"[i % 2]} for i in range(60)]
    whole = split_of(rows, ["low" if row["a"] < 5 else "high" for row in rows])
    found = raw_outputs(fitted.model.backbone, whole.subset(range(24)), whole.subset(range(24, 60)), whole.task)
    assert (found.argmax(dim=1).numpy() == whole.targets[24:]).all()


def test_the_guard_says_where_trees_are_better() -> None:
    """Which of eight intervals a number lies in: trees find that at once, a probe on an untrained network does not."""
    x = np.random.default_rng(0).uniform(0, 8, 900)
    rows = [{"x": float(one), "noise": float(np.sin(997 * one))} for one in x]
    whole = split_of(rows, [f"{int(one) % 2}" for one in x])
    parts = {"train": whole.subset(range(600)), "test": whole.subset(range(600, 900)).renamed("test")}
    data = Data("intervals", whole.task, parts, divided=True)
    learner = learned("linear-probe").fit(data, "test")
    found = learner.evaluate(data, guard=True, train=data).guard
    assert found["against"] == "raw"
    assert found["verdict"] == "negative-transfer"
    assert "boosted trees" in found["advice"]


def test_rank_audit_report_and_export(fitted: Learner, tmp_path: Path) -> None:
    fitted.publish("tabular_resnet.ranked", default=False)
    data = data_of(240)
    ranking = zoo.rank(["tabular_resnet.ranked"], data)
    assert ranking[0].score > 0.7
    rows = data.splits["train"].samples.rows
    twice = [*rows, rows[0]]
    labels = ["good" if i % 2 else "bad" for i in range(len(twice))]
    whole = split_of(twice, labels)
    for backbone in (None, "tabular_resnet.ranked"):
        found = zoo.audit(Data("twice", whole.task, {"train": whole}), backbone)
        assert [(one["index"], one["same_as"]["index"]) for one in found.duplicates] == [(240, 0)]
    page = fitted.report(tmp_path / "page.html", data)
    text = page.read_text(encoding="utf-8")
    assert "credit.csv, row" in text
    assert "There are no pictures here" in text
    for ending in ("onnx", "pt2"):
        made = fitted.export(tmp_path / f"net.{ending}")
        assert made.parity < 1e-5
        facts = json.loads(made.sidecar.read_text())
        assert facts["input"] == [7]
        assert [one["name"] for one in facts["preprocessing"]["extra"]["columns"]][:2] == ["age", "savings"]


def test_pictures_do_not_go_into_it_nor_rows_into_others(fitted: Learner) -> None:
    with pytest.raises(DataError, match="holds pictures, but the backbone takes rows of a table"):
        learned().fit((np.zeros((8, 4, 4, 3), "u1"), [0, 1] * 4))
    with pytest.raises((DataError, UsageError)):
        fitted.predict(np.zeros((2, 4, 4, 3), "u1"))


def test_numbers_without_names() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(120, 6)).astype("f4")
    y = (x[:, 0] + x[:, 1] > 0).astype(int)
    learner = learned(epochs=20).fit((x, y))
    assert learner.model.backbone.in_chans == 6
    assert learner.evaluation.accuracy > 0.7
    assert learner.predict(x[:3]).shape == (3,)

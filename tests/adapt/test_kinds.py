"""Every kind goes the whole way: fit, guard, rank, audit, report, save, load, predict, export, publish, command line.

One tiny backbone a kind, one CSV a kind; nothing but `KINDS` knows which is which.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import zoo
from zoo.adapt.features import FeatureStore
from zoo.catalog.registry import Registry
from zoo.choose.audit import audit
from zoo.choose.rank import rank
from zoo.cli.app import run
from zoo.data.open import open_data
from zoo.data.sound import Sound
from zoo.errors import DataError
from zoo.settings import Settings
from zoo.testing import tiny

#: Rows of each class to learn from, and to judge by.
TRAIN, TEST = 24, 12
CLASSES = ("dull", "fine")


def pictures(folder: Path, code: int, random: np.random.Generator) -> dict[str, Any]:
    pixels = np.clip(random.normal((90, 60, 160) if code else (160, 60, 90), 40, (10, 10, 3)), 0, 255)
    path = folder / f"{random.integers(1 << 60):x}.png"
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return {"path": path.name}


def recordings(folder: Path, code: int, random: np.random.Generator) -> dict[str, Any]:
    import soundfile

    time = np.arange(2000) / 8000
    sound = np.sin(2 * np.pi * (900 if code else 250) * time + 6 * random.random()) + random.normal(0, 0.2, len(time))
    path = folder / f"{random.integers(1 << 60):x}.wav"
    soundfile.write(path, 0.3 * sound, 8000)
    return {"path": path.name}


def rows_of_a_table(folder: Path, code: int, random: np.random.Generator) -> dict[str, Any]:
    return {
        "age": int(random.normal(30 + 15 * code, 5)),
        "income": "" if random.random() < 0.1 else round(random.normal(2 + code, 0.7), 5),
        "years": round(random.exponential(4), 5),
        "job": random.choice(["cook", "clerk", "nurse"], p=[0.1, 0.2, 0.7] if code else [0.7, 0.2, 0.1]),
    }


def texts(folder: Path, code: int, random: np.random.Generator) -> dict[str, Any]:
    words = ["zzz", "fizz", "jazz"] if code else ["moo", "loom", "wool"]
    return {"text": " ".join([*random.choice(words, 3), f"{random.integers(1 << 60):x}"])}


@dataclass(frozen=True)
class Kind:
    """What the tests have to know of a kind.

    Attributes:
        backbone: a tiny one.
        cells: (folder, class, generator) -> the cells of one row, beside label and split; files are written.
        least: accuracy that a probe of the tiny backbone reaches.
    """

    backbone: str
    cells: Callable[[Path, int, np.random.Generator], dict[str, Any]]
    least: float = 0.75


KINDS = {
    "image": Kind("tiny", pictures),
    "audio": Kind("tiny_sound", recordings),
    "text": Kind("tiny_text", texts),
    "table": Kind("tiny_rows", rows_of_a_table),
}


@dataclass(frozen=True)
class Made:
    """One kind, its data, weights of its backbone, and a probe of these on the data."""

    kind: Kind
    home: Path
    file: Path
    registry: Registry
    store: FeatureStore
    learner: zoo.Learner

    @property
    def weights(self) -> str:
        return f"{self.kind.backbone}.kit"


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


def data(folder: Path, kind: Kind, seed: int, **counts: int) -> list[dict[str, Any]]:
    """So many rows of each class for each split, classes in turn."""
    random = np.random.default_rng(seed)
    return [
        {**kind.cells(folder, code, random), "verdict": CLASSES[code], "split": split}
        for split, count in counts.items()
        for _ in range(count)
        for code in (0, 1)
    ]


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """48 rows to learn from and 24 to judge by; the second once more at the end of train, and at the end of test."""
    kind = KINDS[request.param]
    if request.param == "audio":
        pytest.importorskip("soundfile")
    folder = tmp_path_factory.mktemp(request.param)
    rows = data(folder, kind, 0, train=TRAIN, test=TEST)
    file = write(folder / "data.csv", [*rows, rows[1], {**rows[1], "split": "test"}])
    other = write(folder / "other.csv", data(folder, kind, 1, train=TRAIN, test=TEST))
    home = Settings(home=folder / "home", offline=True, registry=None, plugins_dir=None, plugins=None, disabled=())
    registry = Registry({"tiny": tiny}, settings=home, entry_points=False)
    store = FeatureStore(home)
    known = {"accelerator": "cpu", "precision": "fp32", "registry": registry, "store": store}
    first = zoo.compose(kind.backbone, "from-scratch", weights=None, epochs=3, batch_size=8, lr=0.01, **known)
    first.fit(other, label="verdict", val="test").publish(f"{kind.backbone}.kit")
    learner = zoo.compose(f"{kind.backbone}.kit", "linear-probe", **known).fit(file, label="verdict", val="test")
    return Made(kind, home.home, file, registry, store, learner)


def test_it_learns_and_the_guard_says_from_what(made: Made) -> None:
    found = made.learner.evaluate(made.file, guard=True)
    assert found.accuracy > made.kind.least
    assert found.n == 2 * TEST + 1
    names = {one["name"] for one in found.guard["baselines"]}
    assert {"majority", "raw", "random-weights"} <= names
    assert found.guard["verdict"] in ("helps", "no-evidence", "negative-transfer")


def test_a_saved_run_predicts_alike_from_files_and_objects(made: Made, tmp_path: Path) -> None:
    again = zoo.load(made.learner.save(tmp_path / "run"), accelerator="cpu", registry=made.registry)
    assert again.kind == made.learner.kind
    assert again.call["label"] == "verdict"
    said = made.learner.predict_proba(made.file)
    assert np.allclose(again.predict_proba(made.file), said, atol=1e-6)
    split = open_data(made.file, label="verdict").splits["test"]
    objects = [split.raw(row) for row in range(len(split))]
    assert np.allclose(again.predict_proba(objects), said, atol=1e-5)
    assert set(again.predict(made.file)) <= set(CLASSES)
    assert again.evaluate(made.file).accuracy == made.learner.evaluate(made.file).accuracy


def test_training_goes_through_the_same_reader(made: Made) -> None:
    learner = zoo.compose(
        made.kind.backbone, "fine-tune", accelerator="cpu", precision="fp32", registry=made.registry,
        store=made.store, epochs=1, batch_size=16,
    ).fit(made.file, label="verdict", val="test")  # fmt: skip
    assert learner.evaluation.n == 2 * TEST + 1
    assert np.isfinite(learner.history[-1]["loss"])


def test_rank(made: Made) -> None:
    ranking = rank(
        [made.weights], made.file, label="verdict", folds=3, accelerator="cpu", registry=made.registry, store=made.store
    )
    (row,) = ranking.as_json()
    assert row["weights"] == made.weights
    assert row["score"] > made.kind.least


def test_audit_names_file_and_row(made: Made) -> None:
    found = audit(made.file, made.weights, label="verdict", accelerator="cpu", registry=made.registry, store=made.store)
    assert found.classes == {"dull": {"train": TRAIN, "test": TEST}, "fine": {"train": TRAIN + 1, "test": TEST + 1}}
    in_train, in_test = found.duplicates
    where = open_data(made.file, label="verdict").train.samples.named
    assert (in_train["path"], in_train["same_as"]["path"]) == (where(72), where(1))
    assert in_test["path"] == where(73)
    leaks = [one for one in found.leakage if one["kind"] == "exact"]
    assert [(one["path"], one["split"], one["same_as"]["split"]) for one in leaks] == [(where(73), "test", "train")]


def test_report(made: Made, tmp_path: Path) -> None:
    page = made.learner.report(tmp_path / "r.html", map="pca", explain=1)
    text = page.read_text(encoding="utf-8")
    assert "fine" in text
    assert f"{made.learner.evaluation.accuracy:.3f}" in text


def test_export(made: Made, tmp_path: Path) -> None:
    done = made.learner.export(tmp_path / "m.pt2")
    assert done.parity < 1e-4
    facts = json.loads(done.sidecar.read_text())
    assert facts["preprocessing"]["kind"] == made.learner.kind


def test_data_of_another_kind_is_refused_before_anything_is_read(made: Made, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    rows = [{"n": i, "m": i * i, "verdict": CLASSES[i % 2]} for i in range(8)]
    if made.learner.kind == "table":
        rows = [{"text": f"text {i}", "verdict": CLASSES[i % 2]} for i in range(8)]
    write(other, rows)
    refused = r"holds (rows of a table|texts), but the backbone takes|row 1: no column text"
    learner = zoo.compose(made.kind.backbone, "linear-probe", accelerator="cpu", registry=made.registry)
    with pytest.raises(DataError, match=refused):
        learner.fit(other, label="verdict")
    with pytest.raises(DataError, match=refused):
        made.learner.predict(other)
    with pytest.raises(DataError, match=refused):
        rank([made.weights], other, label="verdict", registry=made.registry, store=made.store)


def test_the_command_line(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The target's column is named once: the run remembers it."""
    (tmp_path / "plugins").mkdir(mode=0o755)
    (tmp_path / "plugins" / "tiny.py").write_text("from zoo.testing.tiny import zoo_backbones\n")
    monkeypatch.setenv("ZOO_PLUGINS_DIR", str(tmp_path / "plugins"))
    monkeypatch.setenv("ZOO_HOME", str(made.home))
    monkeypatch.chdir(tmp_path)
    fit = ["fit", str(made.file), "-b", made.weights, "-s", "linear-probe", "-o", "run"]
    assert run([*fit, "--device", "cpu", "--val", "test", "--label", "verdict"]) == 0
    assert run(["fit", "--resume", "-o", "run", "--label", "split"]) == 2
    assert "--label: verdict there, split now" in capsys.readouterr().err
    assert run(["evaluate", "run", str(made.file), "--device", "cpu", "--json"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out[out.index("{") :])["accuracy"] > made.kind.least
    assert run(["predict", "run", str(made.file), "--device", "cpu", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 2 * TEST + 1
    split = open_data(made.file, label="verdict").splits["test"]
    assert [row["path"] for row in rows] == [split.named(i) for i in range(len(split))]
    assert run(["audit", str(made.file), "--label", "verdict", "--device", "cpu", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["duplicates"]) == 2


def test_samples_as_people_have_them(made: Made, tmp_path: Path) -> None:
    """In Python as strings, dicts, frames, paths; in files of any form."""
    learner = made.learner
    if learner.kind == "text":
        given: list[Any] = ["loom wool", ["zzz jazz", "moo"], ("zzz jazz", "moo")]
        sizes = [1, 2, 2]
        (tmp_path / "one.txt").write_text("fizz")
        files = [tmp_path / "one.txt", write(tmp_path / "new.csv", [{"text": "zzz"}, {"text": "moo, moo"}])]
    elif learner.kind == "table":
        pandas = pytest.importorskip("pandas")
        rows = [{"age": 30, "income": None, "years": 2.5, "job": job} for job in ("cook", "nurse")]
        given = [rows[0], rows, pandas.DataFrame(rows), tuple(rows)]
        sizes = [1, 2, 2, 2]
        files = [write(tmp_path / "new.csv", rows), tmp_path / "new.jsonl"]
        files[1].write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert np.allclose(learner.predict_proba(files[0]), learner.predict_proba(rows))
    else:
        files = list(open_data(made.file, label="verdict").train.paths[:2])
        given = [files, [str(file) for file in files]]
        sizes = [2, 2]
    assert [len(learner.predict(one)) for one in given] == sizes
    tables = (".csv", ".jsonl")
    assert [len(learner.predict(file)) for file in files] == [2 if file.suffix in tables else 1 for file in files]
    assert [len(learner.predict(str(file))) for file in files] == [len(learner.predict(file)) for file in files]


def test_what_was_learned_from_in_memory_is_no_part_of_the_record(made: Made, tmp_path: Path) -> None:
    split = open_data(made.file, label="verdict").train
    samples = [split.raw(row) for row in range(len(split))]
    learner = zoo.compose(made.weights, "knn", accelerator="cpu", registry=made.registry, store=made.store)
    learner.fit((samples, [CLASSES[code] for code in split.targets]))
    assert learner.call["data"] == {"object": "tuple"}
    record = (learner.save(tmp_path / "run") / "run.json").read_text()
    assert not any(str(sample) in record for sample in samples)


def test_recordings_as_objects_are_recordings() -> None:
    sounds = [Sound(np.zeros(8, np.float32), 8000)] * 2
    assert open_data((sounds, [0, 1]), kind="audio").train.samples.kind == "audio"

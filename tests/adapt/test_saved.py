"""Runs on disk: where they were made, elsewhere, damaged, and where they cannot be."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import zoo
from zoo.adapt.heads import build_head, check_head, head_kind
from zoo.adapt.saved import check_place
from zoo.adapt.strategy import ClosedForm
from zoo.catalog.registry import reset_default
from zoo.errors import DiskError, IntegrityError, NotFoundError, UsageError
from zoo.report.card import model_card

pytestmark = pytest.mark.usefixtures("tiny_plugin")

Data = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def pictures() -> Data:
    """(30, 8, 8, 3) uint8 of three classes, told apart by colour."""
    random = np.random.default_rng(1)
    y = np.arange(30) % 3
    x = np.eye(3)[y][:, None, None, :] * 120 + random.integers(0, 130, (30, 8, 8, 3))
    return x.astype(np.uint8), y


@pytest.fixture
def run(pictures: Data, tmp_path: Path) -> Path:
    """A saved linear probe on random weights."""
    return zoo.compose("tiny", "linear-probe", weights=None, precision="fp32").fit(pictures).save(tmp_path / "run")


@pytest.fixture
def tuned(pictures: Data, tmp_path: Path) -> Path:
    """A saved fine-tuning of published weights."""
    base = zoo.compose("tiny", "from-scratch", weights=None, precision="fp32", epochs=1).fit(pictures)
    base.publish("tiny.base", license="mit")
    learner = zoo.compose("tiny", "fine-tune", precision="fp32", epochs=1).fit(pictures)
    return learner.save(tmp_path / "tuned")


def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go on in a home that knows no weights."""
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "elsewhere"))
    reset_default()


def record_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text())


def change(run: Path, key: str, value: Any) -> None:
    """Set a dotted key of run.json; `...` removes it."""
    record = record_of(run)
    *parents, last = key.split(".")
    holder = record
    for parent in parents:
        holder = holder[parent]
    if value is ...:
        del holder[last]
    else:
        holder[last] = value
    (run / "run.json").write_text(json.dumps(record))


class TestSourceWeights:
    def test_a_second_save_knows_them_still(self, tuned: Path, tmp_path: Path, monkeypatch) -> None:
        elsewhere(tmp_path, monkeypatch)
        again = zoo.load(tuned).save(tmp_path / "again")
        before, after = record_of(tuned), record_of(again)
        assert after["composition"]["weights"] == before["composition"]["weights"]
        assert after["composition"]["weights"]["license"] == "mit"
        assert len(after["composition"]["weights"]["sha256"]) == 64
        assert "random" not in (again / "README.md").read_text()

    def test_nothing_is_learned_from_random_ones(self, tuned: Path, pictures, tmp_path: Path, monkeypatch) -> None:
        elsewhere(tmp_path, monkeypatch)
        learner = zoo.load(tuned)
        assert learner.predict(pictures[0]).shape == (30,)
        with pytest.raises(NotFoundError, match=r"tiny\.base"):
            learner.fit(pictures)

    def test_published_elsewhere_with_their_licence(self, tuned: Path, tmp_path: Path, monkeypatch) -> None:
        elsewhere(tmp_path, monkeypatch)
        assert zoo.load(tuned).publish("tiny.next").license == "mit"

    def test_learning_goes_on_where_they_are(self, tuned: Path, pictures) -> None:
        first = zoo.load(tuned)
        expected = first.predict_proba(pictures[0])
        np.testing.assert_array_equal(first.fit(pictures).predict_proba(pictures[0]), expected)

    def test_bytes_in_the_store_are_enough(self, tuned: Path, pictures, home: Path) -> None:
        (home / "registry.toml").unlink()
        reset_default()
        assert zoo.load(tuned).fit(pictures).evaluation.n == 6

    def test_a_name_with_other_bytes_is_not_taken(self, tuned: Path, pictures, tmp_path: Path, monkeypatch) -> None:
        elsewhere(tmp_path, monkeypatch)
        other = zoo.compose("tiny", "from-scratch", weights=None, precision="fp32", epochs=1, seed=9).fit(pictures)
        other.publish("tiny.base")
        with pytest.raises(NotFoundError, match=r"tiny\.base"):
            zoo.load(tuned).fit(pictures)

    def test_deltas_of_a_loaded_run(self, tuned: Path, pictures, tmp_path: Path, monkeypatch) -> None:
        learner = zoo.load(tuned)
        small = learner.save(tmp_path / "small", embed=False)
        np.testing.assert_array_equal(zoo.load(small).predict_proba(pictures[0]), learner.predict_proba(pictures[0]))
        elsewhere(tmp_path, monkeypatch)
        with pytest.raises(NotFoundError, match=r"tiny\.base"):
            zoo.load(small)
        with pytest.raises(UsageError, match="a registry has"):
            zoo.load(tuned).save(tmp_path / "none", embed=False)
        assert not (tmp_path / "none").exists()

    def test_deltas_from_a_file_of_no_name(self, tuned: Path, pictures, tmp_path: Path, home: Path) -> None:
        (blob,) = (home / "blobs").rglob("*.safetensors")
        file = tmp_path / "mine.safetensors"
        file.write_bytes(blob.read_bytes())
        learner = zoo.compose("tiny", "linear-probe", weights=file, precision="fp32").fit(pictures)
        with pytest.raises(UsageError, match="a registry has"):
            learner.save(tmp_path / "small", embed=False)


DAMAGE = {
    "composition.strategy": ...,
    "metrics": {},
    "metrics.interval": ["a", "b"],
    "metrics.per_class": {"a": 3},
    "composition": [],
    "task.classes": 5,
    "task.kind": "words",
    "composition.strategy.options": None,
    "notes": None,
    "composition.num_features": "a",
    "preprocessing.unknown": 1,
    "preprocessing.input_size": [3, 1_000_000, 1_000_000],
    "precision": "fp64",
    "seed": "a",
    "state": "running",
    "composition.backbone.num_classes": 10**13,
    "composition.backbone.tap": "nowhere",
    "composition.backbone.name": "a b",
    "composition.backbone.options": {"width": 3},
    "composition.strategy.options.regularizer": [1],
    "composition.embedded": 1,
    "schema": [],
    "data": [],
    "seconds": None,
}


class TestDamage:
    @pytest.mark.parametrize("size", [[3, 16_384, 16_384], [1, 2**24 + 1, 1], [2**18, 33, 32], [3, 0, 8], [3, -8, -8]])
    def test_a_picture_that_would_fill_the_memory(self, run: Path, size: list[int]) -> None:
        change(run, "preprocessing.input_size", size)
        with pytest.raises(IntegrityError, match="input_size"):
            zoo.load(run)

    @pytest.mark.parametrize("key", list(DAMAGE))
    def test_a_key(self, run: Path, key: str) -> None:
        change(run, key, DAMAGE[key])
        with pytest.raises(IntegrityError):
            zoo.load(run)

    def test_a_fit_under_way_is_said(self, run: Path) -> None:
        change(run, "state", "running")
        with pytest.raises(IntegrityError, match="not finished"):
            zoo.load(run)

    @pytest.mark.parametrize("key", ["num_features", "strategy.options.head"])
    def test_nothing_is_allocated_for_a_head_that_the_file_lacks(self, tuned: Path, key: str) -> None:
        change(tuned, f"composition.{key}", 10**7 if key == "num_features" else "mlp(1000000)")
        with pytest.raises(IntegrityError, match="does not fit"):
            zoo.load(tuned)
        change(tuned, f"composition.{key}", 10**12 if key == "num_features" else "mlp(99999999999)")
        with pytest.raises(IntegrityError):
            zoo.load(tuned)

    @pytest.mark.parametrize("text", [None, "{", "[]", "3\n", '{"loss": NaN}', b"\xff"])
    def test_history(self, run: Path, text: str | bytes | None) -> None:
        path = run / "history.jsonl"
        if text is None:
            path.unlink()
        else:
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(IntegrityError, match=r"history\.jsonl"):
            zoo.load(run)

    @pytest.mark.parametrize("text", ["[]", "3", "null", "[" * 100_000, '"a"', "{}"])
    def test_a_record_of_another_kind(self, run: Path, text: str) -> None:
        (run / "run.json").write_text(text)
        with pytest.raises(IntegrityError):
            zoo.load(run)

    @pytest.mark.parametrize("value", [None, 5, "a", [], {}, -1, 1e300, [None], {"a": None}])
    def test_any_value_in_any_place(self, tuned: Path, value: object) -> None:
        text = (tuned / "run.json").read_text()

        def places(part: object, path: str = "") -> list[str]:
            if not isinstance(part, dict):
                return [path]
            return [path] * bool(path) + [
                inner for key, item in part.items() for inner in places(item, f"{path}.{key}".strip("."))
            ]

        for key in places(json.loads(text)):
            change(tuned, key, value)
            with contextlib.suppress(IntegrityError, NotFoundError):
                zoo.load(tuned)
            (tuned / "run.json").write_text(text)

    def test_tensors_of_another_type(self, run: Path) -> None:
        from zoo.models.tensors import read_tensors, write_tensors

        tensors = read_tensors(run / "model.safetensors")
        write_tensors(run / "model.safetensors", {**tensors, "head.bias": tensors["head.bias"].long()})
        with pytest.raises(IntegrityError, match="int64"):
            zoo.load(run)

    @pytest.mark.parametrize(("name", "rows"), [("conv.weight", 7), ("conv.weight", 10**5), ("nowhere", 8)])
    def test_changes_of_no_tensor(self, run: Path, name: str, rows: int) -> None:
        """Of a run that holds every tensor, and so does not need them yet."""
        from zoo.models.tensors import read_tensors, write_tensors

        tensors = read_tensors(run / "model.safetensors")
        pair = {f"low_rank.{name}.up": torch.zeros(1, rows, 1), f"low_rank.{name}.down": torch.zeros(1, 1, 27 * rows)}
        write_tensors(run / "model.safetensors", {**tensors, **pair})
        with pytest.raises(IntegrityError, match="is damaged"):
            zoo.load(run)

    def test_no_tensors(self, run: Path) -> None:
        (run / "model.safetensors").unlink()
        with pytest.raises(zoo.ZooError):
            zoo.load(run)


class Reversed(nn.Module):
    """A classifier that is not the last linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.answer, self.side = nn.Linear(6, 8), nn.Linear(8, 2), nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.side(self.answer(self.body(x).relu()))


def test_the_head_of_an_own_module(tmp_path: Path) -> None:
    x, y = torch.randn(40, 6), np.arange(40) % 2
    module = Reversed()
    learner = zoo.compose(module, "fine-tune", backbone_head="answer", precision="fp32", epochs=1).fit((x, y))
    again = zoo.load(learner.save(tmp_path / "run"), backbone=Reversed())
    assert again.model.backbone.head_names == ("answer",)
    np.testing.assert_allclose(again.predict_proba(x), learner.predict_proba(x), rtol=1e-6)


@dataclasses.dataclass(frozen=True)
class Own(ClosedForm):
    """A strategy that no registry has."""

    twisted: bool = False

    def solve(self, features, targets, context):
        head = nn.Linear(features.shape[1], context.task.outputs)
        return nn.Sequential(head, nn.Tanh()) if self.twisted else head


class TestStrategies:
    def test_an_object_of_a_registered_class(self, pictures, tmp_path: Path) -> None:
        spec = zoo.compose("tiny", "linear-probe", weights=None)
        learner = zoo.compose("tiny", type(spec.strategy)(), weights=None, precision="fp32").fit(pictures)
        run = learner.save(tmp_path / "run")
        facts = record_of(run)["composition"]["strategy"]
        assert facts["name"] == "linear-probe"
        assert facts["plugin"] == spec.spec.plugin
        again = zoo.load(run)
        np.testing.assert_array_equal(again.predict_proba(pictures[0]), learner.predict_proba(pictures[0]))
        assert again.fit(pictures).evaluation.n == 6

    def test_an_object_of_ones_own_predicts_and_is_saved_again(self, pictures, tmp_path: Path) -> None:
        learner = zoo.compose("tiny", Own(), weights=None, precision="fp32").fit(pictures)
        again = zoo.load(learner.save(tmp_path / "run"))
        np.testing.assert_array_equal(again.predict_proba(pictures[0]), learner.predict_proba(pictures[0]))
        assert again.evaluate(pictures).n == 30
        with pytest.raises(NotFoundError, match="Own"):
            again.fit(pictures)
        twice = record_of(again.save(tmp_path / "twice"))
        assert twice["composition"] == record_of(tmp_path / "run")["composition"]

    def test_a_head_of_ones_own_does_not_load(self, pictures, tmp_path: Path) -> None:
        run = zoo.compose("tiny", Own(twisted=True), weights=None).fit(pictures).save(tmp_path / "run")
        with pytest.raises(NotFoundError, match="Own"):
            zoo.load(run)

    @pytest.mark.parametrize("standard", [True, False])
    def test_a_plugin_that_is_not_installed(self, run: Path, pictures, standard: bool) -> None:
        facts = {**record_of(run)["composition"]["strategy"], "plugin": "far", "plugin_version": "2.5", "name": "away"}
        change(run, "composition.strategy", facts)
        if standard:
            learner = zoo.load(run)
            assert learner.strategy_name == "away"
            with pytest.raises(NotFoundError, match=r"plugin far 2\.5"):
                learner.fit(pictures)
        else:
            change(run, "composition.head", None)
            with pytest.raises(NotFoundError, match=r"plugin far 2\.5") as caught:
                zoo.load(run)
            assert "--plugins-dir" in caught.value.hint

    @pytest.mark.parametrize("kind", ["linear", "mlp(5)"])
    def test_standard_heads_are_known(self, kind: str) -> None:
        assert head_kind(build_head(kind, 4, 3)) == kind

    def test_other_heads_are_not(self) -> None:
        assert head_kind(nn.Linear(3, 2, bias=False)) is None
        assert head_kind(nn.Sequential(nn.Linear(3, 2))) is None

    @pytest.mark.parametrize("units", ["1000001", "999999999999", "9" * 5000, "0"])
    def test_too_many_hidden_units(self, units: str) -> None:
        with pytest.raises(UsageError, match="no head"):
            check_head(f"mlp({units})")


class TestCard:
    def test_names_are_no_markup(self, run: Path) -> None:
        record = record_of(run)
        record["data"]["name"] = "x|y\n# <b>bold</b> `z`"
        record["notes"] = ["<script>\n---"]
        record["composition"]["weights"] = {
            "name": "tiny.a", "sha256": "0" * 64, "source": None, "trained_on": "a|b\nc", "license": "mit\nevil: [x"
        }  # fmt: skip
        lines = model_card(record).splitlines()
        assert 'license_name: "mit\\nevil: [x"' in lines
        assert not any(line.startswith(("evil", "# <b>")) for line in lines)
        body = lines[lines.index("---", 1) :]  # before it stands YAML, quoted
        assert not any("<b>" in line or "<script>" in line for line in body)
        assert "| trained on | a\\|b c |" in lines
        assert any(line.startswith("| data | x\\|y # &lt;b>") for line in lines)


class TestPlace:
    def test_nothing_is_left(self, tmp_path: Path) -> None:
        check_place(tmp_path / "runs" / "deep" / "run")
        assert list(tmp_path.iterdir()) == [tmp_path / "plugins"]

    @pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: path.symlink_to("nowhere")])
    def test_a_taken_place(self, tmp_path: Path, make: Callable[[Path], object]) -> None:
        make(tmp_path / "run")
        with pytest.raises(UsageError, match="exists"):
            check_place(tmp_path / "run")

    def test_places_that_cannot_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        for place in (tmp_path / "file" / "run", tmp_path / ("x" * 300), tmp_path / "a\0b"):
            with pytest.raises(UsageError):
                check_place(place)
        check_place(tmp_path / ("x" * 255))

    def test_a_folder_of_somebody_else(self, tmp_path: Path, monkeypatch) -> None:
        def refuse(**_: object) -> str:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("tempfile.mkdtemp", refuse)
        with pytest.raises(DiskError, match="Permission denied"):
            check_place(tmp_path / "run")

    def test_a_disk_that_is_full(self, pictures, tmp_path: Path, monkeypatch) -> None:
        learner = zoo.compose("tiny", "linear-probe", weights=None).fit(pictures)

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("zoo.adapt.saved.write_tensors", full)
        with pytest.raises(DiskError, match="No space"):
            learner.save(tmp_path / "run")
        assert list(tmp_path.iterdir()) == [tmp_path / "plugins"]

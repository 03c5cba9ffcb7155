"""Fit, evaluate, predict, save, load and publish, on tiny backbones."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import zoo
from zoo.adapt.features import FeatureStore, state_hash
from zoo.adapt.strategy import ClosedForm, Context
from zoo.catalog.spec import Preprocessing
from zoo.errors import DataError, IntegrityError, NotFoundError, UsageError
from zoo.testing.networks import Tiny, TinyPair

STRATEGIES = ("linear-probe", "fine-tune", "from-scratch")
QUICK = {"linear-probe": {}, "fine-tune": {"epochs": 1}, "from-scratch": {"epochs": 1}, "distillation": {"epochs": 1}}


@pytest.fixture
def pictures() -> tuple[np.ndarray, np.ndarray]:
    """(60, 8, 8, 3) uint8 of three classes, told apart by colour."""
    random = np.random.default_rng(1)
    y = np.arange(60) % 3
    x = np.eye(3)[y][:, None, None, :] * 120 + random.integers(0, 130, (60, 8, 8, 3))
    return x.astype(np.uint8), y


def compose(strategy: str, **more: object) -> zoo.Learner:
    return zoo.compose("tiny", strategy, weights=None, precision="fp32", **{**QUICK[strategy], **more})


@pytest.mark.usefixtures("tiny_plugin")
class TestEveryStrategy:
    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_round_trip(self, strategy: str, pictures, tmp_path: Path) -> None:
        x, y = pictures
        learner = compose(strategy).fit((x, y))
        assert learner.evaluation.split == "val"
        assert learner.evaluation.n == 12
        saved = learner.save(tmp_path / "run")
        again = zoo.load(saved)
        np.testing.assert_array_equal(again.predict_proba(x), learner.predict_proba(x))
        assert again.predict(x).tolist() == learner.predict(x).tolist()
        assert again.evaluation.accuracy == learner.evaluation.accuracy
        assert again.classes == ("0", "1", "2")
        assert sorted(path.name for path in saved.iterdir()) == [
            "README.md",
            "history.jsonl",
            "learned.bin",
            "model.safetensors",
            "run.json",
        ]
        assert str(tmp_path) not in (saved / "model.safetensors").read_bytes().decode("latin1")

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_the_same_seed_gives_the_same_model(self, strategy: str, pictures) -> None:
        first, second = (compose(strategy, seed=3).fit(pictures) for _ in range(2))
        for name, tensor in first.model.state_dict().items():
            assert torch.equal(tensor, second.model.state_dict()[name]), name

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_two_tensors_are_as_good_as_pixels(self, strategy: str) -> None:
        random = np.random.default_rng(0)
        y = np.arange(40) % 2
        ids = random.integers(0, 16, (40, 6)) + 16 * y[:, None]
        mask = np.ones((40, 6), dtype=np.float32)
        x = (ids.astype(np.int64), mask)
        learner = zoo.compose("tiny_pair", strategy, weights=None, precision="fp32", **QUICK[strategy])
        learner.fit((x, y))
        assert learner.predict(x).shape == (40,)

    def test_the_callers_random_numbers_stay(self, pictures) -> None:
        torch.manual_seed(5)
        expected = torch.rand(1)
        torch.manual_seed(5)
        compose("fine-tune").fit(pictures)
        assert torch.equal(torch.rand(1), expected)

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_multi_label_and_regression(self, strategy: str, pictures, tmp_path: Path) -> None:
        x, y = pictures
        several = np.stack([y == 0, y != 1], axis=1).astype(int)
        found = compose(strategy).fit((x, several)).predict(x)
        assert found.shape == (60, 2)
        assert set(np.unique(found)) <= {0, 1}
        numbers = y + 0.25
        learner = compose(strategy).fit((x, numbers))
        assert learner.predict(x).shape == (60,)
        assert learner.evaluation.as_json()["primary"] == "r2"
        again = zoo.load(learner.save(tmp_path / "numbers"))
        np.testing.assert_array_equal(again.predict(x), learner.predict(x))


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each forward pass."""
    from zoo.models.network import Network

    rows: list[int] = []
    features = Network.features

    def counted(self: Network, x: torch.Tensor) -> torch.Tensor:
        rows.append(len(x))
        return features(self, x)

    monkeypatch.setattr(Network, "features", counted)
    return rows


@pytest.mark.usefixtures("tiny_plugin")
class TestFit:
    def test_linear_probe_learns_colours(self, pictures) -> None:
        learner = compose("linear-probe").fit(pictures)
        assert learner.evaluation.accuracy > 0.9

    def test_val_test_fits_all_of_train(self, photos: Path, tmp_path: Path) -> None:
        split = tmp_path / "split"
        for path in photos.glob("*/*.png"):
            part = split / ("test" if int(path.stem) < 3 else "train") / path.parent.name
            part.mkdir(parents=True, exist_ok=True)
            path.rename(part / path.name)
        learner = compose("linear-probe").fit(split, val="test")
        assert learner.record["data"]["rows"] == {"train": 18, "unlabelled": 0, "test": 6}

    def test_reported_rows_that_are_learned_from(self, pictures, photos: Path) -> None:
        x, y = pictures
        with pytest.raises(DataError, match="also learned from"):
            compose("linear-probe").fit((x, y), val=(x[:9], y[:9]))
        other = np.concatenate([x[:3], 255 - x[:3]])
        learner = compose("linear-probe").fit((x, y), val=(other, y[[0, 1, 2, 0, 1, 2]]))
        assert any("3 of 6 reported rows are also learned from" in note for note in learner.notes)

    def test_a_target_never_holds_what_is_reported(self, photos: Path, pictures) -> None:
        teacher = compose("linear-probe").fit(photos)
        student = zoo.compose("tiny", "distillation", weights=None, precision="fp32", epochs=1, teacher=teacher)
        with pytest.raises(UsageError, match="has labels"):
            student.fit(photos, target=photos)
        with pytest.raises(UsageError, match="all target rows are also in train"):
            student.fit(photos, target=photos, ignore_target_labels=True)
        student.fit(photos, target=pictures[0], ignore_target_labels=True)
        assert student.record["data"]["rows"]["unlabelled"] == 60

    def test_another_data_set_to_report_on(self, pictures) -> None:
        x, y = pictures
        learner = compose("linear-probe").fit((x[:30], y[:30]), val=(x[30:], y[30:]))
        assert learner.evaluation.n == 30
        assert learner.record["data"]["rows"]["train"] == 30

    def test_labels_per_class(self, pictures) -> None:
        learner = compose("linear-probe").fit(pictures, labels_per_class=2)
        assert learner.record["data"]["rows"]["train"] == 6
        assert learner.evaluation.n == 12

    def test_a_tap_reads_the_first_layers(self, pictures) -> None:
        learner = compose("linear-probe", tap="stem").fit(pictures)
        assert learner.model.backbone.num_features == 8
        assert learner.evaluation.accuracy > 0.9

    def test_no_forward_pass_for_a_second_look(self, pictures, passes: list[int]) -> None:
        store = FeatureStore()
        first = compose("linear-probe", store=store).fit(pictures)
        assert sum(passes) == 60
        second = zoo.compose("tiny", "linear-probe", weights=None, precision="fp32", store=store, regularizer=0.1)
        second.source.network = lambda progress=None: first.model.backbone
        second.fit(pictures)
        assert sum(passes) == 60

    def test_a_grown_set_costs_its_new_rows(self, pictures, passes: list[int]) -> None:
        x, y = pictures
        learner = compose("linear-probe", store=FeatureStore()).fit((x[:30], y[:30]))
        assert sum(passes) == 30
        learner.predict(x)
        assert sum(passes) == 60

    @pytest.mark.parametrize("chunk", [1, 7, 64])
    def test_features_do_not_depend_on_the_batch_size(self, pictures, chunk: int) -> None:
        x, _ = pictures
        source = compose("linear-probe").source
        split = zoo.data.open.open_data(x, labelled=False).train
        placement = compose("linear-probe").placement
        whole = FeatureStore().features(source.network(), split, placement, batch_size=60)
        parts = FeatureStore().features(source.network(), split, placement, batch_size=chunk)
        torch.testing.assert_close(parts, whole, rtol=0, atol=1e-6)

    def test_an_unlabelled_target_nobody_needs(self, pictures) -> None:
        with pytest.raises(UsageError, match="no use for"):
            compose("linear-probe").fit(pictures, target=pictures[0])

    def test_wrong_channels(self) -> None:
        x = np.random.default_rng(0).random((20, 5, 8, 8), dtype=np.float32)
        with pytest.raises(DataError, match="channels"):
            compose("linear-probe").fit((x, np.arange(20) % 2))

    def test_more_channels(self) -> None:
        x = np.random.default_rng(0).integers(0, 255, (20, 8, 8, 5), dtype=np.uint8)
        learner = compose("linear-probe", in_chans=5).fit((x, np.arange(20) % 2))
        assert learner.predict(x).shape == (20,)

    def test_labels_unknown_at_evaluation(self, pictures) -> None:
        x, y = pictures
        learner = compose("linear-probe").fit(pictures)
        with pytest.raises(DataError):
            learner.evaluate((x, y + 7))

    def test_before_fit(self) -> None:
        with pytest.raises(UsageError, match="not fitted"):
            compose("linear-probe").predict(np.zeros((1, 8, 8, 3), np.uint8))

    def test_hooks_are_told(self, pictures) -> None:
        told = []

        class Listener:
            @zoo.hookimpl
            def zoo_composed(self, learner: zoo.Learner) -> None:
                told.append("composed")

            @zoo.hookimpl
            def zoo_epoch_end(self, learner: zoo.Learner, epoch: int, metrics: dict) -> None:
                told.append(("epoch", epoch, metrics["loss"] > 0))

        zoo.register(Listener(), name="listener")
        compose("fine-tune", epochs=2).fit(pictures)
        assert told == ["composed", ("epoch", 0, True), ("epoch", 1, True)]


class Curved(nn.Module):
    """The same tensors, another forward pass."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.body, self.act, self.fc = nn.Linear(6, 8), act, nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.act(self.body(x)))


class TestOwnModule:
    def test_features_of_another_forward_pass_are_not_shared(self) -> None:
        torch.manual_seed(0)
        one, other = Curved(nn.ReLU()), Curved(nn.Tanh())
        other.load_state_dict(one.state_dict())
        x, y = torch.randn(40, 6), np.arange(40) % 2
        store = FeatureStore()
        zoo.compose(one, "linear-probe", store=store).fit((x, y))
        shared = zoo.compose(other, "linear-probe", store=store).fit((x, y)).predict_proba(x)
        alone = zoo.compose(other, "linear-probe", store=FeatureStore()).fit((x, y)).predict_proba(x)
        np.testing.assert_array_equal(shared, alone)

    def test_a_closed_form_that_changes_the_network(self, pictures) -> None:
        from zoo.errors import TrainingError

        @dataclasses.dataclass(frozen=True)
        class Halves(ClosedForm):
            says: bool

            def prepare(self, network, context):
                with torch.no_grad():
                    network.get_parameter("body.weight").mul_(0.5)
                return {"body.weight"} if self.says else set()

            def solve(self, features, targets, context):
                return nn.Linear(features.shape[1], context.task.outputs)

        data = (torch.randn(20, 6), np.arange(20) % 2)
        zoo.compose(Curved(nn.ReLU()), Halves(says=True)).fit(data)
        with pytest.raises(TrainingError, match=r"body\.weight"):
            zoo.compose(Curved(nn.ReLU()), Halves(says=False)).fit(data)

    def test_it_is_copied_and_never_changed(self, pictures) -> None:
        x, y = pictures
        module = Tiny(num_classes=4)
        before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        ready = torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255
        learner = zoo.compose(module, "fine-tune", precision="fp32", epochs=1).fit((ready, y))
        assert learner.predict(ready).shape == (60,)
        for name, tensor in module.state_dict().items():
            assert torch.equal(tensor, before[name])
        assert module.training

    def test_it_is_given_back_to_load(self, pictures, tmp_path: Path) -> None:
        x, y = pictures
        own = Preprocessing(input_size=(3, 8, 8), mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=1.0)
        module = Tiny()
        learner = zoo.compose(module, "linear-probe", preprocessing=own).fit((x, y))
        run = learner.save(tmp_path / "run")
        with pytest.raises(UsageError, match="module of your own"):
            zoo.load(run)
        again = zoo.load(run, backbone=Tiny())
        np.testing.assert_array_equal(again.predict_proba(x), learner.predict_proba(x))

    def test_raw_pictures_need_preprocessing(self, pictures) -> None:
        with pytest.raises(DataError, match="preprocessing"):
            zoo.compose(Tiny(), "linear-probe").fit(pictures)

    def test_a_module_without_classifier(self) -> None:
        with pytest.raises(UsageError, match="classifier"):
            zoo.compose(nn.Conv2d(3, 3, 1), "linear-probe")

    def test_weights_make_no_sense(self) -> None:
        with pytest.raises(UsageError, match="keeps the weights"):
            zoo.compose(Tiny(), "linear-probe", weights="x")

    def test_several_inputs(self) -> None:
        ids = np.arange(240).reshape(40, 6) % 32
        learner = zoo.compose(TinyPair(), "linear-probe").fit(((ids, np.ones((40, 6), np.float32)), np.arange(40) % 2))
        assert learner.evaluation.n == 8


@dataclasses.dataclass(frozen=True)
class Shifted(ClosedForm):
    """Centres on the target's mean instead of the source's; what it saw is kept in the bias."""

    needs: ClassVar[frozenset[str]] = frozenset({"target"})

    def solve(self, features: torch.Tensor, targets: np.ndarray, context: Context) -> nn.Module:
        head = nn.Linear(features.shape[1], context.task.outputs)
        with torch.no_grad():
            head.weight.zero_()
            head.bias.copy_(context.target().mean(dim=0)[: context.task.outputs])
        return head


@pytest.mark.usefixtures("tiny_plugin")
class TestTarget:
    def test_a_closed_form_sees_the_target_features(self, pictures) -> None:
        x, y = pictures
        learner = zoo.compose("tiny", Shifted(), weights=None, precision="fp32").fit((x, y), target=255 - x)
        split = zoo.data.open.open_data(255 - x, labelled=False).train
        network = learner.source.network()
        expected = FeatureStore().features(network, split, learner.placement).mean(dim=0)
        torch.testing.assert_close(learner.model.head.bias.detach(), expected[:3])

    def test_it_must_be_given(self, pictures) -> None:
        with pytest.raises(UsageError, match="needs unlabelled target"):
            zoo.compose("tiny", Shifted(), weights=None).fit(pictures)


@pytest.mark.usefixtures("tiny_plugin")
class TestCompose:
    def test_unknown_option(self) -> None:
        with pytest.raises(UsageError, match="no option 'epoch'") as caught:
            zoo.compose("tiny", "fine-tune", weights=None, epoch=3)
        assert "epochs" in caught.value.hint

    @pytest.mark.parametrize(("name", "value"), [("epochs", "many"), ("lr", "fast"), ("head", 3), ("epochs", True)])
    def test_an_option_of_the_wrong_type(self, name: str, value: object) -> None:
        with pytest.raises(UsageError, match=name):
            zoo.compose("tiny", "fine-tune", weights=None, **{name: value})

    @pytest.mark.parametrize(("name", "value"), [("epochs", 0), ("lr", -1.0), ("batch_size", 0), ("optimizer", "adm")])
    def test_an_impossible_option(self, name: str, value: object) -> None:
        with pytest.raises(UsageError, match=name):
            zoo.compose("tiny", "fine-tune", weights=None, **{name: value})

    def test_no_weights_are_never_silently_random(self) -> None:
        with pytest.raises(NotFoundError):
            zoo.compose("tiny", "linear-probe")

    def test_from_scratch_takes_no_weights(self) -> None:
        with pytest.raises(UsageError, match="random weights"):
            zoo.compose("source_cnn", "from-scratch", weights="glyphs")

    def test_absent_accelerator(self) -> None:
        with pytest.raises(UsageError, match="no accelerator") as caught:
            zoo.compose("tiny", "linear-probe", weights=None, accelerator="cuda:7")
        assert "cpu" in caught.value.hint

    def test_a_head_that_does_not_exist(self, pictures) -> None:
        with pytest.raises(UsageError, match="mpl"):
            compose("fine-tune", head="mpl(3)").fit(pictures)

    def test_the_articles_target_network(self, pictures) -> None:
        learner = compose("fine-tune", head="mlp(5)").fit(pictures)
        assert [tuple(tensor.shape) for tensor in learner.model.head.state_dict().values()] == [
            (5, 8),
            (5,),
            (3, 5),
            (3,),
        ]


@pytest.mark.usefixtures("tiny_plugin")
class TestSaved:
    def test_an_existing_folder_stays(self, pictures, tmp_path: Path) -> None:
        learner = compose("linear-probe").fit(pictures)
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "mine").write_text("x")
        with pytest.raises(UsageError, match="exists"):
            learner.save(tmp_path / "run")
        assert (tmp_path / "run" / "mine").read_text() == "x"
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []

    def test_a_failed_save_leaves_nothing(self, pictures, tmp_path: Path, monkeypatch) -> None:
        learner = compose("linear-probe").fit(pictures)
        monkeypatch.setattr("zoo.report.card.model_card", lambda record: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            learner.save(tmp_path / "runs" / "run")
        assert list((tmp_path / "runs").iterdir()) == []

    def test_the_record(self, pictures, tmp_path: Path) -> None:
        learner = compose("linear-probe", seed=4).fit(pictures)
        record = json.loads((learner.save(tmp_path / "run") / "run.json").read_text())
        assert record["state"] == "done"
        assert record["seed"] == 4
        assert record["composition"]["backbone"]["plugin"] == "tiny"
        assert record["composition"]["strategy"]["name"] == "linear-probe"
        assert record["data"]["fingerprint"] == learner.record["data"]["fingerprint"]
        card = (tmp_path / "run" / "README.md").read_text()
        assert "tiny + linear-probe" in card
        assert f"{learner.evaluation.accuracy:.4f}" in card

    @pytest.mark.parametrize("damage", ["truncate", "empty", "other", "json", "newer", "gone"])
    def test_a_damaged_run(self, pictures, tmp_path: Path, damage: str) -> None:
        run = compose("linear-probe").fit(pictures).save(tmp_path / "run")
        tensors, record = run / "model.safetensors", run / "run.json"
        if damage == "truncate":
            tensors.write_bytes(tensors.read_bytes()[:-8])
        elif damage == "empty":
            tensors.write_bytes(b"")
        elif damage == "other":
            other = zoo.compose(TinyPair(), "linear-probe").fit(
                ((np.zeros((9, 6), int), np.ones((9, 6))), np.arange(9) % 3)
            )
            tensors.write_bytes((other.save(tmp_path / "other") / "model.safetensors").read_bytes())
        elif damage == "json":
            record.write_text(record.read_text()[:100])
        elif damage == "newer":
            record.write_text(record.read_text().replace('"schema": 1', '"schema": 9'))
        else:
            record.unlink()
        with pytest.raises(NotFoundError if damage == "gone" else IntegrityError):
            zoo.load(run)

    def test_only_the_deltas(self, pictures, tmp_path: Path) -> None:
        x, _ = pictures
        compose("from-scratch").fit(pictures).publish("tiny.base")
        learner = zoo.compose("tiny", "linear-probe").fit(pictures)
        small = learner.save(tmp_path / "small", embed=False)
        again = zoo.load(small)
        np.testing.assert_array_equal(again.predict_proba(x), learner.predict_proba(x))
        from zoo.weights.header import read_header

        assert set(read_header(small / "model.safetensors").tensors) == {"head.weight", "head.bias"}
        tuned = zoo.compose("tiny", "fine-tune", epochs=1).fit(pictures)
        again = zoo.load(tuned.save(tmp_path / "tuned", embed=False))
        np.testing.assert_array_equal(again.predict_proba(x), tuned.predict_proba(x))

    def test_deltas_need_a_source(self, pictures, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="embed"):
            compose("linear-probe").fit(pictures).save(tmp_path / "run", embed=False)


@pytest.mark.usefixtures("tiny_plugin")
class TestPublish:
    def test_the_next_user_builds_on_it(self, pictures) -> None:
        learner = compose("from-scratch").fit(pictures)
        weights = learner.publish("tiny.colours", license="mit")
        assert weights.default
        assert weights.license == "mit"
        net = zoo.load_backbone("tiny.colours")
        assert net.classes == ("0", "1", "2")
        x = torch.rand(4, 3, 8, 8)
        with torch.no_grad():
            torch.testing.assert_close(net(x), learner.model.cpu()(x))
        assert zoo.compose("tiny", "linear-probe").source.weights.name == "tiny.colours"

    def test_a_taken_name(self, pictures) -> None:
        learner = compose("from-scratch").fit(pictures)
        learner.publish("tiny.colours")
        with pytest.raises(UsageError, match="exist"):
            learner.publish("tiny.colours")
        learner.publish("tiny.colours", replace=True)

    @pytest.mark.parametrize("name", ["colours", "other.colours", "tiny.", "tiny.a/b"])
    def test_a_name_that_does_not_fit(self, pictures, name: str, home: Path) -> None:
        learner = compose("from-scratch").fit(pictures)
        with pytest.raises(UsageError):
            learner.publish(name)
        assert not (home / "registry.toml").exists()

    def test_only_a_linear_head_at_the_default_tap(self, pictures) -> None:
        with pytest.raises(UsageError, match="linear head"):
            compose("fine-tune", head="mlp(4)").fit(pictures).publish("tiny.x")
        with pytest.raises(UsageError, match="linear head"):
            compose("linear-probe", tap="stem").fit(pictures).publish("tiny.x")


@pytest.mark.usefixtures("tiny_plugin")
class TestPredict:
    def test_raw_samples_of_every_kind(self, photos: Path) -> None:
        learner = compose("linear-probe").fit(photos)
        path = photos / "red" / "00.png"
        array = np.asarray(Image.open(path))
        expected = learner.predict_proba([path])
        for sample in ([str(path)], [Image.open(path)], array[None], [array]):
            np.testing.assert_allclose(learner.predict_proba(sample), expected, atol=1e-6)
        assert learner.predict(photos / "red").tolist() == ["red"] * 12

    def test_floats_pass_unchanged(self, photos: Path) -> None:
        learner = compose("linear-probe").fit(photos)
        raw = np.asarray(Image.open(photos / "red" / "00.png").resize((8, 8), Image.Resampling.BILINEAR))
        ready = (raw.astype(np.float32) / 255 - 0.5) / 0.5
        np.testing.assert_allclose(
            learner.predict_proba(torch.from_numpy(ready.transpose(2, 0, 1))[None]),
            learner.predict_proba([photos / "red" / "00.png"]),
            atol=1e-5,
        )


def test_the_state_hash_sees_every_value() -> None:
    from zoo.models.network import Network

    network = Network(Tiny())
    before = state_hash(network)
    with torch.no_grad():
        network.get_parameter("conv.weight")[0, 0, 0, 0] += 1e-7
    assert state_hash(network) != before


@pytest.mark.usefixtures("tiny_plugin")
@pytest.mark.parametrize(
    ("strategy", "options", "count"),
    [
        ("linear-probe", {}, 8 * 3 + 3),
        ("fine-tune", {"freeze": "all"}, 8 * 3 + 3),
        ("fine-tune", {"freeze": "stem"}, 8 * 8 * 9 + 8 + 2 * 8 + 8 * 3 + 3),
        ("from-scratch", {"head": "mlp(4)"}, 8 * 27 + 8 + 2 * 8 + 8 * 8 * 9 + 8 + 2 * 8 + 8 * 4 + 4 + 4 * 3 + 3),
        ("knn", {}, 0),
    ],
)
def test_how_many_parameters_were_trained(strategy: str, options: dict, count: int, tmp_path: Path) -> None:
    """Counted by hand: convolutions of 3 and 8 channels, two BatchNorms and the head; the source's own is not."""
    x, y = np.random.default_rng(0).normal(size=(30, 3, 8, 8)).astype("f4"), np.arange(30) % 3
    more = {} if strategy in ("linear-probe", "knn") else {"epochs": 1}
    learner = zoo.compose("tiny", strategy, weights=None, precision="fp32", **options, **more).fit((x, y))
    assert learner.summary()["trainable_params"] == count
    record = json.loads((learner.save(tmp_path / "run") / "run.json").read_text())
    assert record["trainable_params"] == count
    assert zoo.load(tmp_path / "run").summary()["trainable_params"] == count

"""Everything that works on pictures works on texts: learning, judging, keeping, handing over."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import zoo
from zoo.data.dataset import Data, Samples, Split
from zoo.data.task import CLASSES, Task
from zoo.errors import IntegrityError, UsageError

# What huggingface_hub says to its own HTTP client.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

GOOD, BAD = ("good", "fine", "love", "nice"), ("bad", "awful", "hate", "poor")
TASK = Task(CLASSES, ("bad", "good"))


class Texts(Samples):
    """Texts in memory."""

    kind = "text"

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def __len__(self) -> int:
        return len(self.texts)

    def raw(self, row: int, shorter: int | None = None) -> str:
        return self.texts[row]

    def digest(self, row: int) -> str:
        return hashlib.sha256(self.texts[row].encode()).hexdigest()


def reviews(rows: int = 48, seed: int = 0, **more: Any) -> Data:
    """A train and a test split of reviews whose words tell what they are."""
    draw = random.Random(seed)
    texts, y = [], np.arange(rows) % 2
    for label in y:
        words = [draw.choice(GOOD if label else BAD), *draw.sample(["the", "film", "food", "phone", "was", "very"], 4)]
        draw.shuffle(words)
        texts.append(" ".join(words) + "!" * draw.randrange(9))
    texts += list(more.get("texts", ()))
    y = np.concatenate([y, np.zeros(len(texts) - len(y), dtype=y.dtype)])
    samples = Texts(texts)
    half = 2 * (len(texts) // 3)
    rows_of = {"train": np.arange(half), "test": np.arange(half, len(texts))}
    splits = {name: Split(name, samples, chosen, y[chosen], TASK) for name, chosen in rows_of.items()}
    return Data("reviews", TASK, splits, divided=True)


def fitted(strategy: str = "linear-probe", *, name: str = "bert_tiny", data: Any = None, **options: Any) -> Any:
    target = options.pop("target", None)
    learner = zoo.compose(name, strategy, accelerator="cpu", precision="fp32", **options)
    return learner.fit(data or reviews(), "test", target)


GRADIENT = {"epochs": 4, "batch_size": 8, "lr": 1e-3}


@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        ("linear-probe", {}), ("knn", {"k": 3}), ("fine-tune", GRADIENT),
        ("fine-tune", {**GRADIENT, "freeze": "embeddings"}), ("lora", GRADIENT), ("bitfit", GRADIENT),
        ("from-scratch", GRADIENT), ("distillation", {**GRADIENT, "teacher": "bert_tiny"}),
    ],
    ids=lambda one: one if isinstance(one, str) else "-".join(sorted(one)),
)  # fmt: skip
def test_strategies(strategy: str, options: dict[str, Any], bert: Path, tmp_path: Path) -> None:
    if strategy == "distillation":
        options = {**options, "teacher": str(fitted().save(tmp_path / "teacher"))}
    learner = fitted(strategy, **options)
    assert learner.evaluation.n == 16
    if learner.history:
        assert learner.history[-1]["loss"] < learner.history[0]["loss"]
    else:
        assert learner.evaluation.accuracy > 0.5
    if options.get("freeze"):
        before = zoo.load_backbone("bert_tiny").state_dict()
        same = {name for name, one in learner.model.backbone.state_dict().items() if torch.equal(one, before[name])}
        assert same == {name for name in before if name.startswith("encoder.embeddings.")}
    run = learner.save(tmp_path / "run")
    again = zoo.load(run, accelerator="cpu")
    assert (again.predict_proba(reviews()) == learner.predict_proba(reviews())).all()


@pytest.mark.parametrize("strategy", ["coral", "dann"])
def test_another_domain(strategy: str, bert: Path) -> None:
    other = reviews(seed=1)
    target = Data("others", None, {"train": other.splits["train"].unlabelled()})
    options = GRADIENT if strategy == "dann" else {}
    assert fitted(strategy, target=target, **options).evaluation.n == 16


def test_a_probe_is_of_the_networks_features(bert: Path) -> None:
    learner = fitted()
    split = reviews().splits["test"]
    read = learner.model.backbone.reader()
    parts = tuple(torch.stack(part) for part in zip(*(read(split.raw(i)) for i in range(len(split))), strict=True))
    with torch.no_grad():
        expected = learner.model.head(learner.model.backbone.features(parts))
    torch.testing.assert_close(learner.outputs(split), expected, rtol=1e-5, atol=1e-5)
    small = zoo.compose("bert_tiny", "linear-probe", accelerator="cpu", precision="fp32")
    small.fit(reviews(), "test", batch_size=3)
    torch.testing.assert_close(small.outputs(split), learner.outputs(split), rtol=1e-4, atol=1e-4)


def test_a_run_keeps_its_tokenizer(bert: Path, tmp_path: Path, tokenizer_json: bytes) -> None:
    learner = fitted()
    run = learner.save(tmp_path / "run")
    assert (run / "assets" / "tokenizer.json").read_bytes() == tokenizer_json
    record = json.loads((run / "run.json").read_text())
    assert record["assets"] == {"tokenizer.json": hashlib.sha256(tokenizer_json).hexdigest()}
    (bert / "registry.toml").write_text("schema = 1\n")
    for file in ("model.safetensors", "tokenizer.json"):
        (bert / file).unlink()
    again = zoo.load(run, accelerator="cpu")
    assert (again.predict(reviews()) == learner.predict(reviews())).all()
    assert again.save(tmp_path / "copy").joinpath("assets", "tokenizer.json").read_bytes() == tokenizer_json
    (run / "assets" / "tokenizer.json").write_bytes(tokenizer_json.replace(b"good", b"goot"))
    with pytest.raises(IntegrityError, match="not the file that was promised"):
        zoo.load(run)
    (run / "assets" / "tokenizer.json").unlink()
    with pytest.raises(IntegrityError, match="is missing"):
        zoo.load(run)
    record["assets"] = {"../tokenizer.json": record["assets"]["tokenizer.json"]}
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(IntegrityError, match="damaged"):
        zoo.load(run)


def test_only_what_differs(bert: Path, tmp_path: Path) -> None:
    learner = fitted("bitfit", **GRADIENT)
    run = learner.save(tmp_path / "run", embed=False)
    assert (zoo.load(run).predict(reviews()) == learner.predict(reviews())).all()


def test_published_weights_bring_the_tokenizer(bert: Path, home: Path, tokenizer_json: bytes) -> None:
    learner = fitted("fine-tune", **GRADIENT)
    learner.publish("bert_tiny.reviews")
    for file in ("model.safetensors", "tokenizer.json"):
        (bert / file).unlink()
    network = zoo.load_backbone("bert_tiny.reviews")
    assert network.assets == {"tokenizer.json": tokenizer_json}
    assert network.preprocessing.input_size == (32,)
    assert network.classes == ("bad", "good")
    assert fitted(name="bert_tiny.reviews").evaluation.n == 16


def test_pushed_and_loaded_from_the_hub(bert: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.testing.hub import FakeHub

    learner = fitted()
    monkeypatch.delenv("ZOO_OFFLINE")
    with FakeHub(lfs_from=50_000) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        from zoo.report.push import push_learner
        from zoo.settings import Settings

        learner.registry = zoo.Registry(settings=Settings())
        done = push_learner(learner, "me/reviews")
        assert "assets/tokenizer.json" in [file.path for file in done.files]
        again = zoo.load("hf://me/reviews", registry=learner.registry)
    assert (again.predict(reviews()) == learner.predict(reviews())).all()


def test_the_guard_learns_from_words(bert: Path) -> None:
    learner = fitted()
    guard = learner.evaluate(reviews(), guard=True, train=reviews(), scratch=True).guard
    found = {one["name"]: one["accuracy"] for one in guard["baselines"]}
    assert set(found) == {"majority", "raw", "random-weights", "from-scratch"}
    assert found["raw"] > 0.9  # the words tell it all


def test_words_as_scikit_learn_learns_from_them(bert: Path) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    from zoo.choose.raw import STRENGTHS, raw_outputs

    data = reviews(90)
    train, test = data.splits["train"], data.splits["test"]
    said = raw_outputs(zoo.load_backbone("bert_tiny"), train, test, TASK)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+")
    x = words.fit_transform([train.raw(i) for i in range(len(train))])
    new = words.transform([test.raw(i) for i in range(len(test))])
    oracles = [LogisticRegression(C=c, max_iter=2000).fit(x, train.targets).predict_log_proba(new) for c in STRENGTHS]
    assert min(float(np.abs(one - said.numpy()).max()) for one in oracles) < 1e-6


def test_words_of_languages_without_blanks() -> None:
    from zoo.choose.raw import vectorizer

    assert set(vectorizer().fit(["很好 ok"]).get_feature_names_out()) == {"很", "好", "ok", "很 好", "好 ok"}


@pytest.mark.parametrize("targets", [[0] * 6, [0, 1, 1, 0, 2, 2], [0, 0, 0, 0, 0, 1]])
def test_words_of_few_rows(targets: list[int], bert: Path) -> None:
    from zoo.choose.raw import raw_outputs

    task = Task(CLASSES, ("a", "b", "c"))
    samples = Texts(["good film", "bad food", "awful food", "nice film", "phone", "the phone"])
    train = Split("train", samples, np.arange(6), np.array(targets), task)
    found = raw_outputs(zoo.load_backbone("bert_tiny"), train, train, task)
    assert found.shape == (6, 3)
    assert set(found.argmax(dim=1).tolist()) <= set(targets)
    empty = Split("train", Texts(["", "!"]), np.arange(2), np.array([0, 1]), task)
    assert raw_outputs(zoo.load_backbone("bert_tiny"), empty, empty, task) is None


def test_what_is_cut_is_said_once(bert: Path) -> None:
    data = reviews(texts=["bad " * 25_000, "awful " * 60, "  "])
    learner = fitted(data=data)
    said = [note for note in learner.notes if "cut after" in note]
    assert said == ["2 texts of 17 in test cut after 32 tokens: the network takes no more"]
    assert sum("read as empty" in note for note in learner.notes) == 1


@pytest.mark.parametrize(("option", "value", "words"), [("augment", "flip", "is no picture"), ("mixup", 0.2, "mixup")])
def test_changes_of_pictures_are_refused(option: str, value: Any, words: str, bert: Path) -> None:
    with pytest.raises(UsageError, match=words):
        fitted("fine-tune", **{**GRADIENT, option: value})


def test_from_scratch_reads_with_the_default_weights_tokenizer(bert: Path) -> None:
    learner = fitted("from-scratch", **GRADIENT)
    assert learner.source.weights is None
    network = learner.model.backbone
    assert list(network.assets) == ["tokenizer.json"]
    assert network.get_submodule("encoder.embeddings.word_embeddings").num_embeddings < 100
    with pytest.raises(UsageError, match="has no tokenizer"):
        fitted("from-scratch", name="bert_mini", **GRADIENT)  # nobody has weights for it


def test_a_path_reads_with_the_tokenizer_beside_it(bert: Path) -> None:
    by_name, path = fitted(), bert / "model.safetensors"
    by_path = fitted(weights=path)
    assert (by_path.predict_proba(reviews()) == by_name.predict_proba(reviews())).all()
    (bert / "registry.toml").write_text("schema = 1\n")
    with pytest.raises(IntegrityError):  # nobody says any more how many words there are
        zoo.compose("bert_tiny", "linear-probe", weights=path, registry=zoo.Registry()).fit(reviews())


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_export(suffix: str, bert: Path, tmp_path: Path, tokenizer_json: bytes) -> None:
    if suffix == ".onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    learner = fitted()
    done = learner.export(tmp_path / f"net{suffix}")
    assert done.parity < 1e-4
    facts = json.loads(done.sidecar.read_text())
    assert facts["input"] == {"input_ids": [32], "attention_mask": [32]}
    assert (tmp_path / facts["files"]["tokenizer.json"]["path"]).read_bytes() == tokenizer_json
    texts = ["the film was awful", "good " * 40, ""]
    read = learner.model.backbone.reader()
    ids, mask = (torch.stack(part) for part in zip(*(read(text) for text in texts), strict=True))
    samples = Split("x", Texts(texts), np.arange(3))
    if suffix == ".pt2":
        found = torch.export.load(done.path).module()(ids, mask)
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(done.path, providers=["CPUExecutionProvider"])
        fed = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
        found = torch.from_numpy(session.run(None, fed)[0])
    torch.testing.assert_close(found, learner.outputs(samples), rtol=1e-4, atol=1e-4)


def test_audit_and_rank(bert: Path) -> None:
    data = reviews(texts=["the film was very good", "The film was very good.", "the food was very bad"] * 2)
    last = data.splits["test"].rows[-6:]
    moved = {"train": [*data.splits["train"].rows, *last[:2]], "test": data.splits["test"].rows[:-4]}
    samples, y = data.splits["test"].samples, np.concatenate([one.targets for one in data.splits.values()])
    splits = {name: Split(name, samples, np.array(rows), y[rows], TASK) for name, rows in moved.items()}
    data = Data("reviews", TASK, splits, divided=True)
    for backbone in (None, "bert_tiny"):
        found = zoo.audit(data, backbone)
        assert len(found.duplicates) == 2
        assert found.leakage
        assert any("words" in note or "bert_tiny.test" in note for note in found.notes)
    ranked = zoo.rank(["bert_tiny"], data, accelerator="cpu")
    assert [one.weights for one in ranked] == ["bert_tiny.test"]


def test_the_bytes_of_a_text_need_no_package(tiny_plugin: str, tmp_path: Path) -> None:
    learner = fitted("from-scratch", name="tiny_text", **{**GRADIENT, "epochs": 10})
    assert learner.evaluation.n == 16
    again = zoo.load(learner.save(tmp_path / "run"))
    assert (again.predict(reviews()) == learner.predict(reviews())).all()


def test_texts_of_one_length_are_computed_together(bert: Path) -> None:
    """Longest first, whatever their order in the data; each row gets its own features all the same."""
    from zoo.adapt.extract import chosen_batch
    from zoo.adapt.features import FeatureStore
    from zoo.models.accelerator import choose

    network, placement = zoo.load_backbone("bert_tiny"), choose("cpu", "fp32")
    split = reviews(30).splits["train"]
    lengths: list[int] = []
    inner = network.get_submodule("encoder.embeddings")
    handle = inner.register_forward_pre_hook(
        lambda _, args, named: lengths.append(named["input_ids"].shape[1]), with_kwargs=True
    )
    found = FeatureStore().features(network, split, placement, batch_size=4)
    handle.remove()
    assert lengths == sorted(lengths, reverse=True)
    assert len(set(lengths)) > 1
    read = network.reader()
    for row in range(len(split)):
        one = tuple(part[None] for part in read(split.raw(row)))
        with torch.no_grad():
            torch.testing.assert_close(found[row : row + 1], network.features(one), rtol=0, atol=1e-5)
    assert chosen_batch(network, placement) == min(512, 4 * 3 * 224 * 224 // (32 * 128 // 4))

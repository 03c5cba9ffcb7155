"""Encoders of text: transformers' own numbers, at every layer, whatever lies beside a text."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import zoo
from zoo.catalog.registry import default
from zoo.errors import UsageError
from zoo.models.build import Builder
from zoo.models.network import Network
from zoo.models.stages import HEAD

transformers = pytest.importorskip("transformers")

TEXTS = ["the film was very good", "awful!", "not bad but never again and it was poor food", "a"]
NAMES = (
    "minilm_l6",
    "minilm_l12",
    "bert_tiny",
    "bert_mini",
    "bert_small",
    "bert_medium",
    "bert_base",
    "distilbert_base",
)


def batch(network: Network, texts: list[str]) -> tuple[Tensor, ...]:
    read = network.reader()
    return tuple(torch.stack(part) for part in zip(*(read(text) for text in texts), strict=True))


def oracle(bert: Path) -> Any:
    """The same network as transformers itself loads it."""
    config = transformers.BertConfig.from_json_file(bert / "config.json")
    network = transformers.BertModel(config).eval()
    from safetensors.torch import load_file

    tensors = load_file(bert / "model.safetensors")
    network.load_state_dict({name.removeprefix("bert."): tensor for name, tensor in tensors.items()})
    return network


def mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """As the published model cards of sentence encoders write it."""
    expanded = mask.unsqueeze(-1).expand(tokens.size()).float()
    return torch.sum(tokens * expanded, 1) / torch.clamp(expanded.sum(1), min=1e-9)


@torch.no_grad()
def test_features_are_transformers_own(bert: Path) -> None:
    network = zoo.load_backbone("bert_tiny")
    ids, mask = batch(network, TEXTS)
    said = oracle(bert)(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    expected = [mean(tokens, mask) for tokens in said.hidden_states]
    torch.testing.assert_close(network.features((ids, mask)), expected[-1], rtol=0, atol=1e-5)
    assert network.taps() == ["embeddings", "layer1", "layer2"]
    for tap, layer in zip(network.taps(), expected, strict=True):
        tapped = zoo.load_backbone("bert_tiny", tap=tap)
        torch.testing.assert_close(tapped.features((ids, mask)), layer, rtol=0, atol=1e-5)
        named = zoo.load_backbone("bert_tiny", tap=tapped.end_of(tap))
        assert torch.equal(named.features((ids, mask)), tapped.features((ids, mask)))


@torch.no_grad()
def test_the_first_token(bert: Path) -> None:
    registry = bert / "registry.toml"
    registry.write_text(registry.read_text().replace("options = { ", 'options = { pooling = "cls", '))
    network = zoo.load_backbone("bert_tiny")
    ids, mask = batch(network, TEXTS)
    said = oracle(bert)(input_ids=ids, attention_mask=mask)
    torch.testing.assert_close(network.features((ids, mask)), said.last_hidden_state[:, 0], rtol=0, atol=1e-5)
    registry.write_text(registry.read_text().replace('"cls"', '"max"'))
    with pytest.raises(zoo.errors.ZooError, match="could not be built") as caught:
        zoo.load_backbone("bert_tiny", registry=zoo.Registry())
    assert "no pooling 'max'" in str(caught.value.why)


@torch.no_grad()
def test_neither_neighbours_nor_padding_count(bert: Path) -> None:
    network = zoo.load_backbone("bert_tiny")
    ids, mask = batch(network, TEXTS)
    together = network.features((ids, mask))
    for row, text in enumerate(TEXTS):
        alone = network.features((ids[row : row + 1], mask[row : row + 1]))
        used = int(mask[row].sum())
        bare = network.features((ids[row : row + 1, :used], mask[row : row + 1, :used]))
        other = ids[row : row + 1].clone()
        other[0, used:] = 5  # what lies under the mask is nobody's business
        longer = network.features((torch.cat([other, other], 1), torch.cat([mask, 0 * mask], 1)[row : row + 1]))
        for found in (alone, bare, longer):
            torch.testing.assert_close(found[0], together[row], rtol=0, atol=1e-5, msg=text)
    filled = network.features((torch.cat([ids, 0 * ids]), torch.cat([mask, 0 * mask])))
    torch.testing.assert_close(filled[: len(ids)], together, rtol=0, atol=1e-5)
    assert filled.isfinite().all()


@torch.no_grad()
def test_what_bf16_loses(bert: Path) -> None:
    network = zoo.load_backbone("bert_tiny")
    ids, mask = batch(network, TEXTS)
    exact = network.features((ids, mask))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        together = network.features((ids, mask))
        alone = torch.cat([network.features((ids[i : i + 1], mask[i : i + 1])) for i in range(len(ids))])
    near = torch.nn.functional.cosine_similarity
    assert near(together.float(), exact).min() > 0.999
    assert near(together.float(), alone.float()).min() > 0.9999


@pytest.mark.parametrize("name", NAMES)
def test_what_is_declared(name: str) -> None:
    spec = default().backbone(name)
    assert spec.full_name == f"transformers/{name}"
    module = Builder(spec, None, 0).on_meta(num_classes=None, in_chans=3)
    network = Network(module, spec)
    assert sum(one.numel() for one in module.parameters()) == spec.params
    assert network.num_features == spec.num_features
    assert [*network.stages()] == [*network.taps(), HEAD]


def test_published_sizes() -> None:
    """Parameters that papers and model cards state, in millions: with the pooler that is left out here."""
    millions = {"bert_base": 110, "bert_tiny": 4.4, "bert_mini": 11.3, "bert_small": 29.1, "bert_medium": 41.7,
                "distilbert_base": 66, "minilm_l6": 22.7, "minilm_l12": 33}  # fmt: skip
    for name, published in millions.items():
        spec = default().backbone(name)
        pooler = 0 if name.startswith("distil") else spec.num_features * (spec.num_features + 1)
        assert (spec.params - 2 * (spec.num_features + 1) + pooler) / 1e6 == pytest.approx(published, rel=0.015)


def test_what_was_trained_on_top_is_left_out() -> None:
    from zoo_plugins.backbones.transformers.network import translate

    one = torch.zeros(1)
    names = {
        "bert.embeddings.LayerNorm.gamma": "encoder.embeddings.LayerNorm.weight",
        "embeddings.word_embeddings.weight": "encoder.embeddings.word_embeddings.weight",
        "0.auto_model.encoder.layer.0.output.dense.bias": "encoder.encoder.layer.0.output.dense.bias",
        "distilbert.transformer.layer.1.ffn.lin1.bias": "encoder.transformer.layer.1.ffn.lin1.bias",
        "embeddings.position_ids": None, "pooler.dense.weight": None, "cls.predictions.bias": None,
        "vocab_projector.bias": None, "classifier.weight": None,
    }  # fmt: skip
    found = translate(dict.fromkeys(names, one), torch.nn.Identity())
    assert sorted(found) == sorted(name for name in names.values() if name)


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_distilbert_and_bert_as_transformers_build_them(kind: str) -> None:
    import zoo_plugins.backbones.transformers.network as plugin

    build = plugin._bert if kind == "bert" else plugin._distilbert
    torch.manual_seed(0)
    ours = build(2, 32, 2, 64, num_classes=3, vocab_size=50, max_positions=16).eval()
    ids = torch.randint(1, 50, (3, 9))
    mask = torch.ones_like(ids)
    mask[0, 5:] = 0
    with torch.no_grad():
        tokens = ours.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        expected = ours.head(mean(tokens, mask))
        torch.testing.assert_close(ours(ids, mask), expected, rtol=0, atol=1e-5)
    assert ours(ids, mask).shape == (3, 3)


def test_listed_without_the_package_and_refused_with_advice(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "zoo_plugins.backbones.transformers.network", raising=False)
    assert {spec.name for spec in zoo.list_backbones(plugin="transformers")} == set(NAMES)
    with pytest.raises(UsageError, match="needs the package transformers") as caught:
        zoo.load_backbone("bert_tiny")
    assert "pip install 'transfer-zoo[text]'" in str(caught.value.hint)

"""Encoders of text over the package transformers, listed without importing it: `pip install 'transfer-zoo[text]'`.

The module is made from plain options; nothing is looked up on the Hub, and no code comes with weights.
"""

from __future__ import annotations

from collections.abc import Iterator

import zoo

#: name: (builder, layers, width, heads, hidden width, summary)
SHAPES = {
    "minilm_l6": ("bert", 6, 384, 12, 1536, "Six layers of BERT's kind, 384 wide, distilled from a larger one."),
    "minilm_l12": ("bert", 12, 384, 12, 1536, "Twelve layers of BERT's kind, 384 wide, distilled from a larger one."),
    "bert_tiny": ("bert", 2, 128, 2, 512, "The smallest of the compact BERTs."),
    "bert_mini": ("bert", 4, 256, 4, 1024, "A compact BERT."),
    "bert_small": ("bert", 4, 512, 8, 2048, "A compact BERT."),
    "bert_medium": ("bert", 8, 512, 8, 2048, "The largest of the compact BERTs."),
    "bert_base": ("bert", 12, 768, 12, 3072, "BERT, for English without case."),
    "distilbert_base": ("distilbert", 6, 768, 12, 3072, "Half of BERT's layers, distilled from it."),
}
_PAPERS = {
    "minilm": "Wang et al. 2020, MiniLM: deep self-attention distillation, arXiv:2002.10957",
    "compact": "Turc et al. 2019, Well-read students learn better: on the importance of pre-training compact models, "
    "arXiv:1908.08962",
    "bert": "Devlin et al. 2018, BERT: pre-training of deep bidirectional transformers, arXiv:1810.04805",
    "distilbert": "Sanh et al. 2019, DistilBERT, a distilled version of BERT, arXiv:1910.01108",
}
_PAPER = {
    "minilm_l6": "minilm", "minilm_l12": "minilm", "bert_tiny": "compact", "bert_mini": "compact",
    "bert_small": "compact", "bert_medium": "compact", "bert_base": "bert", "distilbert_base": "distilbert",
}  # fmt: skip
#: BERT's vocabulary without case, its positions, and tokens of a text where the weights say nothing else.
_VOCABULARY, _POSITIONS, _TOKENS = 30_522, 512, 256


@zoo.hookimpl
def zoo_backbones() -> Iterator[zoo.Backbone]:
    for name, (kind, layers, width, _, hidden, summary) in SHAPES.items():
        inner = "encoder.encoder.layer" if kind == "bert" else "encoder.transformer.layer"
        yield zoo.Backbone(
            name=name,
            family=name.partition("_")[0],
            build=f"zoo_plugins.backbones.transformers.network:{name}",
            num_features=width,
            params=_params(kind, layers, width, hidden),
            input="text",
            input_size=(_TOKENS,),
            head="head",
            options=("pooling", "vocab_size", "max_positions", "dropout"),
            preprocessing=zoo.Preprocessing(kind="text", input_size=(_TOKENS,), extra={"tokenizer": "tokenizer.json"}),
            stages={
                "embeddings": ("encoder.embeddings",),
                **{f"layer{i + 1}": (f"{inner}.{i}",) for i in range(layers)},
            },
            requires=("transformers>=4.57", "tokenizers>=0.22"),
            summary=summary,
            paper=_PAPERS[_PAPER[name]],
            translate="zoo_plugins.backbones.transformers.network:translate",
        )


def _params(kind: str, layers: int, width: int, hidden: int) -> int:
    """Of the encoder without pooler, and a head of two classes."""
    embedded = _VOCABULARY + _POSITIONS + (2 if kind == "bert" else 0) + 2
    layer = 4 * width * (width + 1) + width * (hidden + 1) + hidden * (width + 1) + 4 * width
    return embedded * width + layers * layer + 2 * (width + 1)

"""transformers' encoders with a pooling that knows the mask, and a linear classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from zoo_plugins.backbones.transformers import SHAPES

from zoo.errors import UsageError

try:
    from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel
except ImportError as error:
    raise UsageError(
        "this backbone needs the package transformers",
        why=str(error),
        hint="Install it: pip install 'transfer-zoo[text]'.",
    ) from error

POOLINGS: Final = ("mean", "cls")
#: What files put before the encoder's names, and what was trained on top of an encoder.
_PREFIXES: Final = ("0.auto_model.", "model.", "bert.", "distilbert.")
_ON_TOP: Final = (
    "pooler.", "cls.", "classifier.", "pre_classifier.", "vocab_transform.", "vocab_layer_norm.", "vocab_projector.",
)  # fmt: skip


class TextEncoder(nn.Module):
    """Token ids (N, L) and a mask (N, L) of 0 and 1: the encoder, its tokens pooled, and a classifier.

    Columns that are padding in every row are left out, so that texts cost what they are long.

    Args:
        encoder: gives `last_hidden_state` (N, L, width).
        width: of a token.
        pooling: "mean" over the tokens that are no padding, or "cls", the first.
        num_classes: 0 = the pooled tokens themselves.
    """

    def __init__(self, encoder: nn.Module, width: int, *, pooling: str, num_classes: int) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise UsageError(f"no pooling {pooling!r}", hint=f"One of: {', '.join(POOLINGS)}.")
        self.encoder = encoder
        self.pooling = pooling
        self.head = nn.Linear(width, num_classes) if num_classes else nn.Identity()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(N, num_classes) logits."""
        mask = _visible(attention_mask)
        length = _used(mask)
        ids, mask = input_ids[:, :length], mask[:, :length]
        shown = None if mask.is_meta else mask  # without values there is nothing to hide, and transformers would look
        tokens = self.encoder(input_ids=ids, attention_mask=shown).last_hidden_state
        return self.head(self.pool_tokens(tokens, ids, mask))

    def pool_tokens(self, tokens: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(N, width) of tokens (N, L, width) of any layer; see `zoo.models.network.pool`."""
        if self.pooling == "cls":
            return tokens[:, 0]
        kept = _visible(attention_mask)[:, : tokens.shape[1], None].to(torch.float32)
        return (tokens.float() * kept).sum(dim=1) / kept.sum(dim=1)

    def extra_repr(self) -> str:
        """What no layer tells."""
        return f"pooling={self.pooling}"


def _visible(mask: Tensor) -> Tensor:
    """The mask, with the first token of every row: a row of padding alone, which fills a pass up, would be NaN."""
    mask = mask.to(torch.int64)
    return torch.cat([torch.ones_like(mask[:, :1]), mask[:, 1:]], dim=1)


def _used(mask: Tensor) -> int:
    """Columns up to the last one that any row uses."""
    if mask.is_meta or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return mask.shape[1]  # what is recorded must hold for other texts
    return int(mask.any(dim=0).nonzero()[-1]) + 1


def _bert(
    layers: int,
    width: int,
    heads: int,
    hidden: int,
    *,
    num_classes: int = 2,
    in_chans: int = 3,
    pooling: str = "mean",
    vocab_size: int = 30_522,
    max_positions: int = 512,
    dropout: float = 0.1,
) -> TextEncoder:
    config = BertConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=hidden,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        max_position_embeddings=max_positions,
    )
    encoder = BertModel(config, add_pooling_layer=False)
    return TextEncoder(encoder, width, pooling=pooling, num_classes=num_classes)


def _distilbert(
    layers: int,
    width: int,
    heads: int,
    hidden: int,
    *,
    num_classes: int = 2,
    in_chans: int = 3,
    pooling: str = "mean",
    vocab_size: int = 30_522,
    max_positions: int = 512,
    dropout: float = 0.1,
) -> TextEncoder:
    config = DistilBertConfig(
        vocab_size=vocab_size,
        dim=width,
        n_layers=layers,
        n_heads=heads,
        hidden_dim=hidden,
        dropout=dropout,
        attention_dropout=dropout,
        max_position_embeddings=max_positions,
    )
    return TextEncoder(DistilBertModel(config), width, pooling=pooling, num_classes=num_classes)


_KINDS: Final[Mapping[str, Callable[..., TextEncoder]]] = {"bert": _bert, "distilbert": _distilbert}


def __getattr__(name: str) -> Callable[..., TextEncoder]:
    """The builder of a backbone, by its name."""
    if name not in SHAPES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    kind, layers, width, heads, hidden, _ = SHAPES[name]
    return partial(_KINDS[kind], layers, width, heads, hidden)


def translate(tensors: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """The encoder of a file of transformers' or sentence-transformers'.

    What was trained on top of it (poolers, heads of pretraining and of other tasks) is left out, and so are position
    numbers, which old files hold.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        if name.startswith(_ON_TOP) or name.endswith("position_ids"):
            continue
        name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        found[f"encoder.{name}"] = tensor
    return found


def __dir__() -> list[Any]:
    return [*globals(), *SHAPES]

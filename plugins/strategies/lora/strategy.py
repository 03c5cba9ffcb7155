"""LoRA: W + (alpha / r) up @ down, with W left as it is (Hu et al. 2021, arXiv:2106.09685)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from zoo_plugins.strategies.lora.adapters import Adapters
from zoo_plugins.strategies.lora.beside import Beside
from zoo_plugins.strategies.lora.layers import choose

from zoo.adapt.strategy import Change, Context, Model, below_one, positive
from zoo.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class LoRA(Beside):
    """A low-rank change of the weights of linear and convolution layers, and a head.

    `up` starts at 0, so that the fit starts at the network it was given. When it ends the changes are put into the
    weights: what is left is a plain network.

    Args:
        rank: of each change. A layer whose change would then hold as many numbers as its weights gets a lower rank.
        alpha: changes are multiplied by alpha / rank.
        dropout: probability, in [0, 1), by which each of the `rank` terms of a change sits out a step; those that stay
            count 1 / (1 - dropout) as much.
        targets: which layers, by their dotted names in the backbone: globs, separated by commas ("*" = all,
            "*.qkv,*.proj"). Layers behind the tap are never among them, nor are depthwise convolutions: a matrix of a
            single row has no change that is smaller than itself.

    Other options are those of every strategy that learns from labels (`Supervised`), and `init` (see `Beside`).
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: str = "*"

    stage: ClassVar[str] = "lora"

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "rank", "alpha")
        below_one(self, "dropout")
        if not any(part.strip() for part in self.targets.split(",")):
            raise UsageError("targets names no layer", hint='"*" = every linear and convolution layer.')

    def change(self, model: Model, context: Context) -> Change:
        """Adapters of the chosen layers.

        Raises:
            UsageError: no layer is chosen, or none that has a low rank.
        """
        chosen = choose(model.backbone, self.targets, self.rank)
        context.notes.extend(chosen.notes)
        return Adapters(chosen.layers, alpha=self.alpha, dropout=self.dropout)

    def finish(self, model: Model, context: Context) -> None:
        """Put the changes into the weights."""
        adapters = model.extras.pop(self.stage)
        assert isinstance(adapters, Adapters)
        for name, change in adapters.changes().items():
            model.add(name, change)

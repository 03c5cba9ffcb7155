"""The residual network for tables (Gorishniy et al. 2021, section 3.2, arXiv:2106.11959).

    ResNet(x) = Linear(ReLU(BatchNorm(Block(... Block(Linear(x))))))
    Block(x) = x + Dropout(Linear(Dropout(ReLU(Linear(BatchNorm(x))))))

The first layer takes the numbers that a row becomes; behind one-hot categories it is their embedding.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

#: Width of the features, and how much wider a block is inside.
WIDTH: Final = 128
WIDER: Final = 2
#: Part of a block's hidden units that training drops; what the block adds is not dropped.
DROPOUT: Final = 0.2


class Block(nn.Module):
    """(N, width) -> (N, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.fc1 = nn.Linear(width, WIDER * width)
        self.act = nn.ReLU()
        self.drop = nn.Dropout(DROPOUT)
        self.fc2 = nn.Linear(WIDER * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc2(self.drop(self.act(self.fc1(self.norm(x)))))


class TabularResNet(nn.Module):
    """(N, in_chans) -> (N, num_classes).

    Args:
        blocks: residual blocks.
        num_classes: outputs of the classifier; 0 leaves an identity, which gives the features.
        in_chans: numbers that a row becomes.
    """

    def __init__(self, blocks: int = 2, num_classes: int = 2, in_chans: int = 3) -> None:
        super().__init__()
        self.in_chans = in_chans
        self.stem = nn.Linear(in_chans, WIDTH)
        self.blocks = nn.Sequential(*(Block(WIDTH) for _ in range(blocks)))
        self.norm = nn.BatchNorm1d(WIDTH)
        self.act = nn.ReLU()
        self.classifier = nn.Linear(WIDTH, num_classes) if num_classes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.act(self.norm(self.blocks(self.stem(x)))))


def tabular_resnet(*, num_classes: int = 2, in_chans: int = 3) -> TabularResNet:
    """Build the network with two blocks."""
    return TabularResNet(2, num_classes, in_chans)

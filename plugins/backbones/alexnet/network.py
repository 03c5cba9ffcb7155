"""AlexNet (Krizhevsky 2014, arXiv:1404.5997): the single-column form, with torchvision's tensor names."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

import zoo

#: Below this many pixels a side, the last pool has nothing left to pool.
MIN_SIZE: Final = 63


class AlexNet(nn.Module):
    """(N, in_chans, H, W) -> (N, num_classes), H and W at least 63.

    Args:
        num_classes: outputs of the classifier; 0 leaves an identity, which gives the 4096 features.
        in_chans: channels of the input.
        dropout: of the inputs of both hidden fully connected layers.
    """

    def __init__(self, num_classes: int = 1000, in_chans: int = 3, dropout: float = 0.5) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_chans, 64, kernel_size=11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(64, 192, kernel_size=5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(192, 384, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, num_classes) if num_classes else nn.Identity(),
        )

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[-2:]) < MIN_SIZE:
            raise zoo.DataError(
                f"AlexNet needs images of at least {MIN_SIZE} x {MIN_SIZE}, not {x.shape[-2]} x {x.shape[-1]}",
                hint="Give uint8 images, which are resized, or resize your tensors.",
            )
        x = self.avgpool(self.features(x))
        return self.classifier(torch.flatten(x, 1))


def alexnet(*, num_classes: int = 1000, in_chans: int = 3, dropout: float = 0.5) -> AlexNet:
    """Build AlexNet with random weights."""
    return AlexNet(num_classes, in_chans, dropout)

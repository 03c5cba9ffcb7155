"""The article's source network."""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

import zoo

#: Pixels a side; the fully connected layer fits no other size.
SIZE: Final = 28
WIDTH: Final = 1024


class SourceCNN(nn.Module):
    """(N, in_chans, 28, 28) -> (N, num_classes).

    conv 3->64, ReLU, 2x2 max-pool; conv 64->128, ReLU, 2x2 max-pool; flatten 128*7*7; fully connected to 1024, ReLU:
    these are the features; classifier 1024->classes. Convolutions are 3x3 with padding 1.

    Args:
        num_classes: outputs of the classifier; 0 leaves an identity, which gives the 1024 features.
        in_chans: channels of the input.
    """

    def __init__(self, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, 64, kernel_size=3, padding=1)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(64, 128, kernel_size=3, padding=1)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(128 * (SIZE // 4) ** 2, WIDTH)
        self.relu3 = nn.ReLU()
        self.classifier = nn.Linear(WIDTH, num_classes) if num_classes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if tuple(x.shape[-2:]) != (SIZE, SIZE):
            raise zoo.DataError(
                f"source_cnn eats images of {SIZE} x {SIZE}, not {x.shape[-2]} x {x.shape[-1]}",
                hint="Give uint8 images, which are resized, or resize your tensors.",
            )
        x = self.pool1(self.relu1(self.conv1(x)))
        x = self.pool2(self.relu2(self.conv2(x)))
        x = self.relu3(self.fc1(self.flatten(x)))
        return self.classifier(x)


def source_cnn(*, num_classes: int = 10, in_chans: int = 3) -> SourceCNN:
    """Build the article's source network with random weights."""
    return SourceCNN(num_classes, in_chans)

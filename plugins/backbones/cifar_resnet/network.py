"""The residual networks for CIFAR (He et al. 2015, section 4.2, arXiv:1512.03385).

6n+2 layers: a 3x3 convolution, then three stages of n blocks with 16, 32 and 64 channels, a global average, a linear
layer. Shortcuts have no parameters (option A): where a stage begins, every second pixel is taken and the missing
channels are zeros, half of them before and half behind.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Shortcut(nn.Module):
    """Option A: (N, C, H, W) -> (N, C + 2 * pad, ceil(H / 2), ceil(W / 2))."""

    def __init__(self, pad: int) -> None:
        super().__init__()
        self.pad = pad

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the first one has stride 2 where the channels grow."""

    def __init__(self, in_chans: int, out_chans: int) -> None:
        super().__init__()
        grows = in_chans != out_chans
        self.conv1 = nn.Conv2d(in_chans, out_chans, 3, stride=2 if grows else 1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_chans)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_chans, out_chans, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_chans)
        self.shortcut = Shortcut((out_chans - in_chans) // 2) if grows else nn.Identity()
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(y)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """(N, in_chans, H, W) -> (N, num_classes), made for 32x32.

    Args:
        blocks: n, the blocks in each of the three stages.
        num_classes: outputs of the classifier; 0 leaves an identity, which gives the 64 features.
        in_chans: channels of the input.
    """

    def __init__(self, blocks: int, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = _stage(blocks, 16, 16)
        self.layer2 = _stage(blocks, 16, 32)
        self.layer3 = _stage(blocks, 32, 64)
        self.linear = nn.Linear(64, num_classes) if num_classes else nn.Identity()
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean(dim=(2, 3)))


def _stage(blocks: int, in_chans: int, out_chans: int) -> nn.Sequential:
    return nn.Sequential(*(Block(out_chans if index else in_chans, out_chans) for index in range(blocks)))


def cifar_resnet20(*, num_classes: int = 10, in_chans: int = 3) -> CifarResNet:
    """Build the network with 20 layers, n = 3."""
    return CifarResNet(3, num_classes, in_chans)


def cifar_resnet32(*, num_classes: int = 10, in_chans: int = 3) -> CifarResNet:
    """Build the network with 32 layers, n = 5."""
    return CifarResNet(5, num_classes, in_chans)


def cifar_resnet44(*, num_classes: int = 10, in_chans: int = 3) -> CifarResNet:
    """Build the network with 44 layers, n = 7."""
    return CifarResNet(7, num_classes, in_chans)


def cifar_resnet56(*, num_classes: int = 10, in_chans: int = 3) -> CifarResNet:
    """Build the network with 56 layers, n = 9."""
    return CifarResNet(9, num_classes, in_chans)


def cifar_resnet110(*, num_classes: int = 10, in_chans: int = 3) -> CifarResNet:
    """Build the network with 110 layers, n = 18."""
    return CifarResNet(18, num_classes, in_chans)

"""The networks of the tiny backbones."""

from __future__ import annotations

from torch import Tensor, nn


class Tiny(nn.Module):
    """Pictures (N, C, 8, 8): stem, block and classifier, with BatchNorm and dropout."""

    def __init__(self, *, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, num_classes) logits."""
        x = self.layer1(self.norm(self.conv(x)))
        return self.classifier(self.dropout(self.pool(x).flatten(1)))


class TinyPair(nn.Module):
    """Token ids (N, L) and a mask (N, L) of 0 and 1."""

    def __init__(self, *, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(32, 8)
        self.classifier = nn.Linear(8, num_classes)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(N, num_classes) logits."""
        kept = self.embedding(ids.long()) * mask.unsqueeze(-1)
        return self.classifier(kept.sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1))


class TinyText(nn.Module):
    """Texts as bytes (N, L), numbered as `zoo.data.text` does, and a mask (N, L) of 0 and 1."""

    def __init__(self, *, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(258, 8)
        self.layer1 = nn.Sequential(nn.Linear(8, 8), nn.GELU())
        self.classifier = nn.Linear(8, num_classes)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(N, num_classes) logits."""
        return self.classifier(self.pool_tokens(self.layer1(self.embedding(ids)), ids, mask))

    def pool_tokens(self, tokens: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """(N, 8): the mean over what is no padding."""
        kept = mask.unsqueeze(-1).to(tokens.dtype)
        return (tokens * kept).sum(dim=1) / kept.sum(dim=1).clamp(min=1)


class TinyWave(nn.Module):
    """Sound (N, 1, 64), whatever `in_chans` says of pictures."""

    def __init__(self, *, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 8, 9, stride=4)
        self.act = nn.ReLU()
        self.classifier = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, num_classes) logits."""
        return self.classifier(self.act(self.conv(x)).mean(dim=2))


class TinyTable(nn.Module):
    """Rows of a table (N, 5)."""

    def __init__(self, *, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__()
        self.hidden = nn.Linear(5, 8)
        self.act = nn.ReLU()
        self.classifier = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, num_classes) logits."""
        return self.classifier(self.act(self.hidden(x)))


class TinyRows(TinyTable):
    """Rows of a table (N, in_chans)."""

    def __init__(self, *, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__(num_classes=num_classes)
        self.in_chans = in_chans
        self.hidden = nn.Linear(in_chans, 8)

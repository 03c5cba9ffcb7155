"""The PyTorch transfer-learning tutorial's "ConvNet as fixed feature extractor": ten epochs of its loop.

Batches of 4, random crops and flips, SGD 0.001 with momentum 0.9 on the classifier alone, the best epoch on val kept.
The network is in train mode while it trains, as in the tutorial.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from job import Pictures, answer, evaluation_transform, read, timm_model
from torch import nn
from torchvision import transforms

EPOCHS = 10


def count(model: nn.Module, loader: Any) -> int:
    """How many pictures are named rightly."""
    model.eval()
    with torch.no_grad():
        return sum(int((model(x).argmax(1) == y).sum()) for x, y in loader)


def main() -> None:
    """Train and answer."""
    job = read()
    torch.manual_seed(0)
    training = transforms.Compose(
        [
            transforms.RandomResizedCrop(job.size),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(job.mean, job.std),
        ]
    )
    shared = {"batch_size": 4, "shuffle": True, "num_workers": 4}
    train = torch.utils.data.DataLoader(Pictures(job.train, training), **shared)
    val = torch.utils.data.DataLoader(Pictures(job.val, evaluation_transform(job)), **shared)
    model = timm_model(job, len(job.classes))
    head = model.get_classifier()
    for parameter in model.parameters():
        parameter.requires_grad = False
    for parameter in head.parameters():
        parameter.requires_grad = True
    optimizer = torch.optim.SGD(head.parameters(), lr=0.001, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    criterion = nn.CrossEntropyLoss()
    best, kept = -1, None
    for _ in range(EPOCHS):
        model.train()
        for x, y in train:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
        scheduler.step()
        if (right := count(model, val)) > best:
            best, kept = right, copy.deepcopy(model.state_dict())
    model.load_state_dict(kept)
    answer(best, len(job.val))


if __name__ == "__main__":
    main()

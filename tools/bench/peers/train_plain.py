"""A plain PyTorch loop in fp32, as most tutorials write it: batches of 32, AdamW, a DataLoader with two workers."""

from __future__ import annotations

import time

import torch
from job import EPOCHS, Pictures, evaluation_transform, read, timm_model, trained
from torch import nn


def main() -> None:
    """Train and say how fast."""
    job = read()
    torch.manual_seed(0)
    rows = Pictures(job.train, evaluation_transform(job))
    loader = torch.utils.data.DataLoader(rows, batch_size=32, shuffle=True, num_workers=2)
    model = timm_model(job, len(job.classes)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    start = time.perf_counter()
    for _ in range(EPOCHS):
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
    trained(len(job.train) * EPOCHS, time.perf_counter() - start)


if __name__ == "__main__":
    main()

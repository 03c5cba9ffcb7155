"""Hugging Face's Trainer at its own defaults (3 epochs, batches of 8, AdamW 5e-5), with a timm backbone."""

from __future__ import annotations

import tempfile

import numpy as np
import torch
from job import Pictures, answer, evaluation_transform, read, timm_model
from torch import nn
from transformers import Trainer, TrainingArguments


class Classifier(nn.Module):
    """What Trainer wants of a module: keyword arguments in, loss and logits out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """The loss, and (N, C) logits."""
        logits = self.model(pixel_values)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def collate(rows: list[tuple[torch.Tensor, int]]) -> dict[str, torch.Tensor]:
    """A batch under the names that `Classifier` knows."""
    return {"pixel_values": torch.stack([x for x, _ in rows]), "labels": torch.tensor([y for _, y in rows])}


def main() -> None:
    """Train and answer."""
    job = read()
    transform = evaluation_transform(job)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, report_to=[], save_strategy="no", disable_tqdm=True, remove_unused_columns=False, use_cpu=True
        )
        trainer = Trainer(
            Classifier(timm_model(job, len(job.classes))),
            arguments,
            data_collator=collate,
            train_dataset=Pictures(job.train, transform),
        )
        trainer.train()
        found = trainer.predict(Pictures(job.val, transform))
    right = int((np.asarray(found.predictions).argmax(1) == found.label_ids).sum())
    answer(right, len(job.val))


if __name__ == "__main__":
    main()

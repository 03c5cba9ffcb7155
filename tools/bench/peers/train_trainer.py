"""Hugging Face's Trainer at its defaults (batches of 8, AdamW 5e-5), all weights, for as many epochs as all."""

from __future__ import annotations

import tempfile
import time

from hf_trainer import Classifier, collate
from job import EPOCHS, Pictures, evaluation_transform, read, timm_model, trained
from transformers import Trainer, TrainingArguments


def main() -> None:
    """Train and say how fast."""
    job = read()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            remove_unused_columns=False,
            use_cpu=True,
            num_train_epochs=EPOCHS,
        )
        trainer = Trainer(
            Classifier(timm_model(job, len(job.classes))),
            arguments,
            data_collator=collate,
            train_dataset=Pictures(job.train, evaluation_transform(job)),
        )
        start = time.perf_counter()
        trainer.train()
        trained(len(job.train) * EPOCHS, time.perf_counter() - start)


if __name__ == "__main__":
    main()

"""distillation: a student learns from labels and from what a teacher says of every row."""

from __future__ import annotations

from collections.abc import Iterable

import zoo


@zoo.hookimpl
def zoo_strategies() -> Iterable[zoo.Strategy]:
    """The strategy "distillation"."""
    yield zoo.Strategy(
        name="distillation",
        kind="gradient",
        make="zoo_plugins.strategies.distillation.strategy:Distillation",
        needs=("teacher", "unlabelled"),
        options={
            "teacher": None,
            "alpha": 0.9,
            "temperature": 4.0,
            "match": "logits",
            "features": 0.0,
            "augment": None,
            "views": None,
            "cache": True,
            "freeze": "none",
            "unfreeze": "at-once",
            "layer_decay": 1.0,
            "init": "auto",
            "batchnorm": "auto",
            "epochs": None,
            "batch_size": 32,
            "lr": None,
            "weight_decay": 0.01,
            "optimizer": "adamw",
            "momentum": 0.9,
            "schedule": "cosine",
            "clip": 1.0,
            "head": "linear",
            "accumulate": 1,
            "ema": None,
            "early_stop": None,
        },
        summary="Learn from a teacher's soft answers, on rows with and without labels.",
        paper="Hinton, Vinyals & Dean 2015, Distilling the knowledge in a neural network, arXiv:1503.02531",
    )

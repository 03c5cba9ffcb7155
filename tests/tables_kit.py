"""Small tables: rows as mappings, with empty cells, two kinds of text and a column that says nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zoo.data.dataset import Data, Samples, Split
from zoo.data.task import infer_task


class Table(Samples):
    """Rows in memory, numbered as a spreadsheet shows them."""

    kind = "table"

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows = list(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def raw(self, row: int, shorter: int | None = None) -> Mapping[str, Any]:
        return self.rows[row]

    def digest(self, row: int) -> str:
        return hashlib.sha256(json.dumps(sorted(self.rows[row].items())).encode()).hexdigest()

    def location(self, row: int) -> str:
        return f"credit.csv, row {row + 2}"


def split_of(rows: Sequence[Mapping[str, Any]], labels: Any = None, name: str = "train") -> Split:
    """All rows, with targets where labels are given."""
    task, targets = infer_task(labels) if labels is not None else (None, None)
    return Split(name, Table(rows), np.arange(len(rows)), targets, task)


def people(rows: int = 120, seed: int = 0) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows that say "good" or "bad" by age, savings and housing, with some noise."""
    random = np.random.default_rng(seed)
    found, labels = [], []
    for number in range(rows):
        age, savings = random.normal(40, 12), random.exponential(1000)
        housing, owns = str(random.choice(["own", "rent", "free"])), bool(random.random() < 0.4)
        score = (age - 40) / 12 + {"own": 1.0, "rent": -1.0, "free": 0.0}[housing] + owns + random.normal(0, 0.7)
        found.append(
            {
                "age": round(float(age), 1),
                "savings": None if random.random() < 0.2 else round(float(savings)),
                "housing": housing,
                "owns": owns,
                "contract": f"c-{seed}-{number:04}",
                "country": "de",
                "fax": None,
            }
        )
        labels.append("good" if score > 0.4 else "bad")
    return found, labels


def data_of(rows: int = 120, *, labelled: bool = True, seed: int = 0) -> Data:
    """`people` as a data set with train and test."""
    found, labels = people(rows, seed)
    whole = split_of(found, labels if labelled else None)
    cut = rows * 2 // 3
    splits = {
        "train": whole.subset(range(cut)),
        "test": whole.subset(range(cut, rows)).renamed("test"),
    }
    return Data("people", whole.task, splits, divided=True)

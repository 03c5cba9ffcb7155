"""timm's features in fp32 through a DataLoader, then scikit-learn's LogisticRegression: what one writes by hand."""

from __future__ import annotations

import numpy as np
import torch
from job import Job, Pictures, answer, evaluation_transform, read, timm_model
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def features(model: torch.nn.Module, rows: list[tuple[str, int]], job: Job) -> tuple[np.ndarray, np.ndarray]:
    """(N, D) and (N,)."""
    loader = torch.utils.data.DataLoader(Pictures(rows, evaluation_transform(job)), batch_size=32, num_workers=2)
    with torch.no_grad():
        parts = [(model(x).numpy(), y.numpy()) for x, y in loader]
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


def main() -> None:
    """Extract, solve, answer."""
    job = read()
    model = timm_model(job, 0).eval()
    x, y = features(model, job.train, job)
    solved = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x, y)
    x, y = features(model, job.val, job)
    answer(int((solved.predict(x) == y).sum()), len(y))


if __name__ == "__main__":
    main()

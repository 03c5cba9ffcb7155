"""torchvision's own model and `create_feature_extractor`, then LogisticRegression.

No weights of torchvision's are at hand, so the network is random: the time is what is compared.
"""

from __future__ import annotations

import torch
import torchvision
from job import read
from timm_logistic import features
from torchvision.models.feature_extraction import create_feature_extractor


class Flat(torch.nn.Module):
    """The pooled features alone."""

    def __init__(self, arch: str) -> None:
        super().__init__()
        self.body = create_feature_extractor(torchvision.models.get_model(arch, weights=None), {"flatten": "features"})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, D)."""
        return self.body(x)["features"]


def main() -> None:
    """Extract, solve, answer."""
    from job import answer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    job = read()
    torch.manual_seed(0)
    model = Flat(job.arch).eval()
    x, y = features(model, job.train, job)
    solved = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x, y)
    x, y = features(model, job.val, job)
    answer(int((solved.predict(x) == y).sum()), len(y))


if __name__ == "__main__":
    main()

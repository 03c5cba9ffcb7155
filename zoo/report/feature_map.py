"""A map of features: near on it is what the backbone finds alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from torch import Tensor

#: Rows that are drawn at most.
MOST: Final = 1000
#: Fewer rows than this are drawn by their principal components in any case.
FEWEST: Final = 30
#: Principal components that t-SNE starts from.
_COMPONENTS: Final = 50
METHODS: Final = ("tsne", "pca")


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """Places of rows on a plane.

    Attributes:
        rows: (M,) which rows of those given.
        places: (M, 2).
        words: how they were found, and how to read them.
    """

    rows: np.ndarray
    places: np.ndarray
    words: str


def chosen_rows(n: int, kept: list[int], seed: int) -> np.ndarray:
    """At most `MOST` of n rows, sorted: all of `kept`, and of the others some by chance."""
    if n <= MOST:
        return np.arange(n)
    kept = kept[: MOST // 2]
    others = np.setdiff1d(np.arange(n), kept)
    drawn = np.random.RandomState(seed).permutation(others)[: MOST - len(kept)]
    return np.sort(np.concatenate([np.asarray(kept, dtype=np.int64), drawn]))


def lay_out(features: Tensor, rows: np.ndarray, of: int, method: str, seed: int) -> FeatureMap:
    """Lay features out on a plane.

    Args:
        features: (M, D) of the rows.
        rows: (M,) their numbers.
        of: how many rows there are in all.
        method: "tsne" (van der Maaten and Hinton 2008: neighbours stay neighbours, distances between groups mean
            little) or "pca" (the plane of the largest variance).
        seed: of t-SNE.
    """
    x = features.double().numpy()
    x = x - x.mean(axis=0)
    left = f"{len(rows):,} of {of:,} rows, drawn by chance. " if len(rows) < of else ""
    if method == "pca" or len(x) < FEWEST or not np.ptp(x, axis=0).any():
        places, share = _components(x, 2)
        words = f"{left}The two principal components of the features, which hold {share:.0%} of their variance."
        return FeatureMap(rows, places, words)
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    start, _ = _components(x, _COMPONENTS)
    perplexity = min(30.0, (len(x) - 1) / 3)
    with threadpool_limits(1):  # on shared cores its threads wait for each other, and one is enough for so few rows
        places = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(start.astype(np.float32))
    words = (
        f"{left}t-SNE of the features (perplexity {perplexity:g}, seed {seed}): neighbours are alike, but distances "
        "between groups and their sizes mean little."
    )
    return FeatureMap(rows, np.asarray(places, dtype=np.float64), words)


def _components(x: np.ndarray, count: int) -> tuple[np.ndarray, float]:
    """Scores on the first principal components, two at least, and the share of the variance of the first two."""
    if not len(x) or not np.ptp(x, axis=0).any():
        return np.zeros((len(x), 2)), 1.0
    from sklearn.decomposition import PCA

    fitted = PCA(min(count, *x.shape), svd_solver="full" if min(x.shape) <= 2 * count else "randomized", random_state=0)
    scores = fitted.fit_transform(x)
    if scores.shape[1] < 2:
        scores = np.hstack([scores, np.zeros((len(x), 1))])
    return scores, float(fitted.explained_variance_ratio_[:2].sum())

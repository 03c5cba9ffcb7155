"""The vote of the k nearest rows, whatever their order."""

from __future__ import annotations

from typing import Final

from torch import Tensor

#: Similarities closer than this are equal: rounding of fp32 products of unit vectors.
EQUAL: Final = 5e-7


def vote(similar: Tensor, votes: Tensor, k: int, temperature: float) -> Tensor:
    """Weighted mean (N, C) of what the k most similar rows vote for.

    A neighbour of similarity s votes with weight exp(s / T) (Wu et al. 2018). Rows as similar as the k-th share the
    places that are left, so that the outcome does not depend on the order of the rows.

    Args:
        similar: (N, M) cosine similarities; -inf for a row that is left out.
        votes: (M, C).
        k: neighbours, at most the rows that are not left out.
        temperature: T.
    """
    last = similar.topk(k, dim=1).values[:, -1:]
    above, tied = similar > last + EQUAL, (similar - last).abs() <= EQUAL
    places = (k - above.sum(dim=1, keepdim=True)) / tied.sum(dim=1, keepdim=True)
    # The largest is taken off before exp, which changes no share; -inf gives 0.
    closeness = ((similar - similar.amax(dim=1, keepdim=True)) / temperature).exp()
    weights = closeness * (above + tied * places)
    return (weights @ votes) / weights.sum(dim=1, keepdim=True)

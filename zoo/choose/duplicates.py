"""Samples that are there twice: the same bytes, or the same picture in other bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

#: Two pictures are near duplicates where their distance is below this part of the distance that nearest neighbours of
#: this data set usually have, so that sets of alike pictures (digits, X-rays) are not all called duplicates.
NEAR: Final = 0.15
#: And below this (1 - correlation of thumbnails; 1 - cosine of features) in any case.
MOST: Final = {"thumbnail": 0.03, "features": 0.08}
_CHUNK: Final = 512


def exact(digests: list[str]) -> list[tuple[int, int]]:
    """(later, first) for every row whose digest an earlier row has."""
    first: dict[str, int] = {}
    found = []
    for row, digest in enumerate(digests):
        if digest in first:
            found.append((row, first[digest]))
        else:
            first[digest] = row
    return found


def near(vectors: np.ndarray, kind: str, *, skip: set[int]) -> list[tuple[int, int, float]]:
    """(later, earlier, similarity) of rows far closer to each other than neighbours in this data set usually are.

    Of a row's pairs there is the one with its earliest partner, and those that join groups that were apart so far: as
    many as needed to say what belongs together, fewer than two for each row.

    Args:
        vectors: (N, D) thumbnails or features.
        kind: "thumbnail" (compared by correlation) or "features" (by cosine of standardised features).
        skip: rows left out: those that are exact copies of an earlier one, and blank ones.
    """
    rows = np.array([row for row in range(len(vectors)) if row not in skip])
    if len(rows) < 3:
        return []
    unit = _unit(vectors[rows], kind)
    nearest = np.concatenate([part.max(axis=1) for _, part in _similarities(unit)])
    limit = min(MOST[kind], NEAR * float(np.median(1 - nearest)))
    found, group = [], np.arange(len(rows))
    for start, part in _similarities(unit):
        alike = 1 - part <= max(limit, 1e-7)
        for i in np.flatnonzero(alike.any(axis=1)):
            partners = np.flatnonzero(alike[i, : start + i])
            joined, firsts = np.unique(group[partners], return_index=True)
            for j in partners[np.sort(firsts)]:
                found.append((int(rows[start + i]), int(rows[j]), min(1.0, float(part[i, j]))))
            if len(joined) > 1:
                group[np.isin(group, joined)] = joined[0]
            if len(joined):
                group[start + i] = joined[0]
    return found


def leading(pairs: list[tuple[int, int, float]]) -> list[tuple[int, int, float]]:
    """One pair for each later row of a group: with the group's earliest row that it is alike to."""
    best: dict[int, tuple[int, float]] = {}
    for later, earlier, similarity in pairs:
        if later not in best or earlier < best[later][0]:
            best[later] = (earlier, similarity)
    return [(later, earlier, similarity) for later, (earlier, similarity) in sorted(best.items())]


def leaks(pairs: list[tuple[int, int, float]], trained: Callable[[int], bool]) -> list[tuple[int, int, float]]:
    """(judged row, row learned from, similarity) of each row not learned from whose group holds one that is.

    Pairs are joined from the most alike on (Kruskal), so the similarity is that of the weakest pair on the best way
    from one row to the other.

    Args:
        pairs: exact and near ones, in any order of rows.
        trained: whether a row is learned from.
    """
    group: dict[int, int] = {}
    members: dict[int, list[int]] = {}
    learned: dict[int, int | None] = {}
    found = []
    for i, j, similarity in sorted(pairs, key=lambda pair: -pair[2]):
        for row in (i, j):
            if row not in group:
                group[row], members[row], learned[row] = row, [row], row if trained(row) else None
        one, other = group[i], group[j]
        if one == other:
            continue
        for judged, holder, end in ((one, other, j), (other, one, i)):
            source = end if trained(end) else learned[holder]
            if learned[judged] is None and source is not None:
                found += [(row, source, similarity) for row in members[judged]]
        if len(members[one]) < len(members[other]):
            one, other = other, one
        members[one] += members[other]
        group.update(dict.fromkeys(members.pop(other), one))
        known = [row for row in (learned[one], learned[other]) if row is not None]
        learned[one] = min(known, default=None)
    return sorted(found)


def _unit(vectors: np.ndarray, kind: str) -> np.ndarray:
    vectors = vectors.reshape(len(vectors), -1).astype(np.float32)
    vectors = vectors - vectors.mean(axis=1 if kind == "thumbnail" else 0, keepdims=True)
    if kind == "features":
        spread = vectors.std(axis=0, keepdims=True)
        vectors = vectors / np.maximum(spread, np.median(spread))
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _similarities(unit: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, similarities (n, N)) in chunks; a row's similarity to itself is -1."""
    for start in range(0, len(unit), _CHUNK):
        part = unit[start : start + _CHUNK] @ unit.T
        part[np.arange(len(part)), np.arange(start, start + len(part))] = -1
        yield start, part

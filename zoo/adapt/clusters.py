"""Rows that belong together (of one speaker, one patient): intervals and tests that count groups, not rows.

Rows of a group are alike, so that a hundred of them say less than a hundred of different groups. What is drawn, flipped
or left out here is therefore always a whole group. Where every row is a group of its own, all of it is what it would be
for rows.
"""

from __future__ import annotations

from typing import Final

import numpy as np

#: Resamples of a bootstrap, and of a test whose sign flips are too many to go through.
RESAMPLES: Final = 10_000
#: Fewer groups than this say little of other groups: an interval by resampling them is too narrow (Cameron, Gelbach and
#: Miller 2008).
FEW: Final = 10
#: Two things are told apart where a test finds less than this.
LEVEL: Final = 0.05
#: Kinds of groups that are drawn by their numbers; of more, each group is drawn.
_KINDS: Final = 16
#: Groups whose flips are all gone through, 2 to this power.
_FLIPS: Final = 16
#: Steps that the exact distribution of whole numbers may take.
_STEPS: Final = 1 << 28


def clustered(groups: np.ndarray | None) -> np.ndarray | None:
    """Number (N,) of each row's group, counted from 0; None where no two rows are of one group."""
    if groups is None:
        return None
    known, codes = np.unique(groups, return_inverse=True)
    return None if len(known) == len(codes) else codes


def count(groups: np.ndarray | None) -> int | None:
    """How many groups there are; None where no two rows are of one."""
    codes = clustered(groups)
    return None if codes is None else int(codes.max()) + 1


def totals(values: np.ndarray, groups: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Sum (G,) of the values (N,) of each group, and its number of rows."""
    codes = clustered(groups)
    if codes is None:
        return np.asarray(values, dtype=np.float64), np.ones(len(values))
    return np.bincount(codes, weights=values), np.bincount(codes).astype(np.float64)


def bootstrap(values: np.ndarray, groups: np.ndarray | None = None, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean of values (N,), seeded: groups are drawn, with all their rows.

    The bootstrap of Efron (1979); of groups as in Davison and Hinkley (1997, 3.8): the sum of what was drawn over the
    number of its rows. Few groups make it too narrow (see `FEW`), one makes it a point.
    """
    sums, sizes = totals(values, groups)
    generator, n = np.random.default_rng(seed), len(sums)
    kinds, counts = np.unique(sums + 1j * sizes, return_counts=True)  # pairs, sorted far faster than rows of two
    if len(kinds) <= _KINDS:  # groups that are alike are drawn together: the same law, far cheaper
        drawn = generator.multinomial(n, counts / counts.sum(), size=RESAMPLES)
        means = (drawn @ kinds.real) / (drawn @ kinds.imag)
    else:
        means = np.empty(RESAMPLES)
        for i in range(RESAMPLES):
            chosen = generator.integers(0, n, n)
            means[i] = sums[chosen].sum() / sizes[chosen].sum()
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def mean_interval(values: np.ndarray, groups: np.ndarray | None = None) -> tuple[float, float]:
    """95 % interval of the mean of values (N,) by `bootstrap`; where rows have groups, each end the wider one of both.

    What is alike makes no figure surer, and a few groups that happen to be equal do not either.
    """
    low, high = bootstrap(values)
    if clustered(groups) is None:
        return low, high
    drawn = bootstrap(values, groups)
    return min(low, drawn[0]), max(high, drawn[1])


def standard_error(values: np.ndarray, groups: np.ndarray | None = None) -> float:
    """Of the mean of values (N,): the square root of G / (G - 1) sum_g (sum_i (x_gi - mean))^2 / N^2.

    That is Liang and Zeger's (1986) for a mean, with the usual correction for few groups; for groups of one row it is
    s / sqrt(N). It is 0 for a single group, of which nothing is known.
    """
    sums, sizes = totals(np.asarray(values, dtype=np.float64), groups)
    if len(sums) < 2:
        return 0.0
    residuals = sums - sizes * (sums.sum() / sizes.sum())
    return float(np.sqrt(len(sums) / (len(sums) - 1) * np.square(residuals).sum()) / sizes.sum())


def sign_flip_p(differences: np.ndarray, groups: np.ndarray | None = None, seed: int = 0) -> float:
    """Two-sided p that the mean of paired differences (N,) is as far from 0 by chance, whole groups flipped (Fisher).

    If neither of a pair is better, a group's differences are as likely with the other sign. The p is the share of all
    2^G choices of signs whose sum is at least as far from 0: exact, and found without going through them where sums are
    whole numbers. For groups of one row and errors of 0 and 1 that is McNemar's exact test. Other sums are gone through
    one by one; of more than 16 groups, 10,000 seeded choices and the one seen.
    """
    sums = totals(differences, groups)[0]
    seen, sums = abs(float(sums.sum())), np.abs(sums[sums != 0])
    if not len(sums):
        return 1.0
    whole = np.rint(sums)
    if np.array_equal(whole, sums) and len(sums) * whole.sum() <= _STEPS:
        return _exact(whole.astype(np.int64), int(seen))
    least = seen * (1 - 1e-12)  # rounding must not part what is equal
    if len(sums) <= _FLIPS:
        found = np.zeros(1)
        for size in sums:
            found = np.concatenate([found + size, found - size])
        return float((np.abs(found) >= least).mean())
    generator = np.random.default_rng(seed)
    beyond = sum(abs(float(sums @ (2.0 * generator.integers(0, 2, len(sums)) - 1))) >= least for _ in range(RESAMPLES))
    return (1 + beyond) / (1 + RESAMPLES)


def fewest(tests: int) -> int:
    """The fewest groups by which `tests` comparisons, corrected by Holm, can find anything at `LEVEL`.

    The least p of G groups is 2 / 2^G, where all of them agree.
    """
    groups = 1
    while tests * 2.0 ** (1 - groups) >= LEVEL:
        groups += 1
    return groups


def _exact(sizes: np.ndarray, seen: int) -> float:
    """P(|sum of +-sizes| >= seen), by the distribution of the sum of those that are positive."""
    total = int(sizes.sum())
    chances = np.zeros(total + 1)
    chances[0], top = 1.0, 0
    for size in sizes:
        chances[size : top + size + 1] += chances[: top + 1].copy()
        chances[: top + size + 1] /= 2
        top += int(size)
    positive = np.arange(total + 1)
    return float(min(1.0, chances[np.abs(2 * positive - total) >= seen].sum()))

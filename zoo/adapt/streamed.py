"""The same heads for features that do not fit into memory: passes over chunks of rows, sums in float64.

Regression: one pass for the Gram matrix (D, D), whose spectrum gives every ridge solution; a second one for the exact
leave-one-out errors of the whole path.

Classes and labels: one pass for mean and scale. A seeded, stratified sample of the rows, solved in memory, gives the
regulariser and the start: the sample's is taken for as strong a penalty in all (lambda N, scikit-learn's 1 / C), but no
weaker than the weakest that is tried. Samples that are larger and larger, read from where all rows lie, bring the start
nearer at a small part of the price; Newton's method (`zoo.adapt.newton`) then goes to the optimum of all rows in some
passes more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from zoo.adapt import logistic, newton, ridge
from zoo.adapt.folds import NEVER, folds_of_groups
from zoo.adapt.labels import Labels
from zoo.adapt.spectrum import CHUNK, check_features, fold, invert_scale, rotate
from zoo.adapt.stream import Stream
from zoo.adapt.targets import ClassWeight
from zoo.adapt.validation import FOLDS, choose_regularizer, hold_out, normalised
from zoo.data.task import CLASSES, Task

#: Numbers (features, and eight for every output) above which features are streamed: 512 MB in float64.
LARGE: Final = 1 << 26
#: Numbers in the sample that is solved in memory.
SAMPLE: Final = 1 << 24
#: Each sample has so many times the rows of the one before; the last one is no more than all divided by `LAST`.
GROWTH: Final = 8
LAST: Final = 4
#: Norm of the scaled gradient at which a sample is left: what it has not seen moves the optimum farther.
ROUGH: Final = 1e-2
#: Rows for each feature that the scaling is measured on.
MEASURED: Final = 64
#: Features up to which their covariance is measured and decomposed; with more, the sample's in memory is taken.
EIGEN: Final = 4096


def is_large(features: Tensor, task: Task) -> bool:
    """Whether features (N, D) are streamed. Never where D >= N: what is decomposed is (N, N) then, and small."""
    return (
        features.ndim == 2 and features.shape[0] > features.shape[1] and len(features) * _width(features, task) > LARGE
    )


def solve_ridge(
    features: Tensor,
    targets: np.ndarray,
    task: Task,
    regularizer: float | None,
    floor: float,
    *,
    views: int = 1,
    seed: int = 0,
    groups: np.ndarray | None = None,
) -> tuple[nn.Linear, float]:
    """Head and regulariser; None = the one with the least leave-one-out error. See `zoo.adapt.solve.solve`.

    Of rows with groups it is the one with the least error of groups left out, on a seeded sample.
    """
    count = len(features)
    y = torch.from_numpy(targets.reshape(count, task.outputs))
    bias = y.mean(dim=0, dtype=torch.float64)
    shift, total, gram, products = _first(features), torch.zeros(()), torch.zeros(()), torch.zeros(())
    for rows in _slices(features):
        x = features[rows].detach().cpu().double() - shift
        total, gram, products = total + x.sum(dim=0), gram + x.T @ x, products + x.T @ (y[rows].double() - bias)
    _refuse_infinite(gram, features)
    rest = total / count
    covariance = gram / count - torch.outer(rest, rest)
    mean, inverse_scale = shift + rest, invert_scale(shift + rest, covariance.diagonal().clamp_min(0).sqrt(), floor)
    squares, basis = torch.linalg.eigh(covariance * torch.outer(inverse_scale, inverse_scale) * count)
    rank = int((squares > squares[-1] * count * torch.finfo(squares.dtype).eps).sum())
    squares, basis = squares.flip(0)[:rank], basis.flip(1)[:, :rank].contiguous()
    # The targets are centred, so the shift of the features adds nothing.
    moments = basis.T @ (products * inverse_scale[:, None])
    if regularizer is None and groups is not None:
        regularizer = _by_groups(features, y, task, floor, views, seed, groups)
    if regularizer is None:
        shrink = ridge.shrinkage(squares, count, ridge.PATH)
        errors = torch.zeros(len(ridge.PATH), dtype=torch.float64)
        for parts in _samples(features, views):
            x = torch.cat([features[part].detach().cpu().double() for part in parts])
            left = torch.cat([y[part].double() for part in parts]) - bias
            errors += ridge.squared_errors(((x - mean) * inverse_scale) @ basis, left, moments, shrink, count, views)
        regularizer = ridge.PATH[int(errors.argmin())]
    solution = basis @ (moments / (squares + regularizer * count)[:, None])
    return fold(solution, bias, mean, inverse_scale), regularizer


def _by_groups(
    features: Tensor, y: Tensor, task: Task, floor: float, views: int, seed: int, groups: np.ndarray
) -> float | None:
    """The regulariser with the least error of groups left out, on a sample; None where groups cannot be left out."""
    chosen = _sample(len(features), SAMPLE // _width(features, task), y.numpy(), task, views, seed)
    folds = folds_of_groups(None, groups[chosen[: len(chosen) // views].numpy()], FOLDS, seed)
    if (folds == NEVER).all():
        return None
    errors = ridge.leave_folds_out(features[chosen], y[chosen].double(), folds, floor, views=views)
    return ridge.PATH[int(errors.argmin())] * len(chosen) / len(features)


def solve_logistic(
    features: Tensor,
    targets: np.ndarray,
    task: Task,
    regularizer: float | None,
    class_weight: ClassWeight,
    floor: float,
    *,
    views: int = 1,
    seed: int = 0,
    groups: np.ndarray | None = None,
) -> tuple[nn.Linear, float, int]:
    """Head, regulariser, and rows of the sample that chose it where it is None. See `zoo.adapt.solve.solve`."""
    mean, deviation = _moments(features)
    mean = mean.float().double()
    labels = Labels.of(targets, task, class_weight)
    whole = Stream(features, labels, mean, invert_scale(mean, deviation, floor))

    def sample(size: int) -> Stream:
        return whole.sample(_sample(len(features), size, targets, task, views, seed))

    first = sample(SAMPLE // _width(features, task))
    assert first.rows is not None
    x = (features[first.rows].detach().cpu().double() - mean) * whole.inverse_scale
    spectrum, columns, weights = rotate(x, mean, whole.inverse_scale), *first.labels.columns()
    del x
    start = None
    if regularizer is None:
        kept = None if groups is None else groups[first.rows[: len(first) // views].numpy()]
        validation = hold_out(spectrum, columns, weights, softmax=labels.softmax, seed=seed, views=views, groups=kept)
        assert validation is not None  # so large a sample has two rows of some class
        found, solutions = choose_regularizer(validation, finish=False)
        # Never weaker than the weakest that is tried: rows that a plane divides would ask for none at all.
        regularizer = max(found * len(first) / len(whole), ridge.PATH[0])
        start = solutions.mean(dim=1, keepdim=True)
        del validation, solutions
    problem = logistic.Problem(spectrum, columns, normalised(weights[:, None]), labels.softmax)
    start = logistic.solve(problem, regularizer * len(whole) / len(first), start, rough=logistic.ROUGH)
    solution = torch.cat([spectrum.basis @ start[:-1, 0], start[-1:, 0]])
    known = (spectrum.basis, spectrum.squares / len(first)) if features.shape[1] > EIGEN else None
    del problem, spectrum, columns, weights
    size, enough = len(first), MEASURED * features.shape[1]
    stream = first
    while stream is not whole:
        size *= GROWTH
        stream, tolerance = (sample(size), ROUGH) if size <= len(whole) // LAST else (whole, newton.TOLERANCE)
        penalty = regularizer * len(whole) / len(stream)
        seen = stream if len(stream) <= enough else sample(enough)
        scaling = newton.Scaling.measure(seen, solution, penalty, known)
        solution = newton.descend(stream, penalty, solution, scaling, tolerance)
    weight, bias = solution[:-1], solution[-1]
    if task.kind == CLASSES and not labels.softmax:
        weight, bias = torch.cat([-weight, weight], dim=1) / 2, torch.cat([-bias, bias]) / 2
    return fold(weight, bias, mean, whole.inverse_scale), regularizer, len(first)


def _sample(count: int, size: int, targets: np.ndarray, task: Task, views: int, seed: int) -> Tensor:
    """Sorted numbers of about `size` of `count` rows, every view of a sample with it; each class in proportion."""
    samples = count // views
    share = min(1.0, size / count)
    codes = targets[:samples] if task.kind == CLASSES else np.zeros(samples, dtype=np.int64)
    chosen = torch.from_numpy(sample_rows(codes, share, seed))
    return torch.cat([chosen + view * samples for view in range(views)])


def sample_rows(codes: np.ndarray, share: float, seed: int) -> np.ndarray:
    """A seeded sample of rows, sorted: `share` of each class, rounded down, but one row at least.

    Args:
        codes: (N,) class of each row.
        share: from 0 to 1.
        seed: of the choice.
    """
    generator = np.random.default_rng(seed)
    members = (generator.permutation(np.flatnonzero(codes == code)) for code in np.unique(codes))
    return np.sort(np.concatenate([rows[: max(1, int(len(rows) * share))] for rows in members]))


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (D,), float64, in one pass: sums of what is left after a shift."""
    shift, total, squares = _first(features), torch.zeros(()), torch.zeros(())
    for rows in _slices(features):
        x = features[rows].detach().cpu().double() - shift
        total, squares = total + x.sum(dim=0), squares + x.square().sum(dim=0)
    _refuse_infinite(squares, features)
    rest = total / len(features)
    return shift + rest, (squares / len(features) - rest.square()).clamp_min(0).sqrt()


def _first(features: Tensor) -> Tensor:
    return features[: max(1, CHUNK // features.shape[1])].detach().cpu().double().mean(dim=0)


def _refuse_infinite(sums: Tensor, features: Tensor) -> None:
    if not bool(sums.isfinite().all()):
        check_features(features)  # says which


def _slices(features: Tensor, outputs: int = 1) -> Iterator[slice]:
    """Consecutive rows, `CHUNK` numbers of features or outputs at most."""
    step = max(1, CHUNK // max(features.shape[1], outputs))
    return (slice(start, start + step) for start in range(0, len(features), step))


def _samples(features: Tensor, views: int) -> Iterator[list[slice]]:
    """The same consecutive samples in every view."""
    samples, step = len(features) // views, max(1, CHUNK // features.shape[1] // views)
    for start in range(0, samples, step):
        stop = min(start + step, samples)
        yield [slice(view * samples + start, view * samples + stop) for view in range(views)]


def _width(features: Tensor, task: Task) -> int:
    """Numbers that a row counts for."""
    return features.shape[1] + 8 * task.outputs

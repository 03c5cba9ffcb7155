"""The same heads for features that do not fit into memory: passes over chunks of rows, sums in float64.

Regression: one pass for the Gram matrix (D, D), whose spectrum gives every ridge solution; a second one for the exact
leave-one-out errors of the whole path.

Classes and labels: one pass for mean and scale, one for the covariance, which is the preconditioner. A seeded sample of
the rows, solved in memory, gives the start and the regulariser: the sample's is taken for as strong a penalty in all
(lambda N, scikit-learn's 1 / C). Newton's method with conjugate gradients then goes to the optimum of all rows, one
pass a product with the Hessian; some dozens of passes do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, one_hot

from zoo.adapt import logistic, ridge
from zoo.adapt.folds import NEVER, folds_of_groups
from zoo.adapt.spectrum import CHUNK, Spectrum, check_features, fold, invert_scale, rotate
from zoo.adapt.targets import ClassWeight
from zoo.adapt.validation import FOLDS, choose_regularizer, hold_out, normalised
from zoo.data.task import CLASSES, Task
from zoo.errors import TrainingError

#: Numbers (features, and eight for every output) above which features are streamed: 512 MB in float64.
LARGE: Final = 1 << 26
#: Numbers in the sample that is solved in memory.
SAMPLE: Final = 1 << 24
#: Norm of the preconditioned gradient at which a fit is finished; probabilities are then right to about 1e-6.
TOLERANCE: Final = 1e-6
#: Features up to which a pass for their covariance pays: it saves about half of the passes that follow.
EIGEN: Final = 4096
STEPS: Final = 50
PRODUCTS: Final = 100


def is_large(features: Tensor, task: Task) -> bool:
    """Whether features (N, D) are streamed. Never where D >= N: what is decomposed is (N, N) then, and small."""
    return features.ndim == 2 and features.shape[0] > features.shape[1] and _size(features, task) > LARGE


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
    chosen = _sample(features, y.numpy(), task, views, seed)
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
    labels = _labels(targets, task, class_weight)
    stream = Stream(features, labels, mean, invert_scale(mean, deviation, floor))
    chosen = _sample(features, targets, task, views, seed)
    x = (features[chosen].detach().cpu().double() - mean) * stream.inverse_scale
    spectrum, columns, weights = rotate(x, mean, stream.inverse_scale), *labels.take(chosen)
    start = None
    if regularizer is None:
        kept = None if groups is None else groups[chosen[: len(chosen) // views].numpy()]
        validation = hold_out(spectrum, columns, weights, softmax=labels.softmax, seed=seed, views=views, groups=kept)
        assert validation is not None  # so large a sample has two rows of some class
        found, solutions = choose_regularizer(validation, finish=False)
        regularizer, start = found * len(chosen) / len(features), solutions.mean(dim=1, keepdim=True)
    problem = logistic.Problem(spectrum, columns, normalised(weights[:, None]), labels.softmax)
    start = logistic.solve(problem, regularizer, start, rough=logistic.ROUGH)
    curvature = problem.curvature(problem.probabilities(problem.scores(start)))[:, 0]
    if features.shape[1] <= EIGEN:
        scaling = Scaling.exact(stream.covariance(), curvature[-1], regularizer)
    else:
        scaling = Scaling.of(spectrum, curvature, regularizer)
    weight, bias = _descend(stream, regularizer, spectrum.basis @ start[:-1, 0], start[-1, 0], scaling)
    if task.kind == CLASSES and not labels.softmax:
        weight, bias = torch.cat([-weight, weight], dim=1) / 2, torch.cat([-bias, bias]) / 2
    return fold(weight, bias, mean, stream.inverse_scale), regularizer, len(chosen)


@dataclass(frozen=True)
class Labels:
    """What the rows are, and how much they count.

    Attributes:
        codes: (N,) class indices for the softmax; else (N, C) of 0 and 1.
        present, absent: (C,) weight of a row that has the class (the label), and of one that has it not (not for the
            softmax); scaled so that all rows weigh 1 together.
        softmax: classes exclude each other.
    """

    codes: Tensor
    present: Tensor
    absent: Tensor
    softmax: bool

    def take(self, rows: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Labels (n, C) of 0 and 1, and weights (n, 1) or (n, C), both float64."""
        codes = self.codes[rows]
        if self.softmax:
            return one_hot(codes, len(self.present)).double(), self.present[codes][:, None]
        return codes.double(), torch.where(codes > 0, self.present, self.absent)


@dataclass(frozen=True)
class Stream:
    """Rows of a logistic regression, read chunk by chunk.

    Attributes:
        features: (N, D), raw.
        labels: of the rows.
        mean, inverse_scale: (D,), by which features are standardised.
    """

    features: Tensor
    labels: Labels
    mean: Tensor
    inverse_scale: Tensor

    def loss(self, solution: Tensor, regularizer: float) -> tuple[float, Tensor]:
        """Weighted mean loss + regularizer ||W||^2 / 2, and its gradient (D + 1, C).

        Args:
            solution: (D + 1, C) weights for standardised features, and biases.
            regularizer: of the weights.
        """
        losses = []

        def derivative(scores: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
            if self.labels.softmax:
                logs = scores.log_softmax(dim=1)
                losses.append(-float((labels * logs * weights).sum()))
                return (logs.exp() - labels) * weights
            losses.append(-float(((labels * scores + logsigmoid(-scores)) * weights).sum()))
            return (scores.sigmoid() - labels) * weights

        gradient = self._pass([solution], derivative) + _penalty(solution, regularizer)
        return sum(losses) + regularizer / 2 * float(solution[:-1].square().sum()), gradient

    def covariance(self) -> Tensor:
        """(D, D) of the standardised features; products are fp32, as it only guides."""
        total = torch.zeros(len(self.mean), len(self.mean), dtype=torch.float64)
        for rows in _slices(self.features):
            x = ((self.features[rows].detach().cpu().double() - self.mean) * self.inverse_scale).float()
            total += x.T @ x
        return total / len(self.features)

    def bend(self, solution: Tensor, direction: Tensor, regularizer: float) -> Tensor:
        """The Hessian at a solution times a direction, both (D + 1, C)."""

        def derivative(scores: Tensor, moved: Tensor, _: Tensor, weights: Tensor) -> Tensor:
            if self.labels.softmax:
                p = scores.softmax(dim=1)
                return p * (moved - (p * moved).sum(dim=1, keepdim=True)) * weights
            return scores.sigmoid() * scores.neg().sigmoid() * moved * weights

        return self._pass([solution, direction], derivative) + _penalty(direction, regularizer)

    def _pass(self, at: list[Tensor], derivative: Callable[..., Tensor]) -> Tensor:
        """Sum over all rows of derivative(scores at each, labels, weights), pulled back to (D + 1, C)."""
        raw = [one[:-1] * self.inverse_scale[:, None] for one in at]
        offsets = [one[-1] - self.mean @ weight for one, weight in zip(at, raw, strict=True)]
        down, across = torch.zeros_like(raw[0]), torch.zeros_like(offsets[0])
        for rows in _slices(self.features, len(across)):
            x = self.features[rows].detach().cpu().double()
            scores = [torch.addmm(offset, x, weight) for offset, weight in zip(offsets, raw, strict=True)]
            pull = derivative(*scores, *self.labels.take(rows))
            down.addmm_(x.T, pull)
            across += pull.sum(dim=0)
        return torch.cat([(down - torch.outer(self.mean, across)) * self.inverse_scale[:, None], across[None]])


def _penalty(solution: Tensor, regularizer: float) -> Tensor:
    """Gradient of regularizer ||W||^2 / 2; 0 for the biases in the last row."""
    return torch.cat([regularizer * solution[:-1], torch.zeros_like(solution[-1:])])


@dataclass(frozen=True)
class Scaling:
    """A symmetric map of solutions (D + 1, C), after which the Hessian is about the identity.

    Attributes:
        basis: (D, R) orthonormal.
        along: (R, C) factors along the basis.
        beside: (C,) factors of what lies outside its span.
        bias: (C,) factors of the biases.
    """

    basis: Tensor
    along: Tensor
    beside: Tensor
    bias: Tensor

    @classmethod
    def of(cls, spectrum: Spectrum, curvature: Tensor, regularizer: float) -> Scaling:
        """From the diagonal (R + 1, C) of the mean loss's Hessian in the spectrum's basis."""
        curved = (curvature[:-1] + regularizer).clamp_min(1e-12)
        beside = curved.amin(dim=0) if len(curved) else torch.full_like(curvature[-1], regularizer)
        return cls(spectrum.basis, curved.rsqrt(), beside.rsqrt(), curvature[-1].clamp_min(1e-12).rsqrt())

    @classmethod
    def exact(cls, covariance: Tensor, bends: Tensor, regularizer: float) -> Scaling:
        """From the covariance (D, D) of all rows and the mean second derivatives (C,) of their losses."""
        values, basis = torch.linalg.eigh(covariance)
        curved = (values.clamp_min(0)[:, None] * bends + regularizer).clamp_min(1e-12)
        return cls(basis, curved.rsqrt(), curved.amin(dim=0).rsqrt(), bends.clamp_min(1e-12).rsqrt())

    def __call__(self, solution: Tensor) -> Tensor:
        """Scale a solution (D + 1, C)."""
        weight = solution[:-1]
        scaled = self.basis @ ((self.basis.T @ weight) * (self.along - self.beside)) + weight * self.beside
        return torch.cat([scaled, solution[-1:] * self.bias])


def _descend(
    stream: Stream, regularizer: float, weight: Tensor, bias: Tensor, scaling: Scaling
) -> tuple[Tensor, Tensor]:
    """The optimum, by Newton's method with conjugate gradients, from a start near it."""
    solution = torch.cat([weight, bias[None]])
    loss, gradient = stream.loss(solution, regularizer)
    for _ in range(STEPS):
        slope = scaling(gradient)
        size = float(slope.norm())
        if size <= TOLERANCE:
            return solution[:-1], solution[-1]
        step = _newton_step(stream, regularizer, solution, slope, scaling, min(0.25, size**0.5))
        length, falls = 1.0, float((gradient * step).sum())
        while True:
            candidate = solution + length * step
            found, next_gradient = stream.loss(candidate, regularizer)
            # The slack is what rounding does to a loss.
            if found <= loss + 1e-4 * length * falls + 1e-13 * (1 + abs(loss)):
                break
            length /= 2
        solution, loss, gradient = candidate, found, next_gradient
    raise TrainingError(
        f"logistic regression did not reach its optimum in {STEPS} steps over {len(stream.features):,} rows",
        why=f"The regularizer {regularizer:g} may be so small that the optimum is almost infinitely far away.",
        hint="Give a larger regularizer.",
    )


def _newton_step(
    stream: Stream, regularizer: float, solution: Tensor, slope: Tensor, scaling: Scaling, accuracy: float
) -> Tensor:
    """Solve Hessian @ step = -gradient to a relative accuracy; `slope` is the scaled gradient."""
    step, residual = torch.zeros_like(slope), -slope
    search, power = residual, float(residual.square().sum())
    enough = power * accuracy**2
    for _ in range(PRODUCTS):
        image = scaling(stream.bend(solution, scaling(search), regularizer))
        length = power / float((search * image).sum())
        step, residual = step + length * search, residual - length * image
        last, power = power, float(residual.square().sum())
        if power <= enough:
            break
        search = residual + power / last * search
    return scaling(step)


def _labels(targets: np.ndarray, task: Task, class_weight: ClassWeight) -> Labels:
    given = torch.ones(task.outputs, dtype=torch.float64)
    if isinstance(class_weight, Mapping):
        named = {str(name): float(weight) for name, weight in class_weight.items()}
        given = torch.tensor([named.get(name, 1.0) for name in task.classes], dtype=torch.float64)
    if task.kind == CLASSES and task.outputs > 2:
        codes = torch.from_numpy(targets.astype(np.int64))
        counts = torch.bincount(codes, minlength=task.outputs).double()
        present = 1 / counts if class_weight == "balanced" else given
        present = present / (present * counts).sum()
        return Labels(codes, present, torch.zeros_like(present), True)
    absent = torch.ones_like(given)
    if task.kind == CLASSES:
        targets, absent, given = targets.reshape(-1, 1), given[:1], given[1:]
    codes = torch.from_numpy(targets)
    counts = codes.sum(dim=0, dtype=torch.float64)
    present = 1 / counts if class_weight == "balanced" else given
    absent = 1 / (len(codes) - counts) if class_weight == "balanced" else absent
    total = present * counts + absent * (len(codes) - counts)
    return Labels(codes, present / total, absent / total, False)


def _sample(features: Tensor, targets: np.ndarray, task: Task, views: int, seed: int) -> Tensor:
    """Sorted numbers of a seeded sample of the rows, every view of a sample with it; each class in proportion."""
    samples = len(features) // views
    share = min(1.0, SAMPLE / _size(features, task))
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


def _size(features: Tensor, task: Task) -> int:
    return len(features) * (features.shape[1] + 8 * task.outputs)

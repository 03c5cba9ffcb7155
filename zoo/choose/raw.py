"""What can be learned from raw samples without any backbone: a classic model for each kind of sample."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch
from scipy.fft import dct
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from torch import Tensor

from zoo.adapt import ridge
from zoo.adapt.solve import choose_strength, solve_head
from zoo.adapt.spectrum import decompose
from zoo.adapt.targets import target_columns
from zoo.catalog.spec import Preprocessing
from zoo.data import table
from zoo.data.dataset import Split
from zoo.data.loading import batches
from zoo.data.spectrogram import LogMel
from zoo.data.task import CLASSES, REGRESSION, Task
from zoo.models.network import Network

#: Pictures are shrunk to at most this many pixels a side before raw pixels are learned from.
SIDE: Final = 32
#: Least scale of a number, as a part of the median (see `zoo.adapt.spectrum.standardise`).
FLOOR: Final = 1.0
#: Mel-frequency cepstral coefficients of a frame.
COEFFICIENTS: Final = 20
#: A word: one sign of Chinese or Japanese, or a run of letters and digits.
WORD: Final = r"(?u)[\u3040-\u30ff\u3400-\u9fff]|\w+"
#: Words and pairs that are learned from, the most frequent.
MOST_WORDS: Final = 1 << 18
#: Directions of words in which texts are compared.
DIRECTIONS: Final = 128
#: What the strength of the regularisation of words is chosen from.
STRENGTHS: Final = [0.1, 1.0, 10.0, 100.0]


def raw_outputs(network: Network, train: Split, test: Split, task: Task) -> Tensor | None:
    """(N, C) float64 outputs on the test rows of a classic model that learned from the training rows.

    Of pictures and arrays ridge regression on the network's input (pictures shrunk), its strength chosen by
    leave-one-out; of recordings logistic regression on their cepstra; of texts logistic regression (for numbers ridge
    regression) on their words; of tables gradient-boosted trees on their columns. None where the input is several
    tensors.
    """
    return _MODELS.get(train.samples.kind, _ridge)(network, train, test, task)


def cepstra(split: Split) -> Tensor:
    """(N, 40): mean and standard deviation over time of each recording's cepstral coefficients.

    The orthonormal cosine transform of mel powers in decibels (Davis and Mermelstein 1980), as librosa's `mfcc`.
    """
    mel = LogMel()
    rows = []
    for index in range(len(split)):
        decibels = 10 * np.log10(np.maximum(mel.powers(split.raw(index)), 1e-10))
        found = dct(np.maximum(decibels, decibels.max() - mel.range_db), axis=0, norm="ortho")[:COEFFICIENTS]
        rows.append(np.concatenate([found.mean(axis=1), found.std(axis=1)]))
    return torch.from_numpy(np.stack(rows)).float()


def _ridge(network: Network, train: Split, test: Split, task: Task) -> Tensor | None:
    x, new = _numbers(network, train), _numbers(network, test)
    if x is None or new is None:
        return None
    columns = target_columns(x, np.asarray(train.targets), task)
    if task.kind != REGRESSION:
        columns = 2 * columns - 1
    spectrum = decompose(x, FLOOR)
    strength = choose_strength(spectrum, x, columns, FLOOR, train.groups)
    head = spectrum.fold(*ridge.solve(spectrum, columns, strength))
    with torch.no_grad():
        return head(new).double()


def _numbers(network: Network, split: Split) -> Tensor | None:
    """(N, D): the network's input, pictures shrunk; None where it is several tensors."""
    rows = []
    for batch in batches(split, network.reader(), 64):
        if not isinstance(batch.x, Tensor):
            return None
        x = batch.x.float()
        if x.ndim == 4 and max(x.shape[2:]) > SIDE:
            x = torch.nn.functional.interpolate(x, size=SIDE, mode="area")
        rows.append(x.flatten(1))
    return torch.cat(rows)


def _probe_cepstra(network: Network, train: Split, test: Split, task: Task) -> Tensor:
    with torch.no_grad():
        return solve_head(cepstra(train), np.asarray(train.targets), task, groups=train.groups)(cepstra(test)).double()


def _trees(network: Network, train: Split, test: Split, task: Task) -> Tensor | None:
    """Histogram gradient boosting (scikit-learn's, seeded), with categories and empty cells as they are.

    Options are at their defaults but one: a leaf needs a twentieth of the rows, at least 2 and at most the usual 20. Of
    forty rows trees with leaves of 20 learn next to nothing, which would be no baseline. Columns are typed by these
    rows: what the network knows of columns may come with its weights.
    """
    if not isinstance(train.raw(0), Mapping):
        return _ridge(network, train, test, task)
    read = table.TableReader(fitted := table.fit(Preprocessing(kind=table.KIND), train)[0], fitted.input_size[0])
    (x, categories), (new, _) = read.numbers(train), read.numbers(test)
    codes = np.asarray(train.targets)
    options = {
        "categorical_features": categories if categories.any() else None,
        "min_samples_leaf": min(20, max(2, len(train) // 20)),
        "random_state": 0,
    }
    if task.kind == CLASSES:
        return _log_chances(HistGradientBoostingClassifier(**options), x, codes, new, task.outputs)
    if task.kind == REGRESSION:
        made = [HistGradientBoostingRegressor(**options).fit(x, column).predict(new) for column in codes.T]
        return torch.from_numpy(np.stack(made, axis=1))
    made = [
        _log_chances(HistGradientBoostingClassifier(**options), x, column.astype(np.int64), new, 2)
        for column in codes.T
    ]
    return torch.stack([one[:, 1] - one[:, 0] for one in made], dim=1)


def _log_chances(model: Any, x: np.ndarray, codes: np.ndarray, new: np.ndarray, outputs: int) -> Tensor:
    """(N, C) logarithms of the chances of each class; a class that was never seen is next to impossible."""
    chances = np.zeros((len(new), outputs))
    if len(seen := np.unique(codes)) == 1:
        chances[:, seen] = 1
    else:
        fitted = model.fit(x, codes)
        chances[:, fitted.classes_] = fitted.predict_proba(new)
    return torch.from_numpy(np.log(np.maximum(chances, 1e-12)))


def vectorizer() -> Any:
    """TF-IDF of words and pairs of words, the counts on a logarithmic scale (scikit-learn's).

    Signs of languages that write no blanks are words of their own.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=WORD, max_features=MOST_WORDS)


def texts(split: Split) -> list[str]:
    """The raw samples of a split of texts."""
    return [str(split.raw(index)) for index in range(len(split))]


def words(found: list[str], seed: int) -> Tensor:
    """(N, D): what each text says, as its place among the main directions of the words of all (Deerwester et al. 1990).

    Args:
        found: the texts.
        seed: of the decomposition.
    """
    from sklearn.decomposition import TruncatedSVD

    try:
        x = vectorizer().fit_transform(found)
    except ValueError:  # not one word in all of them
        return torch.zeros((len(found), 1))
    most = min(DIRECTIONS, *x.shape) - 1
    if most < 1:
        return torch.from_numpy(x.toarray()).float()
    return torch.from_numpy(TruncatedSVD(most, random_state=seed).fit_transform(x)).float()


def _words(network: Network, train: Split, test: Split, task: Task) -> Tensor | None:
    """By logistic regression, its strength chosen by five-fold cross-validation where each class has rows for it."""
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
    from sklearn.multiclass import OneVsRestClassifier

    targets = np.asarray(train.targets)
    try:
        words = vectorizer()
        x = words.fit_transform(texts(train))
    except ValueError:  # not one word in all of them
        return None
    new = words.transform(texts(test))
    if task.kind == REGRESSION:
        folds = KFold(min(5, len(targets)), shuffle=True, random_state=0)
        found = GridSearchCV(Ridge(), {"alpha": STRENGTHS}, cv=folds) if len(targets) > 10 else Ridge()
        return torch.from_numpy(np.asarray(found.fit(x, targets).predict(new), dtype=np.float64).reshape(len(test), -1))
    model = LogisticRegression(max_iter=2000, random_state=0)
    if task.kind != CLASSES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a label that all rows have, or none
            scores = OneVsRestClassifier(model).fit(x, targets).decision_function(new)
        return torch.from_numpy(np.asarray(scores, dtype=np.float64).reshape(len(test), -1))
    present, counts = np.unique(targets, return_counts=True)
    outputs = np.full((len(test), task.outputs), -np.inf)
    if len(present) == 1:
        outputs[:, present[0]] = 0.0
        return torch.from_numpy(outputs)
    found = model
    if counts.min() >= 5:
        folds = StratifiedKFold(5, shuffle=True, random_state=0)
        found = GridSearchCV(model, {"C": STRENGTHS}, cv=folds, scoring="neg_log_loss")
    outputs[:, present] = found.fit(x, targets).predict_log_proba(new)
    return torch.from_numpy(outputs)


#: Kind of sample -> what learns from it; `_ridge` for any other.
_MODELS: Final[Mapping[str, Callable[[Network, Split, Split, Task], Tensor | None]]] = {
    "audio": _probe_cepstra,
    "table": _trees,
    "text": _words,
}

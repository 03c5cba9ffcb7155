"""What can be learned from raw samples without any backbone: a classic model for each kind of sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch
from scipy.fft import dct
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from torch import Tensor

from zoo.adapt import ridge
from zoo.adapt.solve import solve_head
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
#: Mel-frequency cepstral coefficients of a frame.
COEFFICIENTS: Final = 20


def raw_outputs(network: Network, train: Split, test: Split, task: Task) -> Tensor | None:
    """(N, C) float64 outputs on the test rows of a classic model that learned from the training rows.

    Of pictures and arrays ridge regression on the network's input (pictures shrunk), its strength chosen by
    leave-one-out; of recordings logistic regression on their cepstra; of tables gradient-boosted trees on their
    columns. None where the input is several tensors.
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
    spectrum = decompose(x, 1.0)
    strength = ridge.PATH[int(ridge.leave_one_out(spectrum, columns).argmin())]
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
        return solve_head(cepstra(train), np.asarray(train.targets), task)(cepstra(test)).double()


def _trees(network: Network, train: Split, test: Split, task: Task) -> Tensor | None:
    """Histogram gradient boosting (scikit-learn's, as it comes, seeded), with categories and empty cells as they are.

    It types the columns by its own rows: what the network knows of columns may come with its weights.
    """
    if not isinstance(train.raw(0), Mapping):
        return _ridge(network, train, test, task)
    read = table.TableReader(fitted := table.fit(Preprocessing(kind=table.KIND), train)[0], fitted.input_size[0])
    (x, categories), (new, _) = read.numbers(train), read.numbers(test)
    codes = np.asarray(train.targets)
    options = {"categorical_features": categories if categories.any() else None, "random_state": 0}
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


#: Kind of sample -> what learns from it; `_ridge` for any other.
_MODELS: Final[Mapping[str, Callable[[Network, Split, Split, Task], Tensor | None]]] = {
    "audio": _probe_cepstra,
    "table": _trees,
}

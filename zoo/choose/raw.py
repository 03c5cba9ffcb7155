"""What can be learned from raw samples without any backbone: the numbers that a classic model would take."""

from __future__ import annotations

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor

from zoo.data.dataset import Split
from zoo.data.loading import batches
from zoo.data.preprocess import reader
from zoo.data.spectrogram import LogMel
from zoo.models.network import Network

#: Pictures are shrunk to at most this many pixels a side before raw pixels are learned from.
SIDE = 32
#: Mel-frequency cepstral coefficients of a frame.
COEFFICIENTS = 20


def raw_numbers(network: Network, split: Split) -> Tensor | None:
    """(N, D): of recordings their cepstra; else the network's input, pictures shrunk; None where it is several."""
    if split.samples.kind == "audio":
        return cepstra(split)
    rows = []
    for batch in batches(split, reader(network.preprocessing, network.in_chans), 64):
        if not isinstance(batch.x, Tensor):
            return None
        x = batch.x.float()
        if x.ndim == 4 and max(x.shape[2:]) > SIDE:
            x = torch.nn.functional.interpolate(x, size=SIDE, mode="area")
        rows.append(x.flatten(1))
    return torch.cat(rows)


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

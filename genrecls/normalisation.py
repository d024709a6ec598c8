"""Bringing what models see to a common scale: by figures of the training clips alone, or of each fragment."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

SMALLEST_VARIANCE = 1e-12
"""Below it a bin never changes, and is divided by 1."""


@dataclass(frozen=True)
class Normalisation:
    """x -> (x - mean) / deviation for each bin, then by figures of the fragment where `method` says so.

    mean, deviation: float32 (bins,); (1,) for the waveform. method: as in the settings. "clip" gives each bin of a
    fragment (or its waveform) mean 0 and deviation 1; "clip-minmax" brings the fragment as a whole to [0, 1]. A bin,
    or a fragment, that never changes becomes 0.
    """

    mean: torch.Tensor
    deviation: torch.Tensor
    method: str = "corpus"

    def to(self, device: torch.device) -> "Normalisation":
        """The same on another device."""
        return replace(self, mean=self.mean.to(device), deviation=self.deviation.to(device))

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows of fragments (batch, length, bins), of any float type -> float32 of the same shape."""
        scaled = (rows.to(torch.float32) - self.mean).div_(self.deviation)
        if self.method == "clip":
            centred = scaled - scaled.mean(dim=1, keepdim=True)
            variance = centred.square().mean(dim=1, keepdim=True)
            return centred / torch.where(variance > SMALLEST_VARIANCE, variance, 1.0).sqrt()
        if self.method == "clip-minmax":
            lowest, highest = scaled.amin(dim=(1, 2), keepdim=True), scaled.amax(dim=(1, 2), keepdim=True)
            return (scaled - lowest) / torch.where(highest > lowest, highest - lowest, 1.0)
        return scaled


def identity(bins: int, method: str = "none") -> Normalisation:
    """The values as they are, but for what `method` does to each fragment."""
    return Normalisation(torch.zeros(bins), torch.ones(bins), method)


def corpus(stretches: Iterable[NDArray[Any]], bins: int) -> Normalisation:
    """Mean and deviation of each bin over all rows of the stretches, each (rows, bins) of any float type.

    Summed in float64 on the CPU, stretch by stretch in the order given, so that the figures are the same
    wherever the training runs. A bin that never changes gets the deviation 1.
    """
    count = 0
    total = np.zeros(bins)
    squares = np.zeros(bins)
    for stretch in stretches:
        values = stretch.astype(np.float64)
        count += len(values)
        total += values.sum(axis=0)
        squares += np.square(values).sum(axis=0)
    mean = total / count
    variance = np.maximum(squares / count - np.square(mean), 0)
    deviation = np.where(variance > SMALLEST_VARIANCE, np.sqrt(variance), 1.0)
    return Normalisation(torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(deviation.astype(np.float32)))

"""Bringing features to a common scale, by figures of the training clips alone."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True)
class Normalisation:
    """x -> (x - mean) / deviation for each bin. mean, deviation: float32 (bins,)."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def to(self, device: torch.device) -> "Normalisation":
        """The same on another device."""
        return Normalisation(self.mean.to(device), self.deviation.to(device))

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """(…, bins) of any float type -> float32 of the same shape."""
        return (features.to(torch.float32) - self.mean) / self.deviation


def identity(bins: int) -> Normalisation:
    """The values as they are."""
    return Normalisation(torch.zeros(bins), torch.ones(bins))


def corpus(stretches: Iterable[NDArray[np.float16]], bins: int) -> Normalisation:
    """Mean and deviation of each bin over all frames of the stretches, each (frames, bins).

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
    deviation = np.where(variance > 1e-12, np.sqrt(variance), 1.0)
    return Normalisation(torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(deviation.astype(np.float32)))

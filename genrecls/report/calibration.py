"""How well probabilities keep their word: of the clips predicted with 80 %, are 80 % right?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 10


@dataclass(frozen=True)
class Reliability:
    """Clips by the probability of the predicted genre, in `BINS` bins of equal width over 0 to 1.

    clips: int64 (bins,). confidence: mean probability, accuracy: share that is right, both float64 (bins,), NaN where a
    bin is empty. error: the expected calibration error, 0 to 1, the mean of |accuracy - confidence| weighted by clips
    (Naeini, Cooper and Hauskrecht 2015; Guo et al. 2017, equation 3).
    """

    clips: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    error: float


def reliability(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> Reliability:
    """confidence: (clips,), probability of the predicted genre, 0 to 1. right: (clips,). At least one clip."""
    # A probability on an edge belongs to the bin below it, as in Guo et al.
    which = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    clips = np.bincount(which, minlength=BINS)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(which, weights=confidence, minlength=BINS) / clips
        share = np.bincount(which, weights=right.astype(np.float64), minlength=BINS) / clips
    filled = clips > 0
    error = float((clips[filled] * np.abs(share - mean)[filled]).sum() / clips.sum())
    return Reliability(clips, mean, share, error)

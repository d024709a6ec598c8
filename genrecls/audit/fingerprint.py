"""What a recording sounds like in few bytes, such that a copy of it is recognised.

Energies of bands on the mel scale, their logarithm's difference between neighbouring bands and then over time, as in
Haitsma and Kalker, "A Highly Robust Audio Fingerprinting System" (ISMIR 2002), kept as numbers where they keep signs.
A gain falls out of the first difference, an equaliser or another encoder out of the second. The Fourier transform is
taken at the file's own rate, so that nothing is resampled and copies at two rates come out alike.
"""

import numpy as np
import scipy.fft
import scipy.ndimage
from numpy.typing import NDArray

from genrecls.audio import Samples

VERSION = 1
"""One more where the same samples give another fingerprint."""
FRAMES_PER_SECOND = 20
DIFFERENCES = 32
"""Values of a frame: between 33 bands."""
MAX_SECONDS = 600
"""Of a longer recording the first ten minutes are kept."""

Fingerprint = NDArray[np.int8]
NOTHING: Fingerprint = np.zeros((0, DIFFERENCES), np.int8)
"""The fingerprint of what is too short to have one."""

_LOWEST, _HIGHEST = 100.0, 5500.0
"""Hz: what every encoder keeps, and a recording at 11,025 Hz has."""
_WINDOW = 0.05
_STEPS = 2
"""Windows for each frame."""
_SMOOTHING = 0.4
_APART = 2
"""Frames before and after whose difference is taken: 0.2 s apart."""
_FLOOR = 0.04
"""Energy added, as a share of the band's mean: -14 dB, under which noise and encoders change everything."""
_SCALE = 32
"""Of a difference in nats as int8: up to 4 nats (17 dB) either way."""
_PIECE = 2000


def fingerprint(samples: Samples, rate: int) -> Fingerprint:
    """int8 (frames, 32) of samples float32 (n,) at `rate` Hz, 20 frames a second; no frames for less than 0.3 s."""
    samples = samples[: MAX_SECONDS * rate]
    energies = _energies(samples, rate)
    smooth = np.hanning(round(_SMOOTHING * FRAMES_PER_SECOND * _STEPS) + 2)[1:-1]
    energies = scipy.ndimage.convolve1d(energies, smooth / smooth.sum(), axis=0, mode="nearest")[::_STEPS]
    if len(energies) <= 2 * _APART:
        return NOTHING
    mean = energies.mean(axis=0)
    levels = np.log(energies / np.where(mean > 0, mean, 1) + _FLOOR)
    slopes = levels[:, :-1] - levels[:, 1:]
    change = slopes[2 * _APART :] - slopes[: -2 * _APART]
    quantised: Fingerprint = np.clip(np.round(change * _SCALE), -127, 127).astype(np.int8)
    return quantised


def _energies(samples: Samples, rate: int) -> NDArray[np.float64]:
    """Energy of each band in each window: float64 (windows, 33)."""
    size = max(2, round(_WINDOW * rate))
    if len(samples) < size:
        return np.zeros((0, DIFFERENCES + 1))
    count = (len(samples) - size) * FRAMES_PER_SECOND * _STEPS // rate + 1
    starts = np.arange(count) * rate // (FRAMES_PER_SECOND * _STEPS)
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)
    window = np.hanning(size + 2)[1:-1].astype(np.float32)
    transformed = scipy.fft.next_fast_len(size, real=True)
    bands = _filters(transformed, rate)
    made = [
        np.abs(scipy.fft.rfft(frames[starts[first : first + _PIECE]] * window, transformed, axis=1)) ** 2 @ bands
        for first in range(0, count, _PIECE)
    ]
    return np.concatenate(made).astype(np.float64)


def _filters(size: int, rate: int) -> NDArray[np.float32]:
    """Triangles on the HTK mel scale over the bins of a Fourier transform: float32 (size // 2 + 1, 33)."""
    edges = 700 * (10 ** (np.linspace(_mel(_LOWEST), _mel(_HIGHEST), DIFFERENCES + 3) / 2595) - 1)
    bins = np.fft.rfftfreq(size, 1 / rate)[:, None]
    rising = (bins - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - bins) / np.diff(edges)[1:]
    triangles: NDArray[np.float32] = np.clip(np.minimum(rising, falling), 0, None).astype(np.float32)
    return triangles


def _mel(hertz: float) -> float:
    return 2595 * float(np.log10(1 + hertz / 700))

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

from genrecls import exact
from genrecls.audio import Samples

VERSION = 2
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
    smooth = _hann(round(_SMOOTHING * FRAMES_PER_SECOND * _STEPS))
    energies = scipy.ndimage.convolve1d(energies, smooth / smooth.sum(), axis=0, mode="nearest")[::_STEPS]
    if len(energies) <= 2 * _APART:
        return NOTHING
    mean = energies.mean(axis=0)
    levels = exact.log(energies / np.where(mean > 0, mean, 1) + _FLOOR)
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
    window = _hann(size).astype(np.float32)
    transformed = scipy.fft.next_fast_len(size, real=True)
    bands = _filters(transformed, rate)
    made = np.empty((count, len(bands)))
    for first in range(0, count, _PIECE):
        spectra = scipy.fft.rfft(frames[starts[first : first + _PIECE]] * window, transformed, axis=1)
        power = np.square(spectra.real) + np.square(spectra.imag)
        for number, (bins, weights) in enumerate(bands):
            made[first : first + _PIECE, number] = (power[:, bins] * weights).sum(axis=1)
    return made


def _hann(size: int) -> NDArray[np.float64]:
    """The symmetric window without its two zeros, (size,)."""
    window: NDArray[np.float64] = 0.5 - 0.5 * exact.cosine(np.arange(1, size + 1) / (size + 1))
    return window


def _filters(size: int, rate: int) -> list[tuple[slice, NDArray[np.float32]]]:
    """33 triangles on the HTK mel scale over the bins of a Fourier transform: which bins, and float32 weights."""
    edges = 700 * (exact.power_of_ten(np.linspace(_mel(_LOWEST), _mel(_HIGHEST), DIFFERENCES + 3) / 2595) - 1)
    bins = np.fft.rfftfreq(size, 1 / rate)[:, None]
    rising = (bins - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - bins) / np.diff(edges)[1:]
    triangles = np.clip(np.minimum(rising, falling), 0, None).astype(np.float32)
    # In bands, because a matrix product is summed in another order on another processor.
    made = []
    for weights in triangles.T:
        taken = np.flatnonzero(weights)
        which = slice(int(taken[0]), int(taken[-1]) + 1) if taken.size else slice(0, 0)
        made.append((which, weights[which]))
    return made


def _mel(hertz: float) -> float:
    return 2595 / exact.LN_10 * float(exact.log(1 + hertz / 700))

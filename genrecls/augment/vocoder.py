"""Time stretching by a phase vocoder, in NumPy."""

import numpy as np
from numpy.typing import NDArray

from genrecls import exact
from genrecls.audio import Samples

WINDOW = 2048
HOP = 512
_BLOCK = 256
"""Frames that are transformed together, so that an hour of audio needs no more memory than a minute."""


def stretch(samples: Samples, length: int) -> Samples:
    """samples float32 (n,) at the same pitch but `length` samples long, float32 (length,).

    Each frame that is put out is taken from its place in the input and turned by the phases that continue the frame
    before it: those of the spectrum's peaks, measured one hop back in the input (Puckette 1995), and around each peak
    all by the same angle (Laroche and Dolson 1999). A vocoder that turns each frequency by itself, as torchaudio's
    does, takes as much as half of the level away. All sums are in double precision, and there is no trigonometry in
    it, whose last bit would be the processor's.
    """
    frames = -(-length // HOP) + 1
    places = np.rint(np.arange(frames) * HOP * (len(samples) / length)).astype(np.int64)
    padded = np.pad(samples.astype(np.float64), (WINDOW // 2 + HOP, WINDOW + HOP))
    window = 0.5 - 0.5 * exact.cosine(np.arange(WINDOW) / WINDOW)
    made = np.zeros((frames - 1) * HOP + WINDOW)
    weight = np.zeros_like(made)
    before: NDArray[np.complex128] | None = None
    for start in range(0, frames, _BLOCK):
        taken = places[start : start + _BLOCK, None] + np.arange(WINDOW)
        one_hop_back = np.fft.rfft(padded[taken] * window)
        spectra = np.fft.rfft(padded[taken + HOP] * window)
        for i in range(len(spectra)):
            if before is not None:
                turn = _turn(before, one_hop_back[i])[_nearest_peak(_magnitude(spectra[i]))]
                spectra[i] = _times(spectra[i], turn)
            before = spectra[i]
        for i, frame in enumerate(np.fft.irfft(spectra, WINDOW) * window):
            at = (start + i) * HOP
            made[at : at + WINDOW] += frame
            weight[at : at + WINDOW] += window**2
    inside = slice(WINDOW // 2, WINDOW // 2 + length)
    return (made[inside] / weight[inside]).astype(np.float32)


def _turn(before: NDArray[np.complex128], one_hop_back: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """For each frequency the unit number by which its phase one hop back becomes that of the frame put out before."""
    turned = _times(before, one_hop_back.conj())
    size = _magnitude(turned)
    made, known = np.ones_like(turned), size > 0
    made.real[known], made.imag[known] = turned.real[known] / size[known], turned.imag[known] / size[known]
    return made


# NumPy's own product and magnitude of complex numbers round once or twice, as the processor has it.
def _times(a: NDArray[np.complex128], b: NDArray[np.complex128]) -> NDArray[np.complex128]:
    made = np.empty_like(a)
    made.real = a.real * b.real - a.imag * b.imag
    made.imag = a.real * b.imag + a.imag * b.real
    return made


def _magnitude(a: NDArray[np.complex128]) -> NDArray[np.float64]:
    magnitude: NDArray[np.float64] = np.sqrt(np.square(a.real) + np.square(a.imag))
    return magnitude


def _nearest_peak(magnitudes: NDArray[np.float64]) -> NDArray[np.int64]:
    """For each frequency the nearest one that is above its two neighbours on either side; itself where none is."""
    inner = magnitudes[2:-2]
    higher = (inner > magnitudes[1:-3]) & (inner >= magnitudes[3:-1])
    peaks = np.flatnonzero(higher & (inner > magnitudes[:-4]) & (inner >= magnitudes[4:])) + 2
    each = np.arange(len(magnitudes))
    if not peaks.size:
        return each
    nearest: NDArray[np.int64] = peaks[np.searchsorted((peaks[1:] + peaks[:-1]) / 2, each)]
    return nearest

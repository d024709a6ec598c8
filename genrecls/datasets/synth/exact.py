"""Arithmetic whose result has the same bits on every machine.

IEEE 754 fixes the results of +, -, x, / and of rounding, but not those of sin, exp, log or pow, nor the order
in which a dot product is summed: those differ in the last bit from one processor to the next. So everything
here is made of elementwise sums and products in float64 and of integers. `genrecls.exact` has more precise functions;
these have the terms that the corpus was first rendered with, and another term would change its samples.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from genrecls.exact import polynomial

Signal = NDArray[np.float64]

LN_2 = 0.6931471805599453
OCTAVES_PER_DECIBEL = 1 / 6.020599913279624
# 2 ** (i / 12): written out because pow() is one of the functions that differ.
_SEMITONES = (
    1.0,
    1.0594630943592953,
    1.122462048309373,
    1.189207115002721,
    1.2599210498948732,
    1.3348398541700344,
    1.4142135623730951,
    1.4983070768766815,
    1.5874010519681994,
    1.681792830507429,
    1.7817974362806785,
    1.8877486253633868,
)


def _taylor(factor: float, terms: int) -> tuple[float, ...]:
    """factor ** n / n! for n below `terms`."""
    coefficients = [1.0]
    for n in range(1, terms):
        coefficients.append(coefficients[-1] * factor / n)
    return tuple(coefficients)


_EXP2 = _taylor(LN_2, 10)
_TURN = _taylor(2 * math.pi, 14)
_SINE = tuple(_TURN[n] * (-1.0 if n % 4 == 3 else 1.0) for n in range(1, 14, 2))


def sine(cycles: Signal) -> Signal:
    """sin(2 pi x) of a phase in cycles (any shape), to within 1e-7."""
    distance = cycles - 0.25
    distance -= np.rint(distance)
    quarter = 0.25 - np.abs(distance)  # in [-0.25, 0.25], with the sine of `cycles`
    return quarter * polynomial(_SINE, quarter * quarter)


def exp2(x: Signal) -> Signal:
    """2 ** x (any shape), to within 1e-8 of it."""
    whole = np.floor(x)
    return np.ldexp(polynomial(_EXP2, x - whole), whole.astype(np.int32))


def gain(decibels: float) -> float:
    """The amplitude ratio of a level in decibels."""
    return float(exp2(np.array([decibels * OCTAVES_PER_DECIBEL]))[0])


def frequency(pitch: int) -> float:
    """Hz of a MIDI note number, equal temperament, 69 being 440 Hz."""
    octave, semitone = divmod(pitch - 69, 12)
    return math.ldexp(440.0 * _SEMITONES[semitone], octave)


def decay(samples: int, half_life: float) -> Signal:
    """An exponential decay from 1 that halves every `half_life` samples: float64 (samples,)."""
    return exp2(np.arange(samples, dtype=np.float64) * (-1.0 / half_life))


def filtered(signal: Signal, taps: Sequence[float]) -> Signal:
    """`signal` (samples,) through a finite impulse response of odd length, centred: same length."""
    half = len(taps) // 2
    padded = np.zeros(len(signal) + 2 * half)
    padded[half : half + len(signal)] = signal
    out = np.zeros_like(signal)
    block = 16384  # keeps the three arrays of the inner loop in the processor's cache
    product = np.empty(block)
    for start in range(0, len(signal), block):
        part = out[start : start + block]
        view = product[: len(part)]
        for delay, tap in enumerate(reversed(taps)):
            np.multiply(padded[start + delay : start + delay + len(part)], tap, out=view)
            part += view
    return out


def equaliser(gains: Sequence[float]) -> tuple[float, ...]:
    """Taps of a linear-phase filter with these amplitudes at equal steps from 0 Hz to half the sample rate.

    Frequency sampling (2n - 1 taps for n gains) under a Hann window.
    """
    count = 2 * len(gains) - 1
    offset = np.arange(count) - (len(gains) - 1)
    response = np.full(count, gains[0])
    for band in range(1, len(gains)):
        response += 2 * gains[band] * sine(band * offset / count + 0.25)
    window = 0.5 + 0.5 * sine(offset / (count + 1) + 0.25)
    return tuple(float(tap) for tap in response * window / count)


def upsampled(signal: Signal) -> Signal:
    """`signal` (samples,) at twice its rate: float64 (2 * samples,), by a windowed sinc over 16 neighbours."""
    offset = np.arange(-8, 8) + 0.5
    window = 0.5 + 0.5 * sine(offset / 17 + 0.25)
    taps = window * sine(offset / 2) / (np.pi * offset)  # sin(pi x) / (pi x) half way between two samples
    padded = np.concatenate([np.zeros(7), signal, np.zeros(8)])
    out = np.empty(2 * len(signal))
    out[0::2] = signal
    between = np.zeros_like(signal)
    for delay, tap in enumerate(taps):
        between += tap * padded[delay : delay + len(signal)]
    out[1::2] = between
    return out

"""Pitched sounds: single-cycle waves of an artist's own making, read at the pitch of the note."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from genrecls.datasets.synth.draws import Draws
from genrecls.datasets.synth.exact import Signal, decay, exp2, frequency, gain, sine

RATE = 22_050
"""Samples a second of everything that is rendered (some clips are resampled at the end)."""

PARTIALS = 32
LONGEST = 8 * RATE
"""Samples of the longest note."""

_CYCLE = 4096  # samples of a single-cycle wave; with nearest-neighbour reading the error is below -60 dB
_CYCLE_BITS = 12
_ONE_CYCLE = sine(np.arange(_CYCLE) / _CYCLE)
_HIGHEST_PARTIAL = 0.45 * RATE
# Waves are made for these numbers of partials, the most that stay below the highest one allowed.
_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


def _series(power: int, slope: float, *, odd_only: bool = False) -> tuple[float, ...]:
    """Amplitudes slope ** h / h ** power of the partials h from 1, the even ones silent if asked."""
    amplitudes, falling = [], 1.0
    for h in range(1, PARTIALS + 1):
        falling *= slope
        amplitudes.append(0.0 if odd_only and h % 2 == 0 else falling / (h if power == 1 else h * h))
    return tuple(amplitudes)


@dataclass(frozen=True)
class Family:
    """A kind of instrument. partials: amplitudes. attack, release: seconds. half_life: seconds, 0 if it sustains."""

    partials: tuple[float, ...]
    attack: float
    half_life: float
    release: float


FAMILIES: dict[str, Family] = {
    "saw": Family(_series(1, 0.97), 0.006, 0.0, 0.03),
    "square": Family(_series(1, 0.98, odd_only=True), 0.004, 0.0, 0.02),
    "triangle": Family(_series(2, 1.0, odd_only=True), 0.006, 0.0, 0.03),
    "sine": Family((1.0, 0.08, 0.03), 0.010, 0.0, 0.05),
    "pluck": Family(_series(1, 0.82), 0.003, 0.16, 0.05),
    "guitar": Family(_series(1, 0.92), 0.003, 0.30, 0.06),
    "epiano": Family((1.0, 0.30, 0.08, 0.02, 0.10, 0.02, 0.06), 0.004, 0.45, 0.08),
    "organ": Family((1.0, 0.8, 0.5, 0.6, 0.1, 0.3, 0.05, 0.25), 0.010, 0.0, 0.04),
    "flute": Family((1.0, 0.30, 0.15, 0.06, 0.03), 0.050, 0.0, 0.06),
    "reed": Family((0.7, 0.35, 1.0, 0.4, 0.7, 0.3, 0.35, 0.2, 0.2, 0.1), 0.025, 0.0, 0.04),
    "brass": Family((0.6, 1.0, 0.9, 0.7, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.08), 0.035, 0.0, 0.05),
    "strings": Family(_series(1, 0.88), 0.110, 0.0, 0.18),
}


class Voice:
    """One artist's instrument: a family with partials, envelope and tuning of its own."""

    def __init__(self, draws: Draws, role: str, family: Family) -> None:
        colour = 12.0 * (draws.many(f"{role} partials", len(family.partials)) - 0.5)
        slope = draws.between(f"{role} slope", 0.86, 1.02)
        level, partials = 1.0, []
        for amplitude, decibels in zip(family.partials, colour, strict=True):
            partials.append(amplitude * level * gain(float(decibels)))
            level *= slope
        self._partials = tuple(partials)
        self._attack = max(32, int(RATE * family.attack * draws.between(f"{role} attack", 0.6, 2.2)))
        self._release = int(RATE * family.release * draws.between(f"{role} release", 0.6, 2.0))
        self._half_life = RATE * family.half_life * draws.between(f"{role} half-life", 0.6, 1.7)
        self._bright_half_life = RATE * draws.between(f"{role} brightness half-life", 0.03, 0.4)
        cents = draws.between(f"{role} tuning", -15.0, 15.0)
        width = max(0.0, draws.between(f"{role} chorus", -10.0, 12.0))
        self._ratios = tuple(
            float(ratio) for ratio in exp2(np.array([cents, cents + width] if width else [cents]) / 1200.0)
        )
        self._waves: dict[int, tuple[Signal, Signal]] = {}

    @cached_property
    def _loudness(self) -> Signal:
        if not self._half_life:
            return np.full(LONGEST, 1.0)
        return decay(LONGEST, self._half_life)

    @cached_property
    def _brightness(self) -> Signal:
        return decay(LONGEST, self._bright_half_life)

    def _wave(self, hertz: float) -> tuple[Signal, Signal]:
        """The dull wave for this pitch, and what makes it bright: float64 (_CYCLE,) each."""
        size = max(size for size in _SIZES if size == 1 or size * hertz < _HIGHEST_PARTIAL)
        if size not in self._waves:
            dull, bright, power, falling = np.zeros(_CYCLE), np.zeros(_CYCLE), 0.0, 1.0
            for number, amplitude in enumerate(self._partials[:size], 1):
                wave = amplitude * _ONE_CYCLE[(number * np.arange(_CYCLE)) % _CYCLE]
                dull += falling * wave
                bright += (1.0 - falling) * wave
                power += amplitude * amplitude
                falling *= 0.75
            scale = 0.3 / math.sqrt(power)
            self._waves[size] = dull * scale, bright * scale
        return self._waves[size]

    def note(self, pitch: int, held: int) -> Signal:
        """A note of this MIDI number, held for so many samples and then released: float64 (samples,)."""
        held = min(max(held, self._attack), LONGEST - self._release)
        samples = held + self._release
        hertz = frequency(pitch)
        dull, bright = self._wave(hertz)
        sound = np.zeros(samples)
        for ratio in self._ratios:
            place = _places(hertz * ratio, samples)
            sound += dull[place]
            sound += bright[place] * self._brightness[:samples]
        sound *= self._loudness[:samples]
        sound[: self._attack] *= np.arange(self._attack) / self._attack
        sound[held:] *= np.arange(self._release, 0, -1) / max(1, self._release)
        return sound


def _places(hertz: float, samples: int) -> NDArray[np.int64]:
    """Where in a single-cycle wave each sample falls, in fixed point: int64 (samples,)."""
    step = int(hertz / RATE * 2.0**32)
    return (np.arange(0, samples * step, step, dtype=np.int64)[:samples] >> (32 - _CYCLE_BITS)) & (_CYCLE - 1)

"""Other performances of a clip: faster, slower, higher, lower. Too dear for each step, so rendered beforehand.

A phase vocoder, and a resampling by torchaudio. What is drawn depends on the clip and the variant's number alone, never
on a run's seed, so that runs share what is rendered.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from genrecls import audio
from genrecls.audio import Samples
from genrecls.augment.vocoder import HOP, WINDOW, stretch
from genrecls.compute import one_thread
from genrecls.config import AugmentSettings
from genrecls.seeding import name_key, uniform

_MAX_DENOMINATOR = 512
"""Of the resampling: a pitch or speed is met within 1/1024, 1.7 cents."""
PARAMETERS: dict[str, Any] = {
    "version": 1,
    "window": WINDOW,
    "hop": HOP,
    "max_denominator": _MAX_DENOMINATOR,
}
"""Everything here that the samples of a variant depend on besides its settings."""


@dataclass(frozen=True)
class Variation:
    """How a variant differs. stretch: factor of the length at the same pitch. semitones: of the pitch at the same
    length. speed: factor of tempo and pitch together."""

    stretch: float = 1.0
    semitones: float = 0.0
    speed: float = 1.0


def variation(settings: AugmentSettings, clip: str, number: int) -> Variation:
    """What makes a clip's variant of this number, from 0. clip: its id.

    Factors are uniform on a logarithmic scale from 1 / (1 + strength) to 1 + strength, semitones within +-strength.
    """

    def amount(name: str, probability: float) -> float | None:
        apply, u = (float(uniform(0, f"augment.{name}.{part}", 0, key, number)) for part in ("apply", "amount"))
        return 2 * u - 1 if apply < probability else None

    key = name_key(clip)
    stretch = amount("stretch", settings.stretch_probability)
    pitch = amount("pitch", settings.pitch_probability)
    speed = amount("speed", settings.speed_probability)
    return Variation(
        stretch=1.0 if stretch is None else (1 + settings.stretch) ** stretch,
        semitones=0.0 if pitch is None else pitch * settings.pitch,
        speed=1.0 if speed is None else (1 + settings.speed) ** speed,
    )


def vary(samples: Samples, wanted: Variation) -> Samples:
    """A clip float32 (n,) as the variation wants it, float32 (round(n x stretch / speed),).

    Computed on one CPU thread whatever the caller's setting.
    """
    if wanted == Variation():
        return samples
    # Resampling by `ratio` raises the pitch and shortens; stretching beforehand makes up for what it shortens too much.
    ratio = Fraction(2 ** (wanted.semitones / 12) * wanted.speed).limit_denominator(_MAX_DENOMINATOR)
    length = max(1, round(len(samples) * wanted.stretch / wanted.speed))
    before = max(1, round(len(samples) * wanted.stretch / wanted.speed * ratio))
    stretched = samples if before == len(samples) else stretch(samples, before)
    with one_thread():
        made = audio.resample(stretched, ratio.numerator, ratio.denominator)
    return np.pad(made[:length], (0, max(0, length - len(made))))

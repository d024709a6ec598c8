"""Other performances of a clip: faster, slower, higher, lower. Too dear for each step, so rendered beforehand.

A phase vocoder, and a resampling by torchaudio. What is drawn depends on the clip and the variant's number alone, never
on a run's seed, so that runs share what is rendered.
"""

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from genrecls import audio, exact
from genrecls.audio import Samples
from genrecls.augment.draws import asked, chosen
from genrecls.augment.vocoder import HOP, WINDOW, stretch
from genrecls.augment.wave import add_white_noise, amplify, wave_amounts, wave_draws
from genrecls.compute import one_thread
from genrecls.config import AugmentSettings
from genrecls.seeding import name_key, uniform

_MAX_DENOMINATOR = 512
"""Of the resampling: a pitch or speed is met within 1/1024, 1.7 cents."""
_PARAMETERS: dict[str, Any] = {"version": 1, "window": WINDOW, "hop": HOP, "max_denominator": _MAX_DENOMINATOR}


@dataclass(frozen=True)
class Variation:
    """How a variant differs. stretch: factor of the length at the same pitch. semitones: of the pitch at the same
    length. speed: factor of tempo and pitch together. gain_db, noise_snr_db, noise_key: as in `wave_amounts`."""

    stretch: float = 1.0
    semitones: float = 0.0
    speed: float = 1.0
    gain_db: float = 0.0
    noise_snr_db: float = math.inf
    noise_key: int = 0


@dataclass(frozen=True)
class Variant:
    """A variant of every clip. number: from 0. sound: whether gain and noise are part of it, too.

    They are where a model takes no waveform, on which they would be fresh in each step.
    """

    settings: AugmentSettings
    number: int
    sound: bool

    @property
    def parameters(self) -> dict[str, Any]:
        """What the samples of a variant depend on besides the clip's, for a cache's key."""
        kinds = ("stretch", "pitch", "speed", *(("gain", "noise") if self.sound else ()))
        begins = tuple(kind for kind in kinds if getattr(self.settings, f"{kind}_probability"))
        settings = {name: value for name, value in self.settings.values().items() if name.startswith(begins)}
        return {**_PARAMETERS, "number": self.number, "settings": settings}

    def variation(self, clip: str) -> Variation:
        """How it differs from the clip of this id.

        Factors are uniform on a logarithmic scale from 1 / (1 + strength) to 1 + strength, semitones within +-strength.
        """
        settings, key = self.settings, np.array([name_key(clip)], dtype=np.uint64)

        def draw(stream: str) -> NDArray[np.float64]:
            return uniform(0, stream, 0, key, self.number)

        def amount(name: str, probability: float) -> float:
            drawn = asked(draw, name, "amount")
            return float(chosen(drawn, name, probability, 2 * drawn[f"{name}.amount"] - 1, 0.0)[0])

        made = Variation(
            stretch=_power(1 + settings.stretch, amount("stretch", settings.stretch_probability)),
            semitones=amount("pitch", settings.pitch_probability) * settings.pitch,
            speed=_power(1 + settings.speed, amount("speed", settings.speed_probability)),
        )
        if not self.sound:
            return made
        here = replace(settings, wave_mask_probability=0.0)
        amounts = wave_amounts(wave_draws(here, draw), here, 0)
        return replace(made, **{name: values[0].item() for name, values in amounts.items()})

    def __call__(self, samples: Samples, clip: str) -> Samples:
        """The variant of the clip of this id, whose samples are float32 (n,)."""
        return vary(samples, self.variation(clip))


def _power(base: float, exponent: float) -> float:
    return float(exact.exp(exponent * exact.log(base)))


def vary(samples: Samples, wanted: Variation) -> Samples:
    """A clip float32 (n,) as the variation wants it, float32 (round(n x stretch / speed),).

    Computed on one CPU thread whatever the caller's setting.
    """
    with one_thread():
        made = _other_length_and_pitch(samples, wanted)
        if wanted.gain_db or math.isfinite(wanted.noise_snr_db):
            wave = amplify(torch.from_numpy(made)[None], np.array([wanted.gain_db]))
            key = np.array([wanted.noise_key], dtype=np.uint64)
            made = add_white_noise(wave, np.array([wanted.noise_snr_db]), key)[0].numpy()
    return made


def _other_length_and_pitch(samples: Samples, wanted: Variation) -> Samples:
    if (wanted.stretch, wanted.semitones, wanted.speed) == (1, 0, 1):
        return samples
    # Resampling by `ratio` raises the pitch and shortens; stretching beforehand makes up for what it shortens too much.
    ratio = Fraction(_power(2, wanted.semitones / 12) * wanted.speed).limit_denominator(_MAX_DENOMINATOR)
    length = max(1, round(len(samples) * wanted.stretch / wanted.speed))
    before = max(1, round(len(samples) * wanted.stretch / wanted.speed * ratio))
    stretched = samples if before == len(samples) else stretch(samples, before)
    made = audio.resample(stretched, ratio.numerator, ratio.denominator)
    return np.pad(made[:length], (0, max(0, length - len(made))))

"""Unpitched sounds: a tone that falls, filtered noise, or both, each with a decay."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from genrecls.datasets.synth.draws import CORPUS_SEED, Draws
from genrecls.datasets.synth.exact import Signal, decay, gain, sine
from genrecls.datasets.synth.instruments import RATE
from genrecls.seeding import hash64, name_key

_NOISE_SAMPLES = 1 << 18


@lru_cache(maxsize=1)
def noise() -> Signal:
    """White noise in [-1, 1), always the same: float64 (2 ** 18,)."""
    bits = hash64(CORPUS_SEED, name_key("synth/noise"), np.arange(_NOISE_SAMPLES))
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1.0


@dataclass(frozen=True)
class Drum:
    """tone: Hz it ends on, level, half-life in s. sweep: Hz above that it starts on. noise: level, half-life in s.

    order: differences taken of the noise (0 white, 2 bright). attack: s. bursts: how often the noise is struck.
    """

    tone: tuple[float, float, float] = (200.0, 0.0, 0.01)
    sweep: float = 0.0
    noise: tuple[float, float] = (0.0, 0.01)
    order: int = 1
    attack: float = 0.0
    bursts: int = 1


DRUMS: dict[str, Drum] = {
    "kick": Drum(tone=(50.0, 1.0, 0.075), sweep=130.0, noise=(0.12, 0.004)),
    "snare": Drum(tone=(185.0, 0.45, 0.030), sweep=60.0, noise=(0.55, 0.055)),
    "clap": Drum(noise=(0.55, 0.040), bursts=3),
    "rim": Drum(tone=(1650.0, 0.7, 0.009), noise=(0.15, 0.004)),
    "hat": Drum(noise=(0.22, 0.016), order=2),
    "openhat": Drum(noise=(0.22, 0.090), order=2),
    "shaker": Drum(noise=(0.20, 0.022), order=2, attack=0.025),
    "ride": Drum(tone=(3400.0, 0.06, 0.120), noise=(0.14, 0.140), order=2),
    "cymbal": Drum(noise=(0.22, 0.300)),
    "tambourine": Drum(tone=(6700.0, 0.10, 0.040), noise=(0.20, 0.060), order=2),
}


class Kit:
    """One artist's drums: tuned, damped and balanced its own way."""

    def __init__(self, draws: Draws) -> None:
        self._draws = draws
        self._strokes: dict[str, Signal] = {}

    def stroke(self, name: str) -> Signal:
        """One stroke on a drum of DRUMS at full force: float64 (samples,)."""
        if name not in self._strokes:
            self._strokes[name] = self._render(name, DRUMS[name])
        return self._strokes[name]

    def _render(self, name: str, drum: Drum) -> Signal:
        draws = self._draws
        length = draws.between(f"{name} length", 0.55, 1.8)
        hertz, tone_level, tone_half_life = drum.tone
        noise_level, noise_half_life = drum.noise
        tone_half_life *= RATE * length
        noise_half_life *= RATE * length
        samples = int(6 * max(tone_half_life if tone_level else 0.0, noise_half_life))
        sound = np.zeros(samples)
        if tone_level:
            tune = draws.between(f"{name} tune", 0.8, 1.3) / RATE
            fall = RATE * draws.between(f"{name} sweep", 0.008, 0.025)
            falling = decay(samples, fall)
            # The integral of a falling frequency: a half-life of `fall` is a time constant of fall / ln 2.
            cycles = hertz * tune * np.arange(samples) + drum.sweep * tune * fall * 1.4426950408889634 * (1.0 - falling)
            sound += tone_level * sine(cycles) * decay(samples, tone_half_life)
        if noise_level:
            start = int(draws.one(f"{name} noise") * (_NOISE_SAMPLES - samples - 4))
            rough = noise()[start : start + samples + drum.order]
            for _ in range(drum.order):
                rough = rough[1:] - draws.between(f"{name} brightness", 0.5, 1.0) * rough[:-1]
            rough = noise_level * rough * decay(samples, noise_half_life)
            gap = int(RATE * draws.between(f"{name} bursts", 0.008, 0.016))
            for burst in range(drum.bursts):
                sound[burst * gap :] += rough[: samples - burst * gap]
        attack = max(8, int(RATE * drum.attack))
        sound[:attack] *= np.arange(attack) / attack
        fade = samples // 4
        sound[-fade:] *= np.arange(fade, 0, -1) / fade
        return sound * gain(draws.between(f"{name} level", -4.0, 4.0))

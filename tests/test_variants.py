"""Rendered variants have the length and the pitch they should, and are a matter of clip and number alone."""

from typing import Any

import numpy as np
import pytest
import torch

from genrecls.augment import Variant, Variation, vary
from genrecls.config import AugmentSettings

RATE = 22050


def sine(hertz: float, seconds: float = 2.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def pitch(samples: np.ndarray) -> float:
    """The frequency of the strongest sine, by a parabola through the peak of the spectrum, in Hz."""
    middle = samples[2048:-2048] * np.hanning(len(samples) - 4096)
    spectrum = np.log(np.abs(np.fft.rfft(middle)) + 1e-12)
    peak = int(spectrum.argmax())
    left, top, right = spectrum[peak - 1 : peak + 2]
    return (peak + (left - right) / (2 * (left - 2 * top + right))) * RATE / len(middle)


@pytest.mark.parametrize("hertz", [110.0, 440.0, 3000.0])
@pytest.mark.parametrize(
    ("wanted", "length", "raised"),
    [
        (Variation(stretch=1.1), 1.1, 1.0),
        (Variation(stretch=1 / 1.1), 1 / 1.1, 1.0),
        (Variation(semitones=1.0), 1.0, 2 ** (1 / 12)),
        (Variation(semitones=-0.37), 1.0, 2 ** (-0.37 / 12)),
        (Variation(speed=1.1), 1 / 1.1, 1.1),
        (Variation(stretch=1.05, semitones=-1.0, speed=0.93), 1.05 / 0.93, 0.93 * 2 ** (-1 / 12)),
    ],
)
def test_length_and_pitch(hertz: float, wanted: Variation, length: float, raised: float) -> None:
    given = sine(hertz)
    made = vary(given, wanted)
    assert made.dtype == np.float32
    assert len(made) == round(len(given) * length)
    assert pitch(made) == pytest.approx(hertz * raised, rel=0.002)
    middle = made[2048:-2048]
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.1)


@pytest.mark.parametrize("samples", [1000, 11025, 12345])
def test_a_shift_of_pitch_keeps_the_length_exactly(samples: int) -> None:
    given = sine(440)[:samples]
    assert all(len(vary(given, Variation(semitones=by))) == samples for by in (-1.0, 0.013, 0.5, 1.0))


def test_the_same_bits_whatever_the_threads() -> None:
    given, wanted = sine(440) + sine(997), Variation(1.07, 0.6, 0.98)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = vary(given, wanted)
        torch.set_num_threads(2)
        two = vary(given, wanted)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert one.tobytes() == two.tobytes()


def test_nothing_wanted_is_nothing_done() -> None:
    given = sine(440)
    assert vary(given, Variation()) is given
    assert Variant(AugmentSettings(), 0, sound=True).variation("a") == Variation()


def test_what_is_rendered_is_known_by_what_can_act_alone() -> None:
    def parameters(sound: bool = False, **settings: float) -> dict[str, Any]:
        return Variant(AugmentSettings(**settings), 0, sound).parameters  # type: ignore[arg-type]

    shifted = parameters(pitch_probability=0.5)
    assert shifted["settings"] == {"pitch_probability": 0.5, "pitch": 1.0}
    assert parameters(pitch_probability=0.5, stretch=0.3, gain_probability=1, noise_snr_low=3) == shifted
    assert parameters(pitch_probability=0.5, pitch=2) != shifted
    assert parameters(pitch_probability=0.5, gain_probability=1, sound=True) != shifted


def test_amounts_are_within_their_strengths_and_of_clip_and_number_alone() -> None:
    settings = AugmentSettings(variants=2, stretch_probability=0.5, pitch_probability=1.0, speed_probability=1.0)
    made = {
        (clip, k): Variant(settings, k, sound=False).variation(clip)
        for clip in (f"clip{i}" for i in range(200))
        for k in range(2)
    }
    stretches = np.array([each.stretch for each in made.values()])
    assert 0.4 < (stretches != 1).mean() < 0.6
    assert 1 / 1.1 <= stretches.min() < 0.93
    assert 1.08 < stretches.max() <= 1.1
    semitones = np.array([each.semitones for each in made.values()])
    assert -1 <= semitones.min() < -0.9
    assert 0.9 < semitones.max() <= 1
    assert len(set(semitones)) == len(made)
    stronger = AugmentSettings(variants=9, stretch_probability=0.5, pitch_probability=1.0, pitch=2.0)
    assert Variant(stronger, 1, sound=False).variation("clip7").semitones == pytest.approx(
        2 * made["clip7", 1].semitones
    )

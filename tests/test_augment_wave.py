"""Gain, noise and silence on waveforms: as strong as they say, each crop's own, nothing where not chosen."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from genrecls import augment
from genrecls.augment.wave import add_white_noise, amplify, silence
from genrecls.config import AugmentSettings
from genrecls.seeding import hash64, name_keys, uniform

SAMPLES = 22050
EVERYTHING = AugmentSettings(gain_probability=0.5, noise_probability=0.5, wave_mask_probability=0.5)


def waves(count: int) -> torch.Tensor:
    loud = torch.linspace(0.01, 0.9, count)[:, None]
    return loud * (2 * torch.rand(count, SAMPLES, generator=torch.Generator().manual_seed(0)) - 1)


def draws(settings: AugmentSettings, clips: list[str]) -> dict[str, NDArray[np.float64]]:
    return augment.wave_draws(settings, lambda stream: uniform(3, stream, 0, name_keys(clips)))


def altered(wave: torch.Tensor, settings: AugmentSettings, clips: list[str]) -> torch.Tensor:
    return augment.alter_wave(wave, augment.wave_amounts(draws(settings, clips), settings, SAMPLES), 100)


def power(wave: torch.Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = wave.double().square().mean(dim=1).numpy()
    return found


def test_gain_is_in_decibels() -> None:
    wave = waves(3)
    made = amplify(wave, np.array([0.0, 6.0, -20.0]))
    np.testing.assert_allclose(10 * np.log10(power(made) / power(wave)), [0, 6, -20], atol=1e-4)
    assert torch.equal(made[0], wave[0])


def test_noise_hits_its_ratio() -> None:
    wave, wanted = waves(5), np.array([-10.0, 0.0, 20.0, 40.0, np.inf])
    noise = add_white_noise(wave, wanted, hash64(np.arange(5))) - wave
    found = 10 * np.log10(power(wave)[:4] / power(noise)[:4])
    np.testing.assert_allclose(found, wanted[:4], atol=0.2)
    assert not noise[4].any()


def test_noise_is_white_and_differs_between_crops() -> None:
    wave = torch.ones(2, SAMPLES)
    noise = add_white_noise(wave, np.zeros(2), hash64(np.arange(2))) - wave
    assert abs(float(noise.mean())) < 0.03
    for other in (noise[0].roll(1), noise[1]):
        assert abs(np.corrcoef(noise[0], other)[0, 1]) < 0.03
    halves = torch.fft.rfft(noise[0]).abs().square().chunk(2)
    assert float(halves[0].mean() / halves[1].mean()) == pytest.approx(1, abs=0.1)


def test_a_silent_crop_stays_silent() -> None:
    assert not add_white_noise(torch.zeros(1, 50), np.array([20.0]), hash64(np.arange(1))).any()


def test_silence_lies_where_it_should_and_fades() -> None:
    made = silence(torch.ones(3, 40), np.array([5, 0, 39]), np.array([20, 0, 1]), 4)
    ramp = [0.5 + 0.5 * np.cos(np.pi * i / 4) for i in range(1, 4)]
    expected = [1.0] * 5 + ramp + [0.0] * 14 + ramp[::-1] + [1.0] * 15
    assert made[0].tolist() == pytest.approx(expected, abs=1e-6)
    assert (made[0, 8:22] == 0).all()
    assert (made[1] == 1).all()
    assert made[2, 39] == pytest.approx(ramp[0])  # too short for its fades


def test_amounts_are_within_their_strengths() -> None:
    settings = AugmentSettings(
        gain_probability=1.0, noise_probability=1.0, wave_mask_probability=1.0, noise_snr_low=10.0, noise_snr_high=12.0
    )
    clips = [f"clip{i}" for i in range(300)]
    made = augment.wave_amounts(draws(settings, clips), settings, SAMPLES)
    assert -6 <= made["gain_db"].min() < -5.5
    assert 5.5 < made["gain_db"].max() <= 6
    assert 10 <= made["noise_snr_db"].min() < made["noise_snr_db"].max() <= 12
    assert 0.1 * SAMPLES - 1 <= made["wave_mask_width"].min() < made["wave_mask_width"].max() <= 0.15 * SAMPLES + 1
    assert made["wave_mask_first"].min() >= 0
    assert (made["wave_mask_first"] + made["wave_mask_width"]).max() <= SAMPLES


def test_off_asks_for_no_draw_and_is_the_identity() -> None:
    wave = waves(4)
    assert draws(AugmentSettings(), ["a"]) == {}
    assert altered(wave, AugmentSettings(), list("abcd")) is wave


def test_a_crop_that_was_not_chosen_keeps_its_bits() -> None:
    wave, clips = waves(40), [f"clip{i}" for i in range(40)]
    made = augment.wave_amounts(draws(EVERYTHING, clips), EVERYTHING, SAMPLES)
    left = (made["gain_db"] == 0) & np.isinf(made["noise_snr_db"]) & (made["wave_mask_width"] == 0)
    assert 0 < left.sum() < 20
    same = (altered(wave, EVERYTHING, clips) == wave).all(dim=1).numpy()
    assert same.tolist() == left.tolist()


def test_a_crop_does_not_depend_on_the_others_of_its_batch() -> None:
    wave, clips = waves(8), [f"clip{i}" for i in range(8)]
    made = altered(wave, EVERYTHING, clips)
    assert torch.equal(altered(wave, EVERYTHING, clips), made)
    order = [5, 2, 7, 0, 1, 3, 6, 4]
    assert torch.equal(altered(wave[order], EVERYTHING, [clips[i] for i in order]), made[order])
    # The power of a crop alone may be summed in another order.
    torch.testing.assert_close(altered(wave[2:4], EVERYTHING, clips[2:4]), made[2:4])


def test_a_probability_changes_who_is_chosen_and_no_amount() -> None:
    clips = [f"clip{i}" for i in range(50)]
    rare, often = (AugmentSettings(gain_probability=p) for p in (0.3, 0.9))
    some, most = (augment.wave_amounts(draws(s, clips), s, SAMPLES)["gain_db"] for s in (rare, often))
    assert (some != 0).sum() < (most != 0).sum()
    assert (some[some != 0] == most[some != 0]).all()

"""On the 2-D feature: masks cover what was drawn, shifts move, noise is as strong as it says; and mixup."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from genrecls import augment
from genrecls.augment.feature import add_noise, shift_frequency, shift_time
from genrecls.config import AugmentSettings
from genrecls.seeding import hash64, name_keys, uniform

NAMES = ("apply", "extent", "start")


def draws(axis: str, apply: float, extent: float, start: float) -> dict[str, NDArray[np.float64]]:
    found = {f"{other}_mask.0.{name}": np.ones(1) for other in ("frequency", "time") for name in NAMES}
    return found | {
        f"{axis}_mask.0.{name}": np.array([u]) for name, u in zip(NAMES, (apply, extent, start), strict=True)
    }


def masked(axis: str, apply: float, extent: float, start: float, probability: float = 0.5) -> torch.Tensor:
    features = torch.arange(80, dtype=torch.float32).reshape(1, 8, 10)
    given = AugmentSettings(
        mask_probability=probability, frequency_masks=1, frequency_mask_bins=4, time_masks=1, time_mask_seconds=1.0
    )
    made = augment.mask(features.clone(), draws(axis, apply, extent, start), given, 5)
    changed = made != features
    assert torch.unique(made[changed]).tolist() in ([], [39.5])
    return changed[0]


def test_a_frequency_mask_covers_whole_bins() -> None:
    changed = masked("frequency", 0.1, 0.5, 0.99)  # floor(0.5 x 5) = 2 bins, the last that fit
    assert changed.all(dim=1).tolist() == [False] * 6 + [True] * 2
    assert changed.sum() == 20


def test_a_time_mask_covers_whole_frames() -> None:
    changed = masked("time", 0.1, 0.999, 0.0)  # floor(0.999 x 6) = 5 frames from the first
    assert changed.all(dim=0).tolist() == [True] * 5 + [False] * 5


def test_a_mask_that_was_not_chosen_covers_nothing() -> None:
    assert not masked("time", 0.5, 0.999, 0.0).any()
    assert not masked("time", 0.0, 0.999, 0.0, probability=0.0).any()
    assert not masked("frequency", 0.0, 0.0, 0.5).any()


def test_masks_are_each_crops_own() -> None:
    features = torch.randn(3, 8, 10, generator=torch.Generator().manual_seed(0))
    given = AugmentSettings(mask_probability=1.0, frequency_masks=1, frequency_mask_bins=4, time_masks=0)
    own = {"apply": np.zeros(3), "extent": np.array([0.0, 0.25, 0.9]), "start": np.array([0.0, 0.0, 0.0])}
    made = augment.mask(features.clone(), {f"frequency_mask.0.{name}": u for name, u in own.items()}, given, 0)
    assert [int((made[i] != features[i]).all(dim=1).sum()) for i in range(3)] == [0, 1, 4]
    torch.testing.assert_close(made[2, 0], features[2].mean().expand(10))


def test_the_equaliser_draws_its_curve_in_decibels_of_power() -> None:
    u = np.array([[0.5] * 6, [1.0] * 6, [0.0, 0.5, 0.5, 0.5, 0.5, 1.0]])
    deviation = torch.full((11,), 2.0)
    made = augment.equalise(torch.zeros(3, 11, 4), u, 10.0, deviation) * 2  # as it was before normalisation
    ten_db = float(np.log(10))
    assert made[0].abs().max() == 0
    torch.testing.assert_close(made[1], torch.full((11, 4), ten_db))
    expected = torch.tensor([-1, -0.5, 0, 0, 0, 0, 0, 0, 0, 0.5, 1]) * ten_db
    torch.testing.assert_close(made[2], expected[:, None].expand(11, 4))


def test_every_mask_is_drawn_at_any_strength() -> None:
    asked: list[str] = []

    def draw(stream: str) -> NDArray[np.float64]:
        asked.append(stream)
        return np.zeros(1)

    augment.mask_draws(AugmentSettings(mask_probability=0.0, frequency_mask_bins=0), draw)
    weak = list(asked)
    asked.clear()
    augment.mask_draws(AugmentSettings(), draw)
    assert asked == weak
    assert len(weak) == 12


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_mixup_weights_are_beta_distributed(alpha: float) -> None:
    u = (np.arange(2000) + 0.5) / 2000
    weights = augment.mixup_weights(u, alpha)
    assert stats.kstest(weights, stats.beta(alpha, alpha).cdf).statistic < 0.001


def test_mixup_keeps_a_crop_whole_at_weight_one() -> None:
    one, two = (torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    mixed = augment.mixup(one, two, torch.tensor([1.0, 0.25]))
    assert (mixed[0] == one[0]).all()
    torch.testing.assert_close(mixed[1], 0.25 * one[1] + 0.75 * two[1])


def test_a_shift_along_frequency_fills_with_the_edge() -> None:
    features = torch.arange(5.0)[None, :, None].expand(3, 5, 2)
    made = shift_frequency(features, np.array([0, 2, -1]))
    assert made[:, :, 1].tolist() == [[0, 1, 2, 3, 4], [0, 0, 0, 1, 2], [1, 2, 3, 4, 4]]


def test_a_shift_along_time_goes_round() -> None:
    features = torch.arange(5.0)[None, None, :].expand(3, 2, 5)
    made = shift_time(features, np.array([0, 2, -1]))
    assert made[:, 1].tolist() == [[0, 1, 2, 3, 4], [3, 4, 0, 1, 2], [1, 2, 3, 4, 0]]


def test_noise_has_its_deviation() -> None:
    noise = add_noise(torch.zeros(3, 100, 120), np.array([0.015, 0.0, 2.0]), hash64(np.arange(3)))
    assert noise.std(dim=(1, 2)).tolist() == pytest.approx([0.015, 0, 2], rel=0.02)
    assert noise.mean(dim=(1, 2)).tolist() == pytest.approx([0, 0, 0], abs=0.06)
    assert abs(np.corrcoef(noise[0].flatten(), noise[2].flatten())[0, 1]) < 0.03


EVERYTHING = AugmentSettings(
    amplitude_probability=0.5,
    frequency_shift_probability=0.5,
    time_shift_probability=0.5,
    feature_noise_probability=0.5,
)
CLIPS = [f"clip{i}" for i in range(60)]


def altered(features: torch.Tensor, settings: AugmentSettings, clips: list[str]) -> torch.Tensor:
    drawn = augment.feature_draws(settings, lambda stream: uniform(3, stream, 0, name_keys(clips)))
    return augment.alter_feature(features, augment.feature_amounts(drawn, settings, features.shape[2]))


def crops() -> torch.Tensor:
    return torch.randn(60, 16, 50, generator=torch.Generator().manual_seed(0))


def test_off_asks_for_no_draw_and_is_the_identity() -> None:
    features = crops()
    assert altered(features, AugmentSettings(), CLIPS) is features

    def refuse(stream: str) -> NDArray[np.float64]:
        raise AssertionError(stream)

    assert augment.feature_draws(AugmentSettings(), refuse) == {}


def test_what_was_not_chosen_keeps_its_bits_and_no_crop_depends_on_another() -> None:
    features = crops()
    made = altered(features, EVERYTHING, CLIPS)
    same = int((made == features).all(dim=(1, 2)).sum())
    assert 0 < same < 15
    order = [3, 1, 40, 22]
    assert torch.equal(altered(features[order], EVERYTHING, [CLIPS[i] for i in order]), made[order])


def test_amounts_are_within_their_strengths() -> None:
    settings = AugmentSettings(
        amplitude_probability=1.0, frequency_shift_probability=1.0, time_shift_probability=1.0, time_shift=0.1
    )
    drawn = augment.feature_draws(settings, lambda stream: uniform(0, stream, 0, name_keys(map(str, range(500)))))
    made = augment.feature_amounts(drawn, settings, 50)
    assert 0.8 <= made["amplitude"].min() < 0.82
    assert 1.18 < made["amplitude"].max() <= 1.2
    assert set(made["frequency_shift"]) == set(range(-4, 5))
    assert set(made["time_shift"]) == set(range(-5, 6))


def test_amplitude_scales() -> None:
    features = torch.ones(2, 3, 4)
    made = augment.alter_feature(features, {"amplitude": np.array([1.0, 0.8])})
    assert made[:, 0, 0].tolist() == pytest.approx([1, 0.8])

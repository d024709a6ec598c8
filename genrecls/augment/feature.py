"""What is done to the 2-D feature of a crop: masks, tone control, amplitude, shifts, noise."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from genrecls import exact
from genrecls.augment.draws import Amounts, Draw, Draws, asked, chosen, either_way, noise_keys
from genrecls.config import AugmentSettings
from genrecls.keyed import keyed_uniforms

KNOTS = 6


def mask_draws(settings: AugmentSettings, draw: Draw) -> dict[str, NDArray[np.float64]]:
    """The draws of SpecAugment's masks."""
    counts = {"frequency": settings.frequency_masks, "time": settings.time_masks}
    return {
        name: draw(f"augment.{name}")
        for axis, count in counts.items()
        for i in range(count)
        for name in (f"{axis}_mask.{i}.apply", f"{axis}_mask.{i}.extent", f"{axis}_mask.{i}.start")
    }


def equaliser_draws(draw: Draw) -> NDArray[np.float64]:
    """The draws of `equalise`, (crops, KNOTS)."""
    return np.stack([draw(f"augment.equaliser.{i}") for i in range(KNOTS)], axis=1)


def equaliser_gains(u: NDArray[np.float64], largest_db: float) -> NDArray[np.float64]:
    """The gains that the draws of `equaliser_draws` mean, in dB: uniform within +-largest_db."""
    return (2 * u - 1) * largest_db


def equalise(
    features: torch.Tensor, u: NDArray[np.float64], largest_db: float, deviation: torch.Tensor
) -> torch.Tensor:
    """A random tone control on each crop: gains at KNOTS places along the mel axis, straight lines between them.

    So a recording's tone, which tells the artist rather than the genre, is no longer to be relied on. It is the
    linear FilterAugment (Nam, Kim and Park 2022) with knots at fixed places.
    features: (batch, bins, frames), normalised log power. u: (batch, KNOTS); a gain is uniform within
    +-largest_db decibels. deviation: (bins,), what normalisation divided by.
    """
    gains = equaliser_gains(u, largest_db) * (exact.LN_10 / 10)
    at = np.linspace(0, KNOTS - 1, features.shape[1])
    left = np.minimum(at.astype(np.int64), KNOTS - 2)
    curve = gains[:, left] * (1 - (at - left)) + gains[:, left + 1] * (at - left)
    added = torch.from_numpy(curve.astype(np.float32)).to(features.device) / deviation
    return features + added[:, :, None]


@dataclass(frozen=True)
class Masks:
    """Masks over one axis, one for each crop. axis: "frequency" or "time". first, width: float64 (crops,), whole."""

    axis: str
    first: NDArray[np.float64]
    width: NDArray[np.float64]


def masks_of(draws: Draws, settings: AugmentSettings, bins: int, frames: int, time_mask_frames: int) -> list[Masks]:
    """What the draws of `mask_draws` cover of crops of this size.

    An extent is uniform from 0 to its largest (never more than the axis), a place uniform over where it fits.
    """
    made = []
    for axis, count, extent, largest in (
        ("frequency", settings.frequency_masks, bins, settings.frequency_mask_bins),
        ("time", settings.time_masks, frames, time_mask_frames),
    ):
        for i in range(count):
            applied = draws[f"{axis}_mask.{i}.apply"] < settings.mask_probability
            widths = np.floor(draws[f"{axis}_mask.{i}.extent"] * (min(largest, extent) + 1)) * applied
            made.append(Masks(axis, np.floor(draws[f"{axis}_mask.{i}.start"] * (extent - widths + 1)), widths))
    return made


def mask(features: torch.Tensor, draws: Draws, settings: AugmentSettings, time_mask_frames: int) -> torch.Tensor:
    """SpecAugment (Park et al. 2019): rectangles over bins or frames become the crop's mean.

    features: (batch, bins, frames). draws: of `mask_draws`, (batch,) each.
    """
    if settings.mask_probability == 0:
        return features
    bins, frames = features.shape[1:]
    fill = features.mean(dim=(1, 2))[:, None, None]
    positions = {"frequency": np.arange(bins)[:, None], "time": np.arange(frames)[None, :]}
    hidden: dict[str, NDArray[np.bool_]] = {}
    for each in masks_of(draws, settings, bins, frames, time_mask_frames):
        at, first, width = positions[each.axis], each.first[:, None, None], each.width[:, None, None]
        hidden[each.axis] = hidden.get(each.axis, np.False_) | ((at >= first) & (at < first + width))
    for covered in hidden.values():
        # At the weights 0 and 1 to the bit one or the other, and a tenth of the time of `where`.
        features = torch.lerp(features, fill, torch.from_numpy(covered.astype(np.float32)).to(features.device))
    return features


def feature_draws(settings: AugmentSettings, draw: Draw) -> dict[str, NDArray[np.float64]]:
    """The draws of what `alter_feature` does, of what is switched on."""
    made: dict[str, NDArray[np.float64]] = {}
    if settings.amplitude_probability:
        made |= asked(draw, "amplitude", "amount")
    if settings.frequency_shift_probability:
        made |= asked(draw, "frequency_shift", "amount")
    if settings.time_shift_probability:
        made |= asked(draw, "time_shift", "amount")
    if settings.feature_noise_probability:
        made |= asked(draw, "feature_noise", "key")
    return made


def feature_amounts(draws: Draws, settings: AugmentSettings, frames: int) -> Amounts:
    """What the draws mean for crops of this many frames.

    amplitude: a factor, uniform within 1 +- its strength. frequency_shift: bins, time_shift: frames, each whole number
    within its strength as likely as any other. feature_noise: standard deviation, 0 without; feature_noise_key: uint64.
    """
    made: dict[str, NDArray[np.float64] | NDArray[np.int64] | NDArray[np.uint64]] = {}
    if settings.amplitude_probability:
        factor = 1 + (2 * draws["amplitude.amount"] - 1) * settings.amplitude
        made["amplitude"] = chosen(draws, "amplitude", settings.amplitude_probability, factor, 1.0)
    if settings.frequency_shift_probability:
        bins = either_way(draws["frequency_shift.amount"], settings.frequency_shift_bins)
        made["frequency_shift"] = chosen(draws, "frequency_shift", settings.frequency_shift_probability, bins, 0)
    if settings.time_shift_probability:
        by = either_way(draws["time_shift.amount"], int(settings.time_shift * frames))
        made["time_shift"] = chosen(draws, "time_shift", settings.time_shift_probability, by, 0)
    if settings.feature_noise_probability:
        deviation = np.full_like(draws["feature_noise.apply"], settings.feature_noise)
        made["feature_noise"] = chosen(draws, "feature_noise", settings.feature_noise_probability, deviation, 0.0)
        made["feature_noise_key"] = noise_keys(draws["feature_noise.key"])
    return made


def alter_feature(features: torch.Tensor, amounts: Amounts) -> torch.Tensor:
    """Amplitude, shifts, then noise. features: (batch, bins, frames). amounts: of `feature_amounts`."""
    if "amplitude" in amounts:
        factor = torch.from_numpy(amounts["amplitude"].astype(np.float32)).to(features.device)
        features = features * factor[:, None, None]
    if "frequency_shift" in amounts:
        features = shift_frequency(features, amounts["frequency_shift"])
    if "time_shift" in amounts:
        features = shift_time(features, amounts["time_shift"])
    if "feature_noise" in amounts:
        features = add_noise(features, amounts["feature_noise"], amounts["feature_noise_key"])
    return features


def shift_frequency(features: torch.Tensor, bins: NDArray[np.int64]) -> torch.Tensor:
    """Every crop moved up by `bins` (batch,), or down where negative; the bin at the edge fills what is left open."""
    extent = features.shape[1]
    source = np.clip(np.arange(extent) - bins[:, None], 0, extent - 1)
    rows = torch.from_numpy(source).to(features.device)[:, :, None]
    return features.gather(1, rows.expand_as(features))


def shift_time(features: torch.Tensor, frames: NDArray[np.int64]) -> torch.Tensor:
    """Every crop moved on by `frames` (batch,), or back where negative; what leaves at one end enters at the other."""
    extent = features.shape[2]
    source = (np.arange(extent) - frames[:, None]) % extent
    columns = torch.from_numpy(source).to(features.device)[:, None, :]
    return features.gather(2, columns.expand_as(features))


def add_noise(features: torch.Tensor, deviation: NDArray[np.float64], keys: NDArray[np.uint64]) -> torch.Tensor:
    """Uniform noise of this standard deviation (batch,) on every value, in units of the normalised feature.

    Uniform, not Gaussian: exact arithmetic alone makes it, so it is the same on every device. keys: uint64 (batch,).
    """
    noisy = np.flatnonzero(deviation)
    if not noisy.size:
        return features
    rows = torch.from_numpy(noisy).to(features.device)
    width = torch.from_numpy((deviation[noisy] * np.sqrt(12)).astype(np.float32)).to(features.device)
    noise = keyed_uniforms(keys[noisy], tuple(features.shape[1:]), features.device) - 0.5
    return features.index_copy(0, rows, features[rows] + noise * width[:, None, None])

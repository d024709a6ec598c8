"""What is done to a training batch. Nothing here draws: every function takes the numbers drawn for it.

`draws` says which draws a batch needs. They are the same whatever the strengths are, so that a strength can be
changed, or an augmentation switched off, without moving any other draw.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import betaincinv

from genrecls.config import AugmentSettings

KNOTS = 6

Draw = Callable[[str], NDArray[np.float64]]
Draws = Mapping[str, NDArray[np.float64]]


def mask_draws(settings: AugmentSettings, draw: Draw) -> dict[str, NDArray[np.float64]]:
    """The draws of SpecAugment's masks. draw: gives float64 (crops,) in [0, 1) for a stream's name."""
    counts = {"frequency": settings.frequency_masks, "time": settings.time_masks}
    return {
        name: draw(f"augment.{name}")
        for axis, count in counts.items()
        for i in range(count)
        for name in (f"{axis}_mask.{i}.apply", f"{axis}_mask.{i}.extent", f"{axis}_mask.{i}.start")
    }


def equaliser_draws(draw: Draw) -> NDArray[np.float64]:
    """The draws of `equalise`, (crops, KNOTS). draw: as in `mask_draws`."""
    return np.stack([draw(f"augment.equaliser.{i}") for i in range(KNOTS)], axis=1)


def equalise(
    features: torch.Tensor, u: NDArray[np.float64], largest_db: float, deviation: torch.Tensor
) -> torch.Tensor:
    """A random tone control on each crop: gains at KNOTS places along the mel axis, straight lines between them.

    So a recording's tone, which tells the artist rather than the genre, is no longer to be relied on. It is the
    linear FilterAugment (Nam, Kim and Park 2022) with knots at fixed places.
    features: (batch, bins, frames), normalised log power. u: (batch, KNOTS); a gain is uniform within
    +-largest_db decibels. deviation: (bins,), what normalisation divided by.
    """
    gains = (2 * u - 1) * largest_db * (np.log(10) / 10)
    at = np.linspace(0, KNOTS - 1, features.shape[1])
    left = np.minimum(at.astype(np.int64), KNOTS - 2)
    curve = gains[:, left] * (1 - (at - left)) + gains[:, left + 1] * (at - left)
    added = torch.from_numpy(curve.astype(np.float32)).to(features.device) / deviation
    return features + added[:, :, None]


def mask(features: torch.Tensor, draws: Draws, settings: AugmentSettings, time_mask_frames: int) -> torch.Tensor:
    """SpecAugment (Park et al. 2019): rectangles over bins or frames become the crop's mean.

    features: (batch, bins, frames), changed in place and returned. draws: of `mask_draws`, (batch,) each.
    An extent is uniform from 0 to its largest (never more than the axis), a place uniform over where it fits.
    """
    if settings.mask_probability == 0:
        return features
    bins, frames = features.shape[1:]
    fill = features.mean(dim=(1, 2))[:, None, None]
    hidden = torch.zeros((), dtype=torch.bool, device=features.device)
    for axis, count, extent, largest in (
        ("frequency", settings.frequency_masks, bins, settings.frequency_mask_bins),
        ("time", settings.time_masks, frames, time_mask_frames),
    ):
        positions = torch.arange(extent, device=features.device)
        for i in range(count):
            chosen = draws[f"{axis}_mask.{i}.apply"] < settings.mask_probability
            widths = np.floor(draws[f"{axis}_mask.{i}.extent"] * (min(largest, extent) + 1)) * chosen
            starts = np.floor(draws[f"{axis}_mask.{i}.start"] * (extent - widths + 1))
            first = torch.from_numpy(starts.astype(np.int64)).to(features.device)[:, None]
            last = torch.from_numpy((starts + widths).astype(np.int64)).to(features.device)[:, None]
            covered = (positions >= first) & (positions < last)
            hidden = hidden | (covered[:, :, None] if axis == "frequency" else covered[:, None, :])
    return torch.where(hidden, fill, features)


def mixup_weights(u: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """Mixup's weight of a crop beside its partner (Zhang et al. 2018), Beta(alpha, alpha) by its inverse."""
    weights: NDArray[np.float64] = betaincinv(alpha, alpha, u)
    return weights


def mixup(inputs: torch.Tensor, partners: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """weights x inputs + (1 - weights) x partners. inputs, partners: (batch, …); weights: (batch,)."""
    return torch.lerp(partners, inputs, weights.reshape(-1, *(1 for _ in inputs.shape[1:])))

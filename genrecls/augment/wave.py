"""What is done to the waveform of a crop: gain, white noise, silence that fades in and out."""

import numpy as np
import torch
from numpy.typing import NDArray

from genrecls import exact
from genrecls.augment.draws import Amounts, Draw, Draws, asked, chosen, noise_keys
from genrecls.config import AugmentSettings
from genrecls.keyed import keyed_uniforms


def wave_draws(settings: AugmentSettings, draw: Draw) -> dict[str, NDArray[np.float64]]:
    """The draws of what is switched on."""
    made: dict[str, NDArray[np.float64]] = {}
    if settings.gain_probability:
        made |= asked(draw, "gain", "amount")
    if settings.noise_probability:
        made |= asked(draw, "noise", "amount", "key")
    if settings.wave_mask_probability:
        made |= asked(draw, "wave_mask", "extent", "start")
    return made


def wave_amounts(draws: Draws, settings: AugmentSettings, samples: int) -> Amounts:
    """What the draws mean for crops of this many samples.

    gain_db: uniform within +-settings.gain_db. noise_snr_db: uniform from the lowest to the highest ratio, infinite
    without noise; noise_key: uint64. wave_mask_width, wave_mask_first: samples, an extent uniform from the smallest
    share to the largest, a place uniform over where it fits.
    """
    made: dict[str, NDArray[np.float64] | NDArray[np.int64] | NDArray[np.uint64]] = {}
    if settings.gain_probability:
        gain = (2 * draws["gain.amount"] - 1) * settings.gain_db
        made["gain_db"] = chosen(draws, "gain", settings.gain_probability, gain, 0.0)
    if settings.noise_probability:
        width = settings.noise_snr_high - settings.noise_snr_low
        ratio = settings.noise_snr_low + draws["noise.amount"] * width
        made["noise_snr_db"] = chosen(draws, "noise", settings.noise_probability, ratio, np.inf)
        made["noise_key"] = noise_keys(draws["noise.key"])
    if settings.wave_mask_probability:
        share = settings.wave_mask_low + draws["wave_mask.extent"] * (settings.wave_mask_high - settings.wave_mask_low)
        extent = np.rint(share * samples).astype(np.int64)
        widths = chosen(draws, "wave_mask", settings.wave_mask_probability, extent, 0)
        made["wave_mask_width"] = widths
        made["wave_mask_first"] = np.floor(draws["wave_mask.start"] * (samples - widths + 1)).astype(np.int64)
    return made


def alter_wave(wave: torch.Tensor, amounts: Amounts, fade: int) -> torch.Tensor:
    """Gain, then noise, then the mask. wave: float32 (batch, samples). amounts: of `wave_amounts`. fade: samples."""
    if "gain_db" in amounts:
        wave = amplify(wave, amounts["gain_db"])
    if "noise_snr_db" in amounts:
        wave = add_white_noise(wave, amounts["noise_snr_db"], amounts["noise_key"])
    if "wave_mask_width" in amounts:
        wave = silence(wave, amounts["wave_mask_first"], amounts["wave_mask_width"], fade)
    return wave


def amplify(wave: torch.Tensor, gain_db: NDArray[np.float64]) -> torch.Tensor:
    """wave (batch, samples) louder by gain_db (batch,) decibels. Nothing is clipped."""
    factor = exact.power_of_ten(gain_db / 20).astype(np.float32)
    return wave * torch.from_numpy(factor).to(wave.device)[:, None]


def add_white_noise(wave: torch.Tensor, snr_db: NDArray[np.float64], keys: NDArray[np.uint64]) -> torch.Tensor:
    """White noise whose power is snr_db below that of the crop; a silent crop stays silent.

    Its samples are uniform, not Gaussian: exact arithmetic alone makes them, so they are the same on every device.
    wave: (batch, samples). snr_db: (batch,), infinite where no noise is to be added. keys: uint64 (batch,).
    """
    # Over the whole batch, because a sum's order may depend on the number of rows.
    power = wave.square().mean(dim=1)
    noisy = np.flatnonzero(np.isfinite(snr_db))
    if not noisy.size:
        return wave
    rows = torch.from_numpy(noisy).to(wave.device)
    share = torch.from_numpy(exact.power_of_ten(-snr_db[noisy] / 10).astype(np.float32)).to(wave.device)
    largest = torch.sqrt(3 * power[rows] * share)  # A uniform number within +-a has the power a^2 / 3.
    noise = 2 * keyed_uniforms(keys[noisy], tuple(wave.shape[1:]), wave.device) - 1
    return wave.index_copy(0, rows, wave[rows] + noise * largest[:, None])


def silence(wave: torch.Tensor, first: NDArray[np.int64], width: NDArray[np.int64], fade: int) -> torch.Tensor:
    """Silence from sample `first` on for `width` samples, with raised-cosine fades of `fade` samples at both ends.

    The fades lie inside; a mask shorter than both does not reach silence. wave: (batch, samples). first, width:
    (batch,).
    """
    fade = max(1, fade)
    # From a table, because a processor's cosine may differ from the next one's in the last bit.
    table = (0.5 + 0.5 * exact.cosine(np.arange(fade + 1) / (2 * fade))).astype(np.float32)
    position = torch.arange(wave.shape[1], device=wave.device)
    begin = torch.from_numpy(first).to(wave.device)[:, None]
    end = torch.from_numpy(first + width).to(wave.device)[:, None]
    depth = torch.minimum(position - begin + 1, end - position).clamp(0, fade)
    return wave * torch.from_numpy(table).to(wave.device)[depth]

"""Waveform to what models take: log-mel, MFCC and spectrogram by torchaudio, or the samples themselves.

An extractor makes one array of a clip, whose rows lie one after the other in time. The caches of a corpus, and
`predict` on a single file, go through the same ones.
"""

import warnings
from collections.abc import Iterator
from functools import cached_property
from itertools import count
from typing import Any, Protocol

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray

from genrecls.compute import one_thread
from genrecls.config import EXTRACTOR_VERSION, WAVE_VERSION, FeatureSettings, Input

LOG_OFFSET = 1e-6
FULL_SCALE = 32768
"""What 1.0 is as int16: 16-bit audio at its own rate is kept to the bit."""

_BLOCK_SAMPLES = 2**18
"""Of the windows of a block, 128 of 2048: of a quarter or of four times as many a clip takes a third longer."""
_BAND = 16
"""Mel bins that are made together, of the frequencies that any of them takes: of 8 at a time a third longer."""

Rows = NDArray[Any]
_FIRST_FIELDS = ("sample_rate", "n_fft", "hop_length", "n_mels", "f_min", "f_max")
"""Settings that name a log-mel cache even at their defaults; those that came later do so only at other values."""


class Extractor(Protocol):
    """name: of the array. dtype: "float16" or "int16". width: values of a row, None where a row is one sample.

    rate: of the samples it takes, in Hz. It can be sent to another process.
    """

    name: str
    dtype: str
    width: int | None
    rate: int

    @property
    def parameters(self) -> dict[str, Any]:
        """What the rows depend on besides the samples, for a cache's key."""
        ...

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences for whoever makes a cache with it."""
        ...

    def __call__(self, samples: NDArray[np.float32]) -> Rows:
        """float32 (samples,) in [-1, 1] at `rate` -> (rows, width), or (samples,) without a width."""
        ...


class Spectral:
    """A 2-D feature, float16 (samples // hop_length + 1, bins): Hann window, centred frames.

    mel: natural log of (mel power + 1e-6), HTK mel scale without area normalisation. mfcc: the orthonormal DCT-II of
    that. spectrogram: natural log of (power + 1e-6) of every bin of the Fourier transform. These are torchaudio's
    numbers, computed in blocks of frames that stay in a core's cache and without most of the filterbank's zeros.
    Computed on one CPU thread whatever the caller's setting, because another number of threads may sum in
    another order.
    """

    dtype = "float16"

    def __init__(self, settings: FeatureSettings) -> None:
        self._settings = settings
        self.name = settings.kind
        self.width: int | None = settings.bins
        self.rate = settings.sample_rate

    def __reduce__(self) -> tuple[Any, ...]:
        return Spectral, (self._settings,)

    @cached_property
    def _window(self) -> torch.Tensor:
        return torch.hann_window(self._settings.n_fft)

    @cached_property
    def filterbank(self) -> torch.Tensor | None:
        """What power is multiplied by, float32 (n_fft // 2 + 1, n_mels); None for spectrogram."""
        settings = self._settings
        if settings.kind == "spectrogram":
            return None
        with warnings.catch_warnings():
            # `remarks` says it in words that name the settings.
            warnings.filterwarnings("ignore", message="At least one mel filterbank has all zero values")
            return torchaudio.functional.melscale_fbanks(
                n_freqs=settings.n_fft // 2 + 1,
                f_min=settings.f_min,
                f_max=settings.highest,
                n_mels=settings.n_mels,
                sample_rate=settings.sample_rate,
            )

    @cached_property
    def _bands(self) -> list[tuple[slice, slice, torch.Tensor]]:
        """The filterbank without most of its zeros: of some mel bins the frequencies that they take, and weights."""
        if self.filterbank is None:
            return []
        bands = []
        for weights, first in zip(self.filterbank.split(_BAND, dim=1), count(0, _BAND), strict=False):
            taken = weights.any(dim=1).nonzero()
            frequencies = slice(int(taken[0]), int(taken[-1]) + 1) if len(taken) else slice(0, 0)
            bands.append((slice(first, first + weights.shape[1]), frequencies, weights[frequencies].contiguous()))
        return bands

    @cached_property
    def dct(self) -> torch.Tensor | None:
        """What log-mel rows are multiplied by, float32 (n_mels, n_mfcc); None but for mfcc."""
        if self.name != "mfcc":
            return None
        return torchaudio.functional.create_dct(self._settings.n_mfcc, self._settings.n_mels, "ortho")

    @property
    def parameters(self) -> dict[str, Any]:
        """As the protocol says. The scale of power is applied after reading."""
        values = self._settings.values()
        values.pop("scale", None)
        if self.name == "mel":
            values = {name: values[name] for name in _FIRST_FIELDS}
        extractor = {"version": EXTRACTOR_VERSION, "backend": "cpu", "log_offset": LOG_OFFSET, "dtype": self.dtype}
        return {"extractor": extractor, "features": values}

    @property
    def remarks(self) -> tuple[str, ...]:
        """Of mel bins so narrow that no frequency of the Fourier transform lies in them: their value never changes."""
        if self.filterbank is None:
            return ()
        empty = int((self.filterbank == 0).all(dim=0).sum())
        if not empty:
            return ()
        return (
            f"{empty} of {self._settings.n_mels} mel bins are narrower than the steps of the Fourier transform "
            "and stay empty: choose fewer --n-mels or a larger --n-fft.",
        )

    @torch.inference_mode()
    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.float16]:
        """A clip shorter than half a window is extended with silence so that it can be reflected at its ends."""
        with one_thread():
            made, first = torch.empty(self._frames(len(samples)), self._settings.bins, dtype=torch.float16), 0
            for rows in self.blocks(samples):
                made[first : first + len(rows)] = rows
                first += len(rows)
            return made.numpy()

    def _frames(self, samples: int) -> int:
        settings = self._settings
        return (max(samples, settings.n_fft // 2 + 1) - settings.n_fft % 2) // settings.hop_length + 1

    def blocks(self, samples: NDArray[np.float32]) -> Iterator[torch.Tensor]:
        """The rows before they are rounded, float32 (some, bins), some at a time: the next ones overwrite them."""
        settings = self._settings
        size, hop = settings.n_fft, settings.hop_length
        wave = torch.from_numpy(samples)
        missing = size // 2 + 1 - wave.numel()
        if missing > 0:
            wave = torch.nn.functional.pad(wave, (0, missing))
        frames = self._frames(len(samples))
        most = min(frames, max(1, _BLOCK_SAMPLES // size))
        windows = torch.empty(most, size)
        spectrum = torch.empty(most, size // 2 + 1, dtype=torch.complex64)
        power = torch.empty(spectrum.shape)
        mel = torch.empty(most, settings.n_mels)
        for first in range(0, frames, most):
            here = min(most, frames - first)
            begin = first * hop - size // 2
            stretch = _reflected(wave, begin, begin + (here - 1) * hop + size)
            torch.mul(stretch.unfold(0, size, hop), self._window, out=windows[:here])
            torch.fft.rfft(windows[:here], out=spectrum[:here])
            rows = _squared(spectrum[:here], power[:here])
            if self._bands:
                for bins, frequencies, weights in self._bands:
                    torch.mm(rows[:, frequencies], weights, out=mel[:here, bins])
                rows = mel[:here]
            rows.add_(LOG_OFFSET).log_()
            yield rows if self.dct is None else rows @ self.dct

    def silence(self) -> NDArray[np.float16]:
        """The row of digital silence, float16 (bins,)."""
        row: NDArray[np.float16] = self(np.zeros(1, np.float32))[0]
        return row


def _reflected(wave: torch.Tensor, begin: int, end: int) -> torch.Tensor:
    """Samples begin to end of a wave that goes on, mirrored, beyond its first and last sample."""
    last = wave.numel() - 1
    if begin >= 0 and end <= last + 1:
        return wave[begin:end]
    return wave[last - (last - torch.arange(begin, end).abs()).abs()]


def _squared(spectrum: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """Squared magnitudes, into `out`. The spectrum is overwritten."""
    parts = torch.view_as_real(spectrum).square_()
    return torch.add(parts[..., 0], parts[..., 1], out=out)


class Wave:
    """The samples, int16 (samples,); beyond full scale they are clipped."""

    name = "wave"
    dtype = "int16"
    width: int | None = None
    remarks: tuple[str, ...] = ()

    def __init__(self, settings: FeatureSettings) -> None:
        self.rate = settings.sample_rate

    @property
    def parameters(self) -> dict[str, Any]:
        """As the protocol says."""
        extractor = {"version": WAVE_VERSION, "backend": "cpu", "dtype": self.dtype}
        return {"extractor": extractor, "features": {"sample_rate": self.rate}}

    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.int16]:
        """As the protocol says."""
        return np.clip(np.round(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def restored(rows: torch.Tensor, kind: Input, settings: FeatureSettings) -> torch.Tensor:
    """Rows of an array as the float32 that they stand for: samples in [-1, 1), logarithms, or power from them."""
    values = rows.to(torch.float32)
    if kind == "wave":
        return values / FULL_SCALE
    if settings.kind != "mfcc" and settings.scale == "power":
        return (values.exp() - LOG_OFFSET).clamp_(min=0)
    return values


def extractor(kind: Input, settings: FeatureSettings) -> Extractor:
    """What makes the arrays of this input."""
    return Wave(settings) if kind == "wave" else Spectral(settings)

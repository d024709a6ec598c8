"""Waveform to log-mel spectrogram, by torchaudio."""

import warnings

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray

from genrecls.config import FeatureSettings

EXTRACTOR_VERSION = 1
LOG_OFFSET = 1e-6


class LogMel:
    """Natural log of (mel power + 1e-6): Hann window, centred frames, HTK mel scale without area normalisation.

    Computed on one CPU thread whatever the caller's setting, because another number of threads may sum in
    another order.
    """

    def __init__(self, settings: FeatureSettings) -> None:
        self._settings = settings
        with warnings.catch_warnings():
            # `empty_bins` says it in words that name the settings.
            warnings.filterwarnings("ignore", message="At least one mel filterbank has all zero values")
            self._transform = torchaudio.transforms.MelSpectrogram(
                sample_rate=settings.sample_rate,
                n_fft=settings.n_fft,
                hop_length=settings.hop_length,
                f_min=settings.f_min,
                f_max=settings.highest,
                n_mels=settings.n_mels,
                power=2.0,
            )

    @property
    def empty_bins(self) -> int:
        """Mel bins so narrow that no frequency of the Fourier transform lies in them: their value never changes."""
        return int((self._transform.mel_scale.fb == 0).all(dim=0).sum())

    @torch.inference_mode()
    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.float16]:
        """float32 (samples,) in [-1, 1] at the settings' rate -> float16 (samples // hop_length + 1, n_mels).

        A clip shorter than half a window is extended with silence so that it can be reflected at its ends.
        """
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            wave = torch.from_numpy(samples)
            missing = self._settings.n_fft // 2 + 1 - wave.numel()
            if missing > 0:
                wave = torch.nn.functional.pad(wave, (0, missing))
            mel: torch.Tensor = self._transform(wave)
            return mel.add_(LOG_OFFSET).log_().T.to(torch.float16).contiguous().numpy()
        finally:
            torch.set_num_threads(threads)

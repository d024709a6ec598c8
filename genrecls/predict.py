"""Naming the genre of audio, from a run directory alone: what `genrecls predict` and `genrecls.load` do."""

import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from genrecls import audio
from genrecls.compute import again
from genrecls.datasets.index import AUDIO_SUFFIXES
from genrecls.errors import ConfigError, GenreclsError, Untrainable
from genrecls.features import extractor
from genrecls.fragments import Fragments, Stretch, grid, places
from genrecls.inference import fragment_logits, trained_model
from genrecls.metrics import softmax
from genrecls.run import Run
from genrecls.seeding import make_deterministic
from genrecls.weights import read_normalisation


@dataclass(frozen=True)
class Prediction:
    """What is said of one file, or of samples.

    path: of the file, None for samples. status: "ok", or why there is no prediction ("unreadable", "silent",
    "non-finite"), with the reason in words. genres: labels, in the order of the columns.
    probabilities: float64 (fragments, genres), each row's sum 1, empty without a prediction. seconds: float64
    (fragments, 2), begin and end of each fragment.
    """

    path: Path | None
    status: str
    reason: str
    genres: tuple[str, ...]
    probabilities: NDArray[np.float64]
    seconds: NDArray[np.float64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean probability of each genre over the fragments, (genres,); NaN without a prediction."""
        if not len(self.probabilities):
            return np.full(len(self.genres), np.nan)
        mean: NDArray[np.float64] = self.probabilities.mean(axis=0)
        return mean

    @property
    def ranking(self) -> list[tuple[str, float]]:
        """Genres with their mean probability, likeliest first; none without a prediction."""
        if not len(self.probabilities):
            return []
        mean = self.mean
        return [(self.genres[i], float(mean[i])) for i in np.argsort(-mean, kind="stable")]

    @property
    def genre(self) -> str | None:
        """The likeliest genre; None without a prediction."""
        return self.ranking[0][0] if len(self.probabilities) else None


class Predictor:
    """The best weights of a run with the feature extraction they were trained on.

    device: "auto", "cpu" or "cuda". Making one sets PyTorch's switches of determinism and threads, which are the
    whole process's, as the run had them. Raises GenreclsError where the run was not trained.

    genres: labels, in the order of every array's columns. sample_rate: Hz, what all audio is resampled to.
    """

    def __init__(self, found: Run, device: str = "auto") -> None:
        config = found.config
        compute = again(config.compute, device)
        make_deterministic(compute.deterministic, compute.threads)
        self.genres: tuple[str, ...] = tuple(found.record["genres"])
        self.sample_rate: int = config.features.sample_rate
        self._device = torch.device(compute.device)
        self._config = config
        self._extractors = {kind: extractor(kind, config.features) for kind in config.model.inputs}
        self._model = trained_model(found, self._device)
        self._scales = read_normalisation(found)

    def predict(self, paths: str | Path | Iterable[str | Path]) -> list[Prediction]:
        """Predict files, and all audio files below folders, as `genrecls predict` does: one Prediction for each file.

        A file without a prediction says why in its status. Raises GenreclsError for a folder without audio.
        """
        given = [paths] if isinstance(paths, str | Path) else paths
        return [self.predict_file(path) for path in audio_files([Path(path) for path in given])]

    def predict_file(self, path: str | Path) -> Prediction:
        """Predict one file of any length and rate; a file without a prediction says why in its status."""
        path = Path(path)
        try:
            samples = audio.load(path, self.sample_rate)
        except audio.AudioError as error:
            return self._none(path, "unreadable", str(error))
        return self._prediction(path, samples)

    def predict_samples(self, samples: ArrayLike, rate: int) -> Prediction:
        """Predict a waveform as a file that held it.

        samples: floating-point numbers in [-1, 1], (n,), or (n, channels), which are mixed down to their mean; n at
        least 1 and at least the channels. rate: theirs, in Hz, a whole number from 1000 to 10 million. Raises
        ConfigError for another type, shape or rate.
        """
        array = np.asarray(samples)
        waveform = array.dtype.kind == "f" and array.ndim in (1, 2) and array.size
        # Other libraries have channels first, which would be mixed down to a waveform of two samples.
        if not waveform or array.shape[0] < array.shape[-1] * (array.ndim - 1) or not _is_rate(rate):
            raise ConfigError(
                f"Samples of type {array.dtype} and shape {array.shape} at {rate} Hz are no waveform: give "
                "floating-point numbers in [-1, 1] of shape (n,) or (n, channels), and their rate."
            )
        mixed = array.astype(np.float32) if array.ndim == 1 else array.astype(np.float32).mean(axis=1)
        return self._prediction(None, audio.resample(mixed, int(rate), self.sample_rate))

    def _prediction(self, path: Path | None, samples: audio.Samples) -> Prediction:
        config, rate = self._config, self.sample_rate
        fault = audio.fault(samples, rate)
        # A clip too short to train on still has a likeliest genre.
        if fault is not None and fault[0] != "short":
            return self._none(path, *fault)
        arrays = {kind: extract(samples) for kind, extract in self._extractors.items()}
        hop = config.features.hop_length
        frames = len(arrays["feature"]) if "feature" in arrays else len(samples) // hop + 1
        starts = grid(frames, config.frames, config.batches.overlap)
        whole = Stretch(str(path), 0, 0, frames, 0, len(samples))
        where = places([whole], np.zeros_like(starts), starts)
        try:
            logits = fragment_logits(self._model, Fragments(arrays, self._scales, config, self._device), where)
        except Untrainable as error:  # Of another file they may be numbers.
            return self._none(path, "non-finite", str(error).rstrip("."))
        ends = np.minimum(starts + config.frames, frames)
        return Prediction(path, "ok", "", self.genres, softmax(logits), np.stack([starts, ends], axis=1) * hop / rate)

    def _none(self, path: Path | None, status: str, reason: str) -> Prediction:
        return Prediction(path, status, reason, self.genres, np.zeros((0, len(self.genres))), np.zeros((0, 2)))


def _is_rate(rate: object) -> bool:
    lowest, highest = audio.RATES
    return isinstance(rate, int | float | np.integer) and bool(lowest <= rate <= highest and rate == int(rate))


def audio_files(paths: Sequence[Path]) -> Iterator[Path]:
    """The files themselves, and of folders all audio files below, sorted by path; hidden ones are left out.

    Raises GenreclsError for a folder without audio.
    """
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = [
            Path(folder) / name
            for folder, _, names in os.walk(path)
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in AUDIO_SUFFIXES
        ]
        if not found:
            raise GenreclsError(
                f"The folder {path} holds no audio ({', '.join(sorted(AUDIO_SUFFIXES))}): give a file or another "
                "folder."
            )
        yield from sorted(found, key=lambda each: unicodedata.normalize("NFC", str(each)))

"""Naming the genre of audio files, from a run directory alone."""

import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from genrecls import audio
from genrecls.compute import again
from genrecls.datasets.index import AUDIO_SUFFIXES
from genrecls.errors import GenreclsError
from genrecls.features import extractor
from genrecls.fragments import Fragments, Stretch, grid, places
from genrecls.inference import fragment_logits, trained_model
from genrecls.metrics import softmax
from genrecls.run import Run
from genrecls.seeding import make_deterministic


@dataclass(frozen=True)
class Prediction:
    """What is said of one file.

    status: "ok", or why there is no prediction ("unreadable", "silent", "non-finite"), with the reason in words.
    probabilities: float64 (fragments, genres), empty without a prediction. seconds: (fragments, 2), begin and end
    of each fragment.
    """

    path: Path
    status: str
    reason: str
    genres: tuple[str, ...]
    probabilities: NDArray[np.float64]
    seconds: NDArray[np.float64]

    @property
    def ranking(self) -> list[tuple[str, float]]:
        """Genres with their mean probability, likeliest first."""
        mean = self.probabilities.mean(axis=0)
        return [(self.genres[i], float(mean[i])) for i in np.argsort(-mean, kind="stable")]


class Predictor:
    """The best weights of a run with the feature extraction they were trained on.

    device: "auto", "cpu" or "cuda". Raises GenreclsError where the run was not trained.
    """

    def __init__(self, found: Run, device: str = "auto") -> None:
        config = found.config
        compute = again(config.compute, device)
        make_deterministic(compute.deterministic, compute.threads)
        self.genres: tuple[str, ...] = tuple(found.record["genres"])
        self._device = torch.device(compute.device)
        self._config = config
        self._extractors = {kind: extractor(kind, config.features) for kind in config.model.inputs}
        self._scales = found.read_normalisation()
        self._model = trained_model(found, self._device)

    def predict(self, path: Path) -> Prediction:
        """Predict one file of any length and rate; a file without a prediction says why in its status."""
        config, rate = self._config, self._config.features.sample_rate
        try:
            samples = audio.load(path, rate)
        except audio.AudioError as error:
            return self._none(path, "unreadable", str(error))
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
        logits = fragment_logits(self._model, Fragments(arrays, self._scales, config, self._device), where)
        ends = np.minimum(starts + config.frames, frames)
        return Prediction(path, "ok", "", self.genres, softmax(logits), np.stack([starts, ends], axis=1) * hop / rate)

    def _none(self, path: Path, status: str, reason: str) -> Prediction:
        return Prediction(path, status, reason, self.genres, np.zeros((0, len(self.genres))), np.zeros((0, 2)))


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

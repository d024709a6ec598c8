"""What only the corpus can add to a run's record: embeddings of its test clips, excerpts to hear and see, spectra."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from genrecls import audio, exact, kernels
from genrecls.compute import again, one_thread
from genrecls.config import FeatureSettings
from genrecls.datasets.index import Clip, Corpus
from genrecls.evaluation import caches_of, ground_of
from genrecls.features import Spectral
from genrecls.fragments import Fragments, stretches_of
from genrecls.inference import trained_model
from genrecls.preparation import Workplace
from genrecls.report.embeddings import FEWEST, clip_embeddings, plane
from genrecls.report.records import Recorded, Scored, read
from genrecls.run import Run
from genrecls.seeding import make_deterministic
from genrecls.weights import read_normalisation
from genrecls.workers import in_process_with

FEATURES = FeatureSettings()
"""How excerpts and spectra are shown, whatever a model takes: so that pictures of different runs can be compared."""
SECONDS = 5.0
"""Of an excerpt."""
WRONG = 6
"""Clips most confidently wrong that are shown."""
MOST_TYPICAL = 16
"""Genres of which a typical clip is shown, which bounds the size of the page: the first by name."""
SPECTRUM_CLIPS = 12
"""Clips of each genre that its mean spectrum is of."""
_KIND = ("MP3", "audio/mpeg")


@dataclass(frozen=True)
class Map:
    """Test clips on a plane. clips: ids. points: float64 (clips, 2). genre: (clips,) names. group: "" if unknown."""

    clips: tuple[str, ...]
    points: NDArray[np.float64]
    genre: tuple[str, ...]
    group: tuple[str, ...]


@dataclass(frozen=True)
class Excerpt:
    """A few seconds from the middle of a clip.

    probability: of the predicted genre. log_mel: natural log of power (bins, frames). sound: a data URI, "" without.
    """

    clip: str
    genre: str
    predicted: str
    probability: float
    begin: float
    log_mel: NDArray[np.float32]
    sound: str


@dataclass(frozen=True)
class Material:
    """What the corpus adds.

    map: None where the test subset is too small. spectra: dB by genre, (bins,); none where not asked for. genre_of: of
    every clip of the corpus.
    """

    map: Map | None
    typical: list[Excerpt]
    wrong: list[Excerpt]
    spectra: dict[str, NDArray[np.float64]]
    genre_of: dict[str, str]


def gather(each: Recorded, place: Workplace, data_dir: str, device: str, sound: bool, spectra: bool) -> Material:
    """Compute it, the features where they are not in a cache. sound: with excerpts to hear. spectra: with these.

    A run of other kernels than this process has is worked on in a process of its own.
    Raises GenreclsError where the corpus is not at hand, or not the one that the run was trained on.
    """
    kind = each.config.compute.kernels
    if kind != kernels.in_force() and not (kind == kernels.PORTABLE and kernels.lacking()):
        asked = _Asked(each.run.path, place.res, place.jobs, data_dir, device, sound, spectra)
        place.progress(f"working with {kind} kernels", 0, 0)
        return in_process_with(kind, _gathered, asked)
    return _gather(each, place, data_dir, device, sound, spectra)


@dataclass(frozen=True)
class _Asked:
    """What `gather` is asked for, as another process can be sent it."""

    run: Path
    res: Path
    jobs: int
    data_dir: str
    device: str
    sound: bool
    spectra: bool


def _gathered(asked: _Asked) -> Material:
    (each,) = read([Run(asked.run)])
    place = Workplace(asked.res, lambda *_, **__: None, lambda _: None, asked.jobs)
    return _gather(each, place, asked.data_dir, asked.device, asked.sound, asked.spectra)


def _gather(each: Recorded, place: Workplace, data_dir: str, device: str, sound: bool, spectra: bool) -> Material:
    standing = ground_of(each.run, place, data_dir)
    corpus, split = standing.corpus, each.config
    where: Map | None = None
    if each.trained:
        compute = again(split.compute, device)
        make_deterministic(compute.deterministic, compute.threads)
        here = torch.device(compute.device)
        model, scales = trained_model(each.run, here), read_normalisation(each.run)
        caches = caches_of(each.run, standing, place)
        stretches = stretches_of(each.spans, caches, corpus, split)["test"]
        if len({stretch.clip for stretch in stretches}) >= FEWEST:
            place.progress("embedding test clips", 0, 0)
            fragments = Fragments({kind: cache.array for kind, cache in caches.items()}, scales, split, here)
            where = _map(corpus, *clip_embeddings(model, fragments, stretches))
    by_id = {clip.id: clip for clip in corpus.clips}
    with one_thread():
        measured = _spectra(each, by_id, place) if spectra else {}
        typical, wrong = (
            _excerpts(each, choose(each.scored), by_id, place, sound) if each.scored else []
            for choose in (_typical, _wrong)
        )
    return Material(where, typical, wrong, measured, {clip.id: clip.genre for clip in corpus.clips})


def _map(corpus: Corpus, clips: tuple[str, ...], embeddings: NDArray[np.float64]) -> Map:
    found = {clip.id: clip for clip in corpus.clips}
    return Map(
        clips,
        plane(embeddings),
        tuple(found[clip].genre for clip in clips),
        tuple(found[clip].group or "" for clip in clips),
    )


def _typical(scored: Scored) -> list[int]:
    """Of each genre the clip that is correctly predicted with the highest probability."""
    certain = scored.probabilities.max(axis=1)
    made = []
    for genre in np.unique(scored.genre):
        correct = np.flatnonzero(scored.right & (scored.genre == genre))
        if len(correct):
            made.append(int(correct[certain[correct].argmax()]))
    return made[:MOST_TYPICAL]


def _wrong(scored: Scored) -> list[int]:
    """The wrongly predicted clips with the highest probabilities, the highest first."""
    wrongly = np.flatnonzero(~scored.right)
    certain = scored.probabilities.max(axis=1)[wrongly]
    return [int(i) for i in wrongly[np.argsort(-certain, kind="stable")][:WRONG]]


def _excerpts(
    each: Recorded, chosen: list[int], by_id: dict[str, Clip], place: Workplace, sound: bool
) -> list[Excerpt]:
    scored = each.scored
    assert scored is not None
    features, extract = each.config.features, Spectral(FEATURES)
    spans = {span.clip: span for span in each.spans if span.role == "test"}
    made = []
    for number, at in enumerate(chosen):
        clip, rate = scored.clips[at], FEATURES.sample_rate
        samples = audio.load(by_id[clip].path, rate)
        hop, span = features.hop_length / features.sample_rate, spans[clip]
        first = span.first_frame * hop
        begin = first + max(0.0, min(span.frames * hop, len(samples) / rate - first) - SECONDS) / 2
        cut = samples[int(begin * rate) : int(begin * rate) + int(SECONDS * rate)]
        made.append(
            Excerpt(
                clip,
                each.genres[scored.genre[at]],
                each.genres[scored.predicted[at]],
                float(scored.probabilities[at].max()),
                begin,
                extract(cut).T.astype(np.float32),
                data_uri(cut, rate) if sound else "",
            )
        )
        place.progress("cutting excerpts", number + 1, len(chosen))
    return made


def data_uri(samples: audio.Samples, rate: int) -> str:
    """The samples float32 (n,) as MP3, which every browser plays and which is a tenth of the size of WAV."""
    content = io.BytesIO()
    soundfile.write(content, np.clip(samples, -1, 1), rate, format=_KIND[0])
    return f"data:{_KIND[1]};base64,{base64.b64encode(content.getvalue()).decode('ascii')}"


def _spectra(each: Recorded, by_id: dict[str, Clip], place: Workplace) -> dict[str, NDArray[np.float64]]:
    """Mean level by mel bin in dB, of some training clips of each genre, evenly chosen by their ids."""
    training = sorted({span.clip for span in each.spans if span.role == "train"})
    chosen = {}
    for genre in each.genres:
        own = [clip for clip in training if by_id[clip].genre == genre]
        chosen[genre] = [own[i * len(own) // SPECTRUM_CLIPS] for i in range(SPECTRUM_CLIPS)] if own else []
        chosen[genre] = list(dict.fromkeys(chosen[genre]))
    extract: Callable[[NDArray[np.float32]], NDArray[np.float16]] = Spectral(FEATURES)
    total, done, made = sum(map(len, chosen.values())), 0, {}
    for genre, clips in chosen.items():
        levels = []
        for clip in clips:
            levels.append(extract(audio.load(by_id[clip].path, FEATURES.sample_rate)).mean(axis=0, dtype=np.float64))
            done += 1
            place.progress("measuring spectra", done, total)
        if levels:
            made[genre] = np.mean(levels, axis=0) * (10 / exact.LN_10)
    return made

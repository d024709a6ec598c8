"""Fragments are what lies at their places, of the waveform and of the feature alike."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from genrecls import config, normalisation
from genrecls.cache import Cache
from genrecls.cachefiles import Row
from genrecls.config import Config, Input
from genrecls.datasets.index import Clip, Corpus
from genrecls.errors import GenreclsError
from genrecls.features import FULL_SCALE, LOG_OFFSET, Spectral
from genrecls.fragments import Fragments, Stretch, as_inputs, frames_by_clip, grid, places, stretches_of
from genrecls.models.registry import settings_class
from genrecls.normalisation import Normalisation
from genrecls.splits import Span

BINS, HOP, RATE = 8, 16, 2000
CPU = torch.device("cpu")


class Both:
    """Settings of a model that would take both inputs."""

    name = "both"
    inputs: tuple[Input, ...] = ("wave", "feature")


def settings(compute: dict[str, Any] | None = None, **batches: Any) -> Config:
    features = {"n_mels": BINS, "hop_length": HOP, "n_fft": 64, "sample_rate": RATE}
    layers = {"features": features, "batches": {"fragment": 0.08, **batches}, "compute": compute or {}}
    given = config.read(layers, settings_class)
    object.__setattr__(given, "model", Both())
    return given


FRAMES, SAMPLES = 10, 160
"""What 0.08 s are."""


def arrays(frames: int) -> dict[Input, NDArray[np.float16] | NDArray[np.int16]]:
    """Each value tells its frame and bin, each sample its place."""
    feature = (np.arange(frames)[:, None] + np.arange(BINS) / 8).astype(np.float16)
    return {"feature": feature, "wave": np.arange(frames * HOP).astype(np.int16)}


def fragments(frames: int = 100, **batches: Any) -> Fragments:
    scales: dict[Input, Normalisation] = {"feature": normalisation.identity(BINS), "wave": normalisation.identity(1)}
    given = settings(**batches)
    method = given.batches.normalisation
    if method not in ("corpus", "none"):
        scales = {"feature": normalisation.identity(BINS, method), "wave": normalisation.identity(1, method)}
    return Fragments(arrays(frames), scales, given, CPU)


def at(made: Fragments, *where: tuple[Stretch, int]) -> dict[Input, torch.Tensor]:
    stretches, starts = zip(*where, strict=True)
    return made.at(places(stretches, np.arange(len(starts)), np.array(starts)))


def test_they_are_what_lies_there_and_the_wave_is_under_its_frames() -> None:
    taken = at(fragments(), (Stretch("a", 0, 0, 60, 0, 960), 5), (Stretch("b", 1, 60, 40, 960, 640), 2))
    assert taken["feature"].shape == (2, BINS, FRAMES)
    assert taken["feature"][0, 0].tolist() == list(range(5, 15))
    assert taken["feature"][1, 3].tolist() == [62 + i + 0.375 for i in range(10)]
    assert taken["wave"].shape == (2, SAMPLES)
    assert (taken["wave"][0] * 32768).tolist() == list(range(5 * HOP, 5 * HOP + SAMPLES))
    assert (taken["wave"][1] * 32768).tolist() == list(range(62 * HOP, 62 * HOP + SAMPLES))
    wave, feature = as_inputs({"wave": taken["wave"], "feature": taken["feature"]})
    assert (wave.shape, feature.shape) == ((2, 1, SAMPLES), (2, 1, BINS, FRAMES))


SHORT = Stretch("s", 0, 50, 3, 800, 40)


def test_a_short_stretch_repeats_cyclically() -> None:
    taken = at(fragments(), (SHORT, 0))
    assert taken["feature"][0, 0].tolist() == [50, 51, 52, 50, 51, 52, 50, 51, 52, 50]
    assert (taken["wave"][0] * 32768).tolist() == [800 + i % 40 for i in range(SAMPLES)]


def test_or_its_last_value_goes_on() -> None:
    taken = at(fragments(padding="edge"), (SHORT, 0))
    assert taken["feature"][0, 0].tolist() == [50, 51] + [52] * 8
    assert (taken["wave"][0] * 32768).tolist() == [min(800 + i, 839) for i in range(SAMPLES)]


def test_or_silence_follows() -> None:
    made = fragments(padding="zero")
    taken = at(made, (SHORT, 0))
    silence = float(Spectral(made.config.features).silence()[0])
    assert silence == pytest.approx(np.log(LOG_OFFSET), abs=0.01)
    assert taken["feature"][0, 0].tolist() == [50, 51, 52] + [silence] * 7
    assert (taken["wave"][0, 40:] == 0).all()
    assert taken["wave"][0, 39] * 32768 == 839


@pytest.mark.parametrize(
    ("frames", "overlap", "starts"),
    [
        (10, 0.5, [0]),
        (4, 0.5, [0]),
        (11, 0.5, [0, 1]),
        (20, 0.5, [0, 5, 10]),
        (23, 0.5, [0, 5, 10, 13]),
        (25, 0.5, [0, 5, 10, 15]),
        (25, 0.0, [0, 10, 15]),
        (14, 0.9, [0, 1, 2, 3, 4]),
        (14, 0.99, [0, 1, 2, 3, 4]),
    ],
)
def test_the_grid_covers_every_frame(frames: int, overlap: float, starts: list[int]) -> None:
    assert grid(frames, 10, overlap).tolist() == starts


@pytest.mark.parametrize(("limit", "streams"), [(0.0, False), (0.001, True), (1.0, False)])
def test_arrays_beyond_the_limit_stay_where_they_are_and_give_the_same(limit: float, streams: bool) -> None:
    # 100 frames of 8 float16, 1600 samples of int16: 4800 bytes in all.
    usual, limited = fragments(), fragments(compute={"resident_limit": limit})
    assert (usual.streams, limited.streams) == (False, streams)
    stretches = [Stretch("a", 0, 0, 60, 0, 960), Stretch("b", 1, 60, 40, 960, 640)]
    batches = [places(stretches, np.array([0, 1]), np.array([i, 30 - i])) for i in range(7)]
    fetched = list(limited.fetched(iter(batches)))
    assert len(fetched) == 7
    for stored, where in zip(fetched, batches, strict=True):
        assert all(torch.equal(stored[kind], rows) for kind, rows in usual.stored(where).items())


def test_room_is_for_the_first_arrays_that_fit() -> None:
    # 3200 bytes of samples fit into 3.5 KiB, and 1600 of the feature no longer beside them.
    made = fragments(compute={"resident_limit": 3.5 / 1024})
    assert made.streams
    assert made.stored(places([Stretch("a", 0, 0, 60, 0, 960)], np.array([0]), np.array([3])))["wave"][0, 0, 0] == 48


def test_normalising_each_fragment_by_itself() -> None:
    where = (Stretch("a", 0, 0, 60, 0, 960), 5), (Stretch("b", 1, 60, 40, 960, 640), 2)
    standard = at(fragments(normalisation="clip"), *where)
    for values in (standard["feature"], standard["wave"]):
        torch.testing.assert_close(values.mean(dim=-1), torch.zeros_like(values.mean(dim=-1)), atol=1e-5, rtol=0)
        torch.testing.assert_close(values.std(dim=-1, correction=0), torch.ones_like(values.mean(dim=-1)))
    spread = at(fragments(normalisation="clip-minmax"), *where)
    for values in (spread["feature"].flatten(1), spread["wave"]):
        assert values.amin(dim=1).tolist() == [0, 0]
        assert values.amax(dim=1).tolist() == [1, 1]


def test_what_never_changes_becomes_zero() -> None:
    for method in ("clip", "clip-minmax"):
        scale = normalisation.identity(2, method)
        assert (scale(torch.full((3, 5, 2), 7.0)) == 0).all()


def row(clip: str, first: int, samples: int, first_sample: int, frames: int, status: str = "ok") -> Row:
    return Row(clip, "x", "", "", "", "", first, frames, first_sample, samples, status, "")


def caches(tmp_path: object) -> dict[Input, Cache]:
    feature = (row("a", 0, 479, 0, 30), row("b", 30, 160, 479, 11), row("c", 41, 0, 639, 0, "silent"))
    wave = (row("a", 0, 479, 0, 0), row("b", 0, 160, 479, 0), row("c", 0, 0, 639, 0, "silent"))
    return {"wave": Cache(tmp_path, wave, {}), "feature": Cache(tmp_path, feature, {})}  # type: ignore[arg-type]


def corpus(**genres: str) -> Corpus:
    known = {"a": "x", "b": "x", "c": "x", "z": "w", **genres}
    return Corpus("folder", Path(), tuple(Clip(name, Path(name), genre) for name, genre in known.items()), "grouped")


def test_lengths_in_frames_are_the_same_with_and_without_a_feature(tmp_path: object) -> None:
    found, given = caches(tmp_path), settings()
    assert frames_by_clip(found, given) == {"a": 30, "b": 11}
    assert frames_by_clip({"wave": found["wave"]}, given) == {"a": 30, "b": 11}


def test_spans_become_stretches_of_both_arrays(tmp_path: object) -> None:
    spans = [Span("a", 0, 20, "train"), Span("a", 20, 10, "valid"), Span("b", 0, 11, "test")]
    made = stretches_of(spans, caches(tmp_path), corpus(), settings())
    assert made["train"] == [Stretch("a", 1, 0, 20, 0, 320)]
    assert made["valid"] == [Stretch("a", 1, 20, 10, 320, 159)]
    assert made["test"] == [Stretch("b", 1, 30, 11, 479, 160)]
    for wrong in (Span("c", 0, 1, "train"), Span("d", 0, 1, "train"), Span("a", 25, 6, "train")):
        with pytest.raises(GenreclsError, match=f"frames of the clip '{wrong.clip}' that the cache"):
            stretches_of([wrong], caches(tmp_path), corpus(d="x"), settings())
    without = Corpus("folder", Path(), corpus().clips[1:], "grouped")
    with pytest.raises(GenreclsError, match="frames of the clip 'a' that the cache"):
        stretches_of([Span("a", 0, 20, "train")], caches(tmp_path), without, settings())


def test_labels_are_the_corpus_s_and_not_those_that_the_cache_was_made_under(tmp_path: object) -> None:
    made = stretches_of([Span("b", 0, 11, "train")], caches(tmp_path), corpus(b="v"), settings())
    assert made["train"][0].genre == 0


def test_a_clip_shorter_than_half_a_window_is_as_long_as_its_feature(tmp_path: object) -> None:
    short: dict[Input, Cache] = {"wave": Cache(tmp_path, (row("a", 0, 20, 0, 0),), {})}  # type: ignore[arg-type]
    own = len(Spectral(settings().features)(np.ones(20, dtype=np.float32)))
    assert frames_by_clip(short, settings()) == {"a": own} == {"a": 3}
    made = stretches_of([Span("a", 0, 2, "train"), Span("a", 2, 1, "test")], short, corpus(), settings())
    assert (made["train"][0].first_sample, made["train"][0].samples) == (0, 20)
    assert (made["test"][0].first_sample, made["test"][0].samples) == (19, 1)


def test_the_last_fragment_of_a_wave_ends_with_its_clip() -> None:
    # The last 10 of 20 frames begin at sample 160, and fewer than 160 samples follow there.
    taken = at(fragments(), (Stretch("a", 0, 0, 20, 0, 310), 10))["wave"][0]
    assert taken.tolist() == (torch.arange(150, 310) / FULL_SCALE).tolist()

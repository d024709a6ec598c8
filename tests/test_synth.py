"""The embedded corpus: the same samples everywhere, files that are whole, and a leak worth showing."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from genrecls.config import SplitSettings
from genrecls.datasets.index import Corpus
from genrecls.datasets.loader import Source, loader
from genrecls.datasets.synth import exact
from genrecls.datasets.synth.arrange import parse, parse_progression
from genrecls.datasets.synth.corpus import LOADER, render
from genrecls.datasets.synth.drums import DRUMS
from genrecls.datasets.synth.genres import GENRES, SCALES, Genre
from genrecls.datasets.synth.instruments import FAMILIES
from genrecls.datasets.synth.mix import CORPUS_VERSION, record
from genrecls.errors import GenreclsError
from genrecls.splits import roles

GOLDEN = json.loads((Path(__file__).parent / "data" / "synth_pcm.json").read_text(encoding="utf-8"))
GTZAN = {"blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock"}
SMALL_GENRES = ("march", "techno", "waltz")


def pcm_sha256(genre: str, artist: int, clip: int) -> str:
    return hashlib.sha256(record(genre, artist, clip).pcm.astype("<i2").tobytes()).hexdigest()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered corpus of 27 clips, not to be written to."""
    root = tmp_path_factory.mktemp("synth")
    render(root, genres=SMALL_GENRES, artists=3, clips=3, jobs=1)
    return root


def render_small(root: Path, jobs: int = 1) -> None:
    render(root, genres=("march", "techno"), artists=2, clips=2, jobs=jobs)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `render_small` makes, not to be written to."""
    root = tmp_path_factory.mktemp("rendered")
    render_small(root)
    return root


@pytest.fixture
def copy(rendered: Path, tmp_path: Path) -> Path:
    """A copy of it, to be written to."""
    return shutil.copytree(rendered, tmp_path / "copy")


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def index(root: Path) -> Corpus:
    return LOADER.index(Source(res=root / "nowhere", data_dir=root))


# Arithmetic


def test_own_functions_are_those_of_mathematics() -> None:
    x = np.linspace(-30, 30, 100_001)
    assert np.abs(exact.sine(x) - np.sin(2 * np.pi * x)).max() < 1e-7
    assert np.abs(exact.exp2(x) / np.exp2(x) - 1).max() < 1e-8
    assert exact.gain(-6.0) == pytest.approx(10 ** (-6 / 20), rel=1e-8)
    assert exact.decay(41, 10.0)[[0, 10, 40]] == pytest.approx([1, 0.5, 0.0625], rel=1e-8)
    assert [exact.frequency(p) for p in (57, 69, 81)] == [220.0, 440.0, 880.0]
    assert exact.frequency(60) == pytest.approx(261.6256, abs=1e-4)


def test_filter_is_a_centred_convolution_across_its_blocks() -> None:
    signal = exact.sine(np.arange(40_000.0) * 0.0137) + exact.sine(np.arange(40_000.0) * 0.31)
    taps = (0.1, -0.4, 1.0, 0.3, 0.05)
    assert exact.filtered(signal, taps) == pytest.approx(np.convolve(signal, taps, "same"), abs=1e-12)


def test_equaliser_has_the_gains_asked_for() -> None:
    gains = [1.0] * 8 + [0.1] * 9
    taps = np.array(exact.equaliser(gains))
    response = np.abs(np.fft.rfft(taps, 1024))
    assert response[:192] == pytest.approx(1.0, abs=0.05)  # up to 3/8 of half the rate
    assert response[320:] == pytest.approx(0.1, abs=0.05)  # from 5/8
    flat = np.array(exact.equaliser([1.0] * 17))
    assert flat[16] == pytest.approx(1.0, abs=1e-6)
    assert np.abs(np.delete(flat, 16)).max() < 1e-6


def test_upsampling_keeps_the_samples_and_finds_those_between() -> None:
    signal = exact.sine(np.arange(2000.0) * 0.11)
    doubled = exact.upsampled(signal)
    assert np.array_equal(doubled[::2], signal)
    assert doubled[100:-100] == pytest.approx(np.sin(2 * np.pi * 0.055 * np.arange(4000))[100:-100], abs=0.01)


# Music


def test_ten_genres_none_of_them_gtzans() -> None:
    assert len(GENRES) == 10
    assert not set(GENRES) & GTZAN
    assert list(GENRES) == sorted(GENRES)


@pytest.mark.parametrize("genre", GENRES.values(), ids=list(GENRES))
def test_a_genre_is_written_correctly(genre: Genre) -> None:
    assert genre.scale in SCALES
    assert genre.tempo[0] < genre.tempo[1]
    assert {*genre.bass_timbres, *genre.chord_timbres, *genre.lead_timbres} <= set(FAMILIES)
    for progression in genre.progressions:
        assert all(0 <= root < 12 for root, _ in parse_progression(progression))
    steps = [(pattern, "r358") for pattern in genre.bass]
    steps += [(pattern, "x") for pattern in genre.chords + genre.lead]
    for kit in genre.drums:
        assert set(kit) <= set(DRUMS)
        steps += [(pattern, "Xxo") for pattern in kit.values()]
    for pattern, allowed in steps:
        assert len(pattern) % genre.beats == 0, pattern
        assert set(pattern) <= {*allowed, "-", "."}, pattern
        assert pattern[0] != "-", pattern


def test_pattern_and_progression_are_read_as_documented() -> None:
    assert parse("x-.X") == ((0.0, 0.5, "x"), (0.75, 0.25, "X"))
    assert parse_progression("0m 7:7 10maj7 5") == (
        (0, (0, 3, 7)),
        (7, (0, 4, 7, 10)),
        (10, (0, 4, 7, 11)),
        (5, (0, 4, 7)),
    )


# Samples


def test_pinned_samples() -> None:
    assert GOLDEN["version"] == CORPUS_VERSION
    assert len(GOLDEN["clips"]) == 20
    for name, sha256 in GOLDEN["clips"].items():
        genre, artist, clip = name.split()
        assert pcm_sha256(genre, int(artist), int(clip)) == sha256, name


def test_a_clip_does_not_depend_on_those_before_it() -> None:
    first = pcm_sha256("folk", 1, 2)
    for clip in (0, 1):
        record("folk", 1, clip)
    record("dub", 0, 0)
    record("swing", 0, 0)  # the artist of the first is made anew after this
    assert pcm_sha256("folk", 1, 2) == first


def test_samples_do_not_depend_on_the_instructions_of_the_processor() -> None:
    """NumPy picks its kernels by processor; without them the bits must stay."""
    found = np.show_config(mode="dicts")["SIMD Extensions"]["found"]
    program = (
        "import hashlib, json, sys; from genrecls.datasets.synth.mix import record;"
        "print(json.dumps([hashlib.sha256(record(g, 0, 0).pcm.astype('<i2').tobytes()).hexdigest()"
        " for g in ('ambient', 'chiptune', 'techno')]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(found)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(run.stdout) == [pcm_sha256(genre, 0, 0) for genre in ("ambient", "chiptune", "techno")]


def test_artists_and_clips_all_differ_and_none_is_silent_or_clipped() -> None:
    seen = set()
    for genre in ("bossa", "drumnbass"):
        for artist in range(3):
            for clip in range(2):
                pcm = record(genre, artist, clip).pcm
                seen.add(pcm.tobytes())
                assert pcm.dtype == np.int16
                assert 500 < np.abs(pcm.astype(int)).max() < 32767
    assert len(seen) == 12


# Files


def test_index_of_a_small_corpus(small: Path) -> None:
    corpus = index(small)
    assert corpus.name == "synth"
    assert corpus.default_split == "grouped"
    assert corpus.genres == SMALL_GENRES
    assert len(corpus.clips) == 27
    assert Counter(clip.group for clip in corpus.clips) == {f"{g}-a0{a}": 3 for g in corpus.genres for a in range(3)}
    for clip in corpus.clips:
        genre, group, name = clip.id.split("/")
        assert (clip.genre, clip.group) == (genre, group)
        assert name.startswith(f"{group}-")
        assert clip.path.is_relative_to(small)
        assert clip.official_split is None


def test_files_hold_the_samples(small: Path) -> None:
    for clip in index(small).clips:
        artist, number = int(clip.id[-5:-3]), int(clip.id[-2:])
        expected = record(clip.genre, artist, number)
        decoded, rate = soundfile.read(clip.path, dtype="int16")
        assert rate == expected.rate
        assert 5.0 <= len(expected.pcm) / rate <= 12.0
        if clip.path.suffix == ".mp3":
            assert abs(len(decoded) - len(expected.pcm)) < 0.2 * rate
        else:
            assert np.array_equal(decoded, expected.pcm)


def test_rendering_again_touches_nothing(copy: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    seen: list[tuple[str, int, int]] = []
    render(copy, genres=("march", "techno"), artists=2, clips=2, jobs=1, progress=lambda *now: seen.append(now))
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before
    assert [now[1:] for now in seen] == [(8, 8)]


def test_lost_and_damaged_files_are_rendered_anew(copy: Path) -> None:
    before = contents(copy)
    lost, short = (clip.path for clip in index(copy).clips[:2])
    lost.unlink()
    short.write_bytes(short.read_bytes()[:1000])
    with pytest.raises(GenreclsError, match=r"2 of its 8 files are missing or cut short.*genrecls download synth"):
        index(copy)
    render_small(copy)
    assert contents(copy) == before


def test_interrupted_rendering_goes_on_where_it_was(rendered: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"

    def interrupt(what: str, done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render(broken, genres=("march", "techno"), artists=2, clips=2, jobs=1, progress=interrupt)
    with pytest.raises(GenreclsError, match=r"rendering was cut off.*genrecls download synth"):
        index(broken)
    kept = {path: path.stat().st_mtime_ns for path in broken.rglob("*-a*-*.*")}
    assert len(kept) == 4
    render_small(broken)
    assert contents(broken) == contents(rendered)
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())


def test_a_larger_corpus_keeps_the_files_of_a_smaller_one(copy: Path) -> None:
    first = index(copy).clips[0]
    time = first.path.stat().st_mtime_ns
    render(copy, genres=("march", "techno"), artists=2, clips=3, jobs=1)
    assert len(index(copy).clips) == 12
    assert first.path.stat().st_mtime_ns == time


@pytest.mark.parametrize("damage", ["version", "no record", "not json", "other json"])
def test_files_of_another_version_are_rendered_anew(copy: Path, damage: str) -> None:
    before = contents(copy)
    record_file = copy / "corpus.json"
    if damage == "version":
        record_file.write_text(json.dumps({**json.loads(record_file.read_text()), "version": 0}))
        complaint = "version 0 of the synth corpus.*genrecls download synth"
    else:
        complaint = "The synth corpus is not in .*genrecls download synth"
        if damage == "no record":
            record_file.unlink()
        else:
            record_file.write_text("{" if damage == "not json" else "[1]")
    stale = [copy / path for path in before if path != "corpus.json"]
    for path in stale:
        path.write_bytes(path.read_bytes()[::-1])  # same size, other samples
    other = copy / "notes.txt"
    other.write_text("mine")
    with pytest.raises(GenreclsError, match=complaint):
        index(copy)
    render_small(copy)
    assert contents(copy) == {**before, "notes.txt": b"mine"}


def test_processes_write_the_same_files(rendered: Path, tmp_path: Path) -> None:
    render_small(tmp_path, jobs=2)
    assert contents(tmp_path) == contents(rendered)


def test_an_absent_corpus_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(GenreclsError, match="genrecls download synth") as failure:
        LOADER.index(Source(res=tmp_path))
    assert str(tmp_path / "synth") in str(failure.value)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(GenreclsError, match=r"could not be written to .*file/synth .*--res or --data-dir"):
        LOADER.download(Source(res=tmp_path / "file"), lambda *_: None)


def test_the_loader_is_registered() -> None:
    found = loader("synth")
    assert (found.name, found.takes_groups) == ("synth", False)


# The whole corpus


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    source = Source(res=tmp_path_factory.mktemp("res"))
    assert LOADER.download(source, lambda *_: None).root == source.res / "synth"
    return LOADER.index(source)


@pytest.mark.slow
def test_the_whole_corpus_is_the_pinned_one(whole: Corpus) -> None:
    """Every sample, as decoded from the files where these are lossless."""
    everything, clips = hashlib.sha256(), set()
    seconds, suffixes, shapes = [], Counter[str](), Counter[tuple[int, int]]()
    for clip in whole.clips:
        if clip.path.suffix == ".mp3":
            made = record(clip.genre, int(clip.id[-5:-3]), int(clip.id[-2:]))
            pcm, rate = made.pcm, made.rate
        else:
            pcm, rate = soundfile.read(clip.path, dtype="int16")
        samples = pcm.astype("<i2").tobytes()
        everything.update(samples)
        clips.add(hashlib.sha256(samples).digest())
        seconds.append(len(pcm) / rate)
        suffixes[clip.path.suffix] += 1
        shapes[rate, pcm.ndim] += 1
    assert len(whole.clips) == len(clips) == 1600
    assert min(Counter(clip.genre for clip in whole.clips).values()) == 160
    assert 5.0 <= min(seconds) < max(seconds) <= 12.0
    assert 6.0 < float(np.mean(seconds)) < 8.0
    assert suffixes[".flac"] > 80
    assert suffixes[".mp3"] > 60
    assert len(shapes) == 4  # both rates, mono and stereo
    assert everything.hexdigest() == GOLDEN["corpus"]


@pytest.mark.slow
def test_mean_spectra_tell_little(whole: Corpus) -> None:
    """Genre must not be in the long-term spectrum, where the artists' equalisers are."""
    by_clip = roles(whole, SplitSettings(policy="grouped"))
    assert Counter(by_clip.values())["test"] >= 150
    spectra, genres, role = [], [], []
    window = np.hanning(1024)
    for clip in whole.clips:
        pcm, rate = soundfile.read(clip.path, dtype="float64", always_2d=True)
        mono = pcm.mean(axis=1)[:: rate // 22050]
        frames = mono[: len(mono) // 1024 * 1024].reshape(-1, 1024) * window
        spectra.append(np.log(np.abs(np.fft.rfft(frames)) ** 2 + 1e-6).mean(axis=0))
        genres.append(whole.genres.index(clip.genre))
        role.append(by_clip[clip.id])
    x, y, training = np.stack(spectra), np.array(genres), np.array(role) == "train"
    x = (x - x[training].mean(axis=0)) / x[training].std(axis=0)
    centres = np.stack([x[training & (y == genre)].mean(axis=0) for genre in range(10)])
    guess = ((x[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    accuracy = (guess == y)[np.array(role) == "test"].mean()
    assert 0.1 < accuracy < 0.55

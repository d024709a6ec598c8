"""Copies of a recording are found whatever was done to them, and other pieces of the same band are none."""

import io
from collections.abc import Sequence

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from genrecls.audit import copies
from genrecls.audit.copies import is_copy, matches
from genrecls.audit.fingerprint import DIFFERENCES, FRAMES_PER_SECOND, MAX_SECONDS, Fingerprint, fingerprint
from genrecls.datasets.synth.genres import GENRES
from genrecls.datasets.synth.mix import record
from genrecls.seeding import name_key, uniform

Wave = NDArray[np.float32]
DAMAGE = ("gain", "start", "mp3", "noise", "all")


def piece(genre: str, artist: int, clip: int) -> tuple[Wave, int]:
    made = record(genre, artist, clip)
    wave = (made.pcm / 32768).astype(np.float32)
    return wave if wave.ndim == 1 else wave.mean(axis=1), made.rate


def noise(wave: Wave, decibels: float, name: str) -> Wave:
    """With noise that many dB below it: the sum of twelve uniform draws is nearly Gaussian."""
    draws = sum(uniform(0, name, 0, name_key(name), np.arange(12 * len(wave)).reshape(12, -1)))
    level = float(np.sqrt((wave**2).mean())) * 10 ** (-decibels / 20)
    return (wave + level * (np.asarray(draws) - 6)).astype(np.float32)


def damaged(wave: Wave, rate: int, kind: str, name: str) -> tuple[Wave, int]:
    """A copy of it. all: half as loud, from a later start, with noise, as MP3 at 44 kbit/s or so."""
    drawn = float(uniform(0, "start", 0, name_key(name), np.arange(1))[0])
    if kind in ("start", "all"):
        wave = wave[int((0.2 + 1.8 * drawn) * rate) :]
    if kind in ("gain", "all"):
        wave = wave * np.float32(0.2 if kind == "gain" else 0.5)
    if kind in ("noise", "all"):
        wave = noise(wave, 15 if kind == "noise" else 20, name)
    if kind in ("mp3", "all"):
        encoded = io.BytesIO()
        soundfile.write(encoded, wave, rate, format="MP3", compression_level=0.8)
        encoded.seek(0)
        wave, rate = soundfile.read(encoded, dtype="float32")
    return wave, rate


def planted(
    genres: Sequence[str], artists: int, clips: int, every: int
) -> tuple[list[Fingerprint], set[tuple[int, int]]]:
    """Fingerprints of pieces, each `every`th followed by a copy, and which pairs that makes."""
    prints: list[Fingerprint] = []
    truth = set()
    pieces = [(genre, artist, clip) for genre in genres for artist in range(artists) for clip in range(clips)]
    for number, each in enumerate(pieces):
        wave, rate = piece(*each)
        prints.append(fingerprint(wave, rate))
        if number % every == 0:
            kind = DAMAGE[number // every % len(DAMAGE)]
            prints.append(fingerprint(*damaged(wave, rate, kind, str(each))))
            truth.add((len(prints) - 2, len(prints) - 1))
    return prints, truth


def check(genres: Sequence[str], artists: int, clips: int, every: int) -> None:
    prints, truth = planted(genres, artists, clips, every)
    found = {(match.a, match.b) for match in matches(prints, lambda *_: None, jobs=1)}
    assert len(found & truth) / len(truth) >= 0.95
    assert len(found & truth) / len(found) >= 0.95


@pytest.mark.slow
def test_planted_copies_are_found_among_pieces_of_the_same_artists() -> None:
    check(("dub", "swing", "march"), artists=1, clips=7, every=1)


@pytest.mark.slow
def test_planted_copies_are_found_in_a_larger_corpus() -> None:
    check(list(GENRES), artists=3, clips=6, every=2)


def shuffled(name: str, seconds: float, rate: int = 8000) -> Wave:
    """Noise in bands that come and go: no music, but no two alike."""
    size = int(seconds * rate)
    draws = (uniform(0, name, 0, name_key(name), np.arange(size)) - 0.5).astype(np.float32)
    spectrum = np.fft.rfft(draws.reshape(-1, rate // 10), axis=1)
    levels = np.exp(3 * uniform(1, name, 0, name_key(name), np.arange(spectrum.shape[0] * 20)))
    spectrum *= np.repeat(levels.reshape(-1, 20), spectrum.shape[1] // 20 + 1, axis=1)[:, : spectrum.shape[1]]
    wave: Wave = np.fft.irfft(spectrum, axis=1).ravel().astype(np.float32)
    return wave / np.abs(wave).max()


def test_a_match_says_by_how_much_and_which_starts_earlier() -> None:
    wave = shuffled("one", 8)
    prints = [fingerprint(wave, 8000), fingerprint(shuffled("other", 8), 8000), fingerprint(0.1 * wave[16000:], 8000)]
    (match,) = matches(prints, lambda *_: None)
    assert (match.a, match.b, match.shift) == (0, 2, 2.0)
    assert match.score > 0.95
    assert match.seconds == pytest.approx(5.5, abs=0.3)
    (mirrored,) = matches(prints[::-1], lambda *_: None)
    assert (mirrored.a, mirrored.b, mirrored.shift) == (0, 2, -2.0)


def test_the_rate_of_a_file_is_no_matter() -> None:
    wave = shuffled("rates", 6)
    spectrum = np.fft.rfft(wave)
    twice = np.fft.irfft(np.concatenate([spectrum, np.zeros(len(spectrum) - 1)]), 2 * len(wave)).astype(np.float32)
    (match,) = matches([fingerprint(wave, 8000), fingerprint(twice, 16000)], lambda *_: None)
    assert match.score > 0.9


def test_blocks_and_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    waves = [shuffled(str(number), 4 + number % 4) for number in range(9)]
    prints = [fingerprint(wave, 8000) for wave in [*waves, *(wave[4000:] for wave in waves[:5])]]
    at_once = matches(prints, lambda *_: None, jobs=1)
    monkeypatch.setattr(copies, "_BLOCK", 4)
    in_blocks = matches(prints, lambda *_: None, jobs=3)
    assert [(match.a, match.b) for match in at_once] == [(number, 9 + number) for number in range(5)]
    assert in_blocks == at_once


def test_long_recordings_are_compared_in_smaller_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by a block's clips squared times their length."""
    prints = [fingerprint(shuffled(str(number), 4 + number), 8000) for number in range(9)]
    prints += [each[20:] for each in prints[::4]]
    found = matches(prints, lambda *_: None)
    seen: list[int] = []
    evidence = copies._evidence

    def watched(left: list[Wave], right: list[Wave], least: int) -> Wave:
        seen.append(len(left))
        return evidence(left, right, least)

    monkeypatch.setattr(copies, "_evidence", watched)
    monkeypatch.setattr(copies, "_VALUES", 2**10)
    assert matches(prints, lambda *_: None) == found
    assert [(match.a, match.b) for match in found] == [(0, 9), (4, 10), (8, 11)]
    assert 1 < max(seen) < len(prints)


def test_steady_and_short_sounds_are_evidence_of_nothing() -> None:
    time = np.arange(5 * 8000) / 8000
    tones = [fingerprint(np.sin(2 * np.pi * pitch * time).astype(np.float32), 8000) for pitch in (440, 440, 300)]
    short = [fingerprint(shuffled("short", 2), 8000)] * 2
    tiny = [fingerprint(np.ones(size, np.float32), 8000) for size in (0, 1, 500, 4000)]
    assert matches([*tones, *short, *tiny], lambda *_: None) == []
    assert matches([], lambda *_: None) == []


def test_a_fingerprint_is_small_and_of_ten_minutes_at_most() -> None:
    made = fingerprint(shuffled("long", 10), 8000)
    assert made.dtype == np.int8
    assert made.shape[1] == DIFFERENCES
    assert len(made) == pytest.approx(10 * FRAMES_PER_SECOND, abs=6)
    assert len(fingerprint(np.zeros(700 * 100, np.float32), 100)) < MAX_SECONDS * FRAMES_PER_SECOND


@pytest.mark.parametrize(
    ("score", "seconds", "elsewhere", "copy"),
    [
        (0.75, 5, 1.6, True),  # as like as only a copy is
        (0.75, 3, 0.0, False),  # in too short a time
        (0.9, 3, 1.5, True),
        (0.68, 5, 0.3, True),  # noisy, at one shift alone
        (0.68, 5, 1.2, False),  # the same rhythm
        (0.6, 5, 0.3, False),
        (0.25, 28, 0.5, True),  # little, but for long
        (0.25, 28, 1.0, False),
        (0.15, 28, 0.1, False),
    ],
)
def test_the_verdict(score: float, seconds: float, elsewhere: float, copy: bool) -> None:
    assert is_copy(score, seconds, elsewhere) is copy

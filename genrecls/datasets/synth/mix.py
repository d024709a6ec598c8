"""From an arrangement to PCM: notes are added up, given a room, filtered, and set to the artist's loudness."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genrecls.datasets.synth.arrange import Arrangement, arrange
from genrecls.datasets.synth.artists import ROLES, Artist, artist
from genrecls.datasets.synth.draws import Draws
from genrecls.datasets.synth.drums import noise
from genrecls.datasets.synth.exact import Signal, filtered, gain, upsampled
from genrecls.datasets.synth.instruments import RATE

CORPUS_VERSION = 1
"""Counts the changes to any sample of the corpus."""

_CLIP_LEVEL = 2.0  # decibels by which a clip's roles and loudness depart from its artist's
_PAN = {"drums": 0.0, "bass": 0.0, "chords": -0.4, "lead": 0.4}
_ECHOES = (0.45, 0.22, 0.10)


@dataclass(frozen=True)
class Recording:
    """A rendered clip. pcm: int16 (samples,) or (samples, 2). rate: samples a second."""

    pcm: NDArray[np.int16]
    rate: int


def _buses(player: Artist, arrangement: Arrangement) -> dict[str, Signal]:
    """Each role's sound, dry: float64 (samples,)."""
    samples = int(arrangement.seconds * RATE)
    buses = {role: np.zeros(samples) for role in ROLES}
    drums = buses["drums"]
    for stroke in arrangement.strokes:
        _add(drums, player.kit.stroke(stroke.drum), stroke.start, stroke.velocity)
    played: dict[tuple[str, int, int], Signal] = {}
    for note in arrangement.notes:
        held = int(note.length * RATE) & ~63  # so that equal notes are rendered once
        key = (note.role, note.pitch, held)
        if key not in played:
            played[key] = player.voices[note.role].note(note.pitch, held)
        _add(buses[note.role], played[key], note.start, note.velocity)
    return buses


def _add(bus: Signal, sound: Signal, start: float, level: float) -> None:
    at = int(start * RATE)
    part = bus[at : at + len(sound)]
    part += level * sound[: len(part)]


def _echoed(dry: Signal, taps: tuple[tuple[int, float], ...]) -> Signal:
    """`dry` and its repetitions, given as samples of delay and level."""
    wet = dry.copy()
    for delay, level in taps:
        if delay < len(dry):
            wet[delay:] += level * dry[: len(dry) - delay]
    return wet


def _driven(signal: Signal, drive: float) -> Signal:
    """Soft clipping: x (27 + x^2) / (27 + 9 x^2), close to tanh, of the signal scaled to a peak of `drive`."""
    x = np.clip(signal * (drive / max(float(np.max(np.abs(signal))), 1e-9)), -3.0, 3.0)
    square = x * x
    return x * (27.0 + square) / (27.0 + 9.0 * square)


def record(genre: str, number: int, clip: int) -> Recording:
    """Clip `clip` of artist `number` of a genre: a function of these three alone, the same on every machine."""
    player = artist(genre, number)
    draws = Draws(f"{player.name}-{clip:02d}")
    arrangement = arrange(player, clip)
    buses = _buses(player, arrangement)
    if player.genre.echo:
        delay = int(player.genre.echo * arrangement.beat * RATE)
        taps = tuple((delay * (repeat + 1), level) for repeat, level in enumerate(_ECHOES))
        buses["chords"] = _echoed(buses["chords"], taps)
    for role in ("chords", "lead"):
        buses[role] = _echoed(buses[role], player.room)
    departures = _CLIP_LEVEL * (2.0 * draws.many("levels", len(ROLES) + 1) - 1.0)
    for role, departure in zip(ROLES, departures, strict=False):
        buses[role] *= gain(player.levels[role] + float(departure))

    stereo = draws.one("stereo") < 0.05
    doubled = draws.one("rate") < 0.05
    peak = gain(min(player.peak + float(departures[-1]), -0.3))
    channels = [_master(player, buses, side) for side in ((-1.0, 1.0) if stereo else (0.0,))]
    loudest = max(float(np.max(np.abs(channel))) for channel in channels)
    hiss_at = int(draws.one("hiss") * len(noise()))
    finished = []
    for side, channel in enumerate(channels):
        hiss = np.take(noise(), np.arange(len(channel)) + hiss_at + 777 * side, mode="wrap")
        channel = channel * (peak / max(loudest, 1e-9)) + gain(player.hiss) * hiss
        finished.append(upsampled(channel) if doubled else channel)
    pcm = np.clip(np.rint(np.stack(finished, axis=-1) * 32767.0), -32768, 32767).astype(np.int16)
    return Recording(pcm if stereo else pcm[:, 0], 2 * RATE if doubled else RATE)


def _master(player: Artist, buses: dict[str, Signal], side: float) -> Signal:
    """One channel: the roles added up (side -1 left, 0 middle, 1 right), driven and equalised."""
    mix = np.zeros_like(buses["drums"])
    for role in ROLES:
        mix += (1.0 + side * _PAN[role]) * buses[role]
    if player.drive > 0.3:
        mix = _driven(mix, player.drive)
    return filtered(mix, player.equaliser)

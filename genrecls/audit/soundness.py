"""What one audio file is and what is wrong with it, from its header, its size and every sample."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from genrecls import audio
from genrecls.audio import Samples
from genrecls.audit.fingerprint import NOTHING, Fingerprint, fingerprint

VERSION = 1
"""One more where the same file is judged otherwise."""
CLIPPED_SHARE = 1e-3
"""Of a clip's samples that lie flat at its extremes, from which it is called clipped: 22 ms in 22 s."""
_FLAT_RUN = 3
"""Samples in a row at the extreme: a loud sine reaches its own once or twice in a row, a clipped one stays."""
_LOUD = 0.5
"""Of full scale: a recording turned down after it was clipped is still clipped, quiet noise is not."""
_MUCH_SILENCE = 0.5
_TOLERANCE = 0.01
"""Seconds that a decoder may give less than the header announces: an MP3 encoder's padding."""


@dataclass(frozen=True)
class Problem:
    """kind: unreadable, truncated, non-finite, short, silent, half-silent or clipped. reason: in words."""

    kind: str
    reason: str


@dataclass(frozen=True)
class Sound:
    """What a file holds. rate: in Hz. audio_sha256: of the rate and the decoded samples, channels mixed."""

    rate: int
    channels: int
    seconds: float
    audio_sha256: str


@dataclass(frozen=True)
class Inspection:
    """Of one file. sound: None where nothing can be decoded; fingerprint: int8 (frames, 32), empty
    where the file is of no use.
    """

    sound: Sound | None
    fingerprint: Fingerprint
    problems: tuple[Problem, ...]


def inspect(path: Path) -> Inspection:
    """Decode a file and judge it. Raises nothing where it is damaged: that is among the problems."""
    try:
        channels, rate = audio.decode_channels(path)
    except audio.AudioError as error:
        return Inspection(None, NOTHING, (Problem("unreadable", str(error)),))
    samples = audio.mixed(channels)
    digest = hashlib.sha256(f"{rate}:".encode() + np.ascontiguousarray(samples, "<f4").tobytes()).hexdigest()
    sound = Sound(rate, channels.shape[1], len(samples) / rate, digest)
    problems = [Problem("truncated", missing)] if (missing := _missing(path, len(samples), rate)) else []
    useless = audio.fault(samples, rate)
    if useless:
        problems.append(Problem(*useless))
        # No copy is looked for among what trains nothing.
        return Inspection(sound, NOTHING, tuple(problems))
    problems += [problem for problem in (_silence(samples, rate), _clipping(channels)) if problem]
    return Inspection(sound, fingerprint(samples, rate), tuple(problems))


def _silence(samples: Samples, rate: int) -> Problem | None:
    """Whether at least half of it is silent."""
    size = max(1, rate // 20)
    pieces = samples[: len(samples) // size * size].reshape(-1, size)
    silent = int(((pieces.max(axis=1) - pieces.min(axis=1)) / 2 < audio.SILENCE).sum())
    if silent < _MUCH_SILENCE * len(pieces):
        return None
    seconds = silent * size / rate
    return Problem("half-silent", f"{seconds:.1f} s of its {len(samples) / rate:.1f} s are silent (below -80 dB)")


def _clipping(channels: Samples) -> Problem | None:
    """Whether the wave is cut off at its highest and lowest samples, in any channel."""
    worst = 0.0
    for channel in channels.T:
        for side in (channel, -channel):
            peak = float(side.max())
            if peak < _LOUD:
                continue
            flat = np.concatenate([[False], side >= peak * (1 - 2**-14), [False]])
            starts, ends = np.flatnonzero(~flat[:-1] & flat[1:]), np.flatnonzero(flat[:-1] & ~flat[1:])
            runs = ends - starts
            worst = max(worst, float(runs[runs >= _FLAT_RUN].sum()) / len(side))
    if worst < CLIPPED_SHARE:
        return None
    return Problem("clipped", f"{100 * worst:.1f} % of its samples lie flat at the highest or lowest level")


def _missing(path: Path, decoded: int, rate: int) -> str:
    """What the file lacks of what its header announces, in words; nothing where it is whole or does not say."""
    announced = audio.announced(path)
    if decoded < announced - _TOLERANCE * rate:
        return f"{decoded / rate:.2f} s can be decoded of the {announced / rate:.2f} s that its header announces"
    with open(path, "rb") as handle:
        lacking = _bytes_announced(handle) - path.stat().st_size
    return f"the file is {lacking} bytes shorter than its header announces" if lacking > 0 else ""


def _bytes_announced(handle: BinaryIO) -> int:
    """The size of a WAV, AIFF or AU file as its header has it; 0 for another format or where it does not say.

    libsndfile takes the shorter file for the whole one.
    """
    head = handle.read(12)
    unknown = 0xFFFFFFFF  # What a program writes that did not know the length beforehand.
    if head[:4] == b".snd":
        start, length = int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:12], "big")
        return 0 if length == unknown else start + length
    little = head[:4] == b"RIFF" and head[8:] == b"WAVE"
    if not little and not (head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC")):
        return 0
    at = len(head)
    while len(chunk := handle.read(8)) == 8:
        length = int.from_bytes(chunk[4:], "little" if little else "big")
        if chunk[:4] in (b"data", b"SSND"):
            return 0 if length >= unknown - at - 8 else at + 8 + length
        at += 8 + length + length % 2
        handle.seek(at)
    return 0

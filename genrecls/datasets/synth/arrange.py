"""Which notes a clip has: an artist's patterns, varied from clip to clip."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from genrecls.datasets.synth.artists import ROLES, Artist
from genrecls.datasets.synth.draws import Draws
from genrecls.datasets.synth.genres import QUALITIES, SCALES

FAITHFUL = 0.7
"""How likely a clip has its artist's favourite of a kind of pattern."""
SILENT = 0.03
"""How likely a role does not play in a clip (never all of them)."""

SHORTEST, LONGEST = 5.0, 12.0
"""Seconds of a clip; most are nearer to the shortest."""

Item = TypeVar("Item")

_JITTERS = 1024
_FORCE = {"X": 1.0, "x": 0.8, "o": 0.45}
_FILLS = ("............xxxx", "..........x.x.xx", "............x.x.", "........x.xxx.xx")
_BASS_LOWEST = 31  # G1, 49 Hz
_CHORDS_LOWEST = 52  # E3
_LEAD_LOWEST = 64  # E4
_STRUM = 0.014  # seconds from one string to the next
# Interval above the root of each bass character; the third depends on the chord.
_BASS_INTERVALS = {"r": 0, "5": 7, "8": 12}


@dataclass(frozen=True)
class Stroke:
    """A drum struck: start in seconds, velocity in (0, 1]."""

    drum: str
    start: float
    velocity: float


@dataclass(frozen=True)
class Note:
    """A pitch (MIDI number) played by a role (bass, chords, lead): start and length in seconds, velocity in (0, 1]."""

    role: str
    pitch: int
    start: float
    length: float
    velocity: float


@dataclass(frozen=True)
class Arrangement:
    """A clip before it sounds: its length in seconds, the length of a beat, and what is played."""

    seconds: float
    beat: float
    strokes: tuple[Stroke, ...]
    notes: tuple[Note, ...]


@cache
def parse(pattern: str) -> tuple[tuple[float, float, str], ...]:
    """The strokes of a pattern: where in the bar, how long (both as fractions of the bar), and the character."""
    strokes = []
    for step, character in enumerate(pattern):
        if character in ".-":
            continue
        end = step + 1
        while end < len(pattern) and pattern[end] == "-":
            end += 1
        strokes.append((step / len(pattern), (end - step) / len(pattern), character))
    return tuple(strokes)


@cache
def parse_progression(progression: str) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """The chords of a progression: semitones of the root above the key, and of the tones above the root."""
    chords = []
    for token in progression.split():
        digits = len(token) - len(token.lstrip("0123456789"))
        chords.append((int(token[:digits]), QUALITIES[token[digits:].lstrip(":")]))
    return tuple(chords)


def _at_least(lowest: int, pitch_class: int) -> int:
    """The lowest pitch of this class from `lowest` on."""
    return lowest + (pitch_class - lowest) % 12


class _Player:
    """Writes the parts of one clip: the choices that hold for all of it, and a supply of small draws."""

    def __init__(self, artist: Artist, number: int) -> None:
        genre = artist.genre
        self.artist = artist
        self.draws = Draws(f"{artist.name}-{number:02d}")
        length = self.draws.one("length")
        self.seconds = SHORTEST + (LONGEST - SHORTEST) * length * length * length  # mostly short
        self.beat = 60.0 / (artist.tempo * self.draws.between("tempo", 0.97, 1.03))
        self.bar = self.beat * genre.beats
        self.key = self.draws.pick("key", artist.keys)
        self.progression = parse_progression(self._pick("progression", genre.progressions))
        form = genre.beats * genre.bars_per_chord * len(self.progression)
        self.origin = -self.beat * int(self.draws.one("start") * form)
        self._jitter = self.draws.many("jitter", _JITTERS)
        self._used = 0

    def _pick(self, kind: str, choices: Sequence[Item]) -> Item:
        """A pattern of this kind: mostly the artist's favourite."""
        if self.draws.one(f"{kind} faithful") < FAITHFUL:
            return choices[self.artist.favourites[kind]]
        return self.draws.pick(kind, choices)

    def _loosely(self, start: float, velocity: float) -> tuple[float, float]:
        """Start and velocity as a human would play them."""
        early, soft = self._jitter[self._used % _JITTERS], self._jitter[(self._used + 1) % _JITTERS]
        self._used += 2
        return start + self.artist.looseness * (2.0 * float(early) - 1.0), velocity * (0.8 + 0.2 * float(soft))

    def _bars(self) -> Iterator[tuple[int, float]]:
        """Number and start in seconds of the bars that sound in the clip."""
        first = int(-self.origin / self.bar)
        for number in range(first, first + int(self.seconds / self.bar) + 2):
            yield number, self.origin + number * self.bar

    def _chord(self, bar: int) -> tuple[int, tuple[int, ...]]:
        """The chord of a bar: pitch class of its root, its tones in semitones above that."""
        root, tones = self.progression[bar // self.artist.genre.bars_per_chord % len(self.progression)]
        return self.key + root, tones

    def _note(self, role: str, pitch: int, start: float, length: float, velocity: float) -> Iterator[Note]:
        """The note, cut to the clip, if any of it is left."""
        start, velocity = self._loosely(start, velocity)
        length += min(start, 0.0)
        if length > 0 and start < self.seconds:
            yield Note(role, pitch, max(start, 0.0), length, velocity)

    def strokes(self) -> Iterator[Stroke]:
        """The drums, with a fill every fourth bar if the artist likes them."""
        patterns = self._pick("drums", self.artist.patterns.drums)
        fills = bool(patterns) and self.artist.draws.one("fills") < 0.5
        for bar, at in self._bars():
            played = [(drum, stroke) for drum, pattern in patterns.items() for stroke in parse(pattern)]
            if fills and bar % 4 == 3:
                played += [("snare", stroke) for stroke in parse(self.draws.pick(f"fill {bar}", _FILLS))]
            for drum, (place, _, force) in played:
                start, velocity = self._loosely(at + place * self.bar, _FORCE[force])
                if 0.0 <= start < self.seconds:
                    yield Stroke(drum, start, velocity)

    def bass(self) -> Iterator[Note]:
        """The bass line."""
        pattern = parse(self._pick("bass", self.artist.patterns.bass))
        for bar, at in self._bars():
            root, tones = self._chord(bar)
            lowest = _at_least(_BASS_LOWEST, root)
            for place, length, character in pattern:
                pitch = lowest + (tones[1] if character == "3" else _BASS_INTERVALS[character])
                yield from self._note("bass", pitch, at + place * self.bar, 0.92 * length * self.bar, 0.8)

    def chords(self) -> Iterator[Note]:
        """The accompaniment, in the genre's style."""
        genre = self.artist.genre
        pattern = parse(self._pick("chords", self.artist.patterns.chords))
        for bar, at in self._bars():
            root, tones = self._chord(bar)
            pitches = sorted(_at_least(_CHORDS_LOWEST, root + tone) for tone in tones)
            for count, (place, length, _) in enumerate(pattern):
                start, lasting = at + place * self.bar, 0.9 * length * self.bar
                if genre.chord_style == "arpeggio":
                    yield from self._note("chords", pitches[count % len(pitches)] + 12, start, lasting, 0.8)
                    continue
                spread = _STRUM if genre.chord_style == "strum" else 0.0
                if count % 2:
                    pitches = pitches[::-1]  # an up-stroke
                for string, pitch in enumerate(pitches):
                    yield from self._note(
                        "chords", pitch, start + string * spread, lasting, 0.8 / math.sqrt(len(pitches))
                    )

    def lead(self) -> Iterator[Note]:
        """A melody: a walk on the scale that comes back to the chord on the first beat."""
        genre = self.artist.genre
        pattern = parse(self._pick("lead", self.artist.patterns.lead))
        scale = [
            pitch for pitch in range(_LEAD_LOWEST, _LEAD_LOWEST + 18) if (pitch - self.key) % 12 in SCALES[genre.scale]
        ]
        position = len(scale) // 2
        for bar, at in self._bars():
            if self.draws.one(f"lead rests {bar % 8}") < 0.2:
                continue
            root, tones = self._chord(bar)
            steps = self.draws.many(f"lead steps {bar % 2}", len(pattern))
            for (place, length, _), step in zip(pattern, steps, strict=True):
                position += int(float(step) * 5.0) - 2
                position = min(max(position, 0), len(scale) - 1)
                pitch = scale[position]
                if place == 0.0:
                    pitch = _at_least(pitch, root + tones[int(float(step) * len(tones))])
                yield from self._note("lead", pitch, at + place * self.bar, 0.9 * length * self.bar, 0.8)


def arrange(artist: Artist, number: int) -> Arrangement:
    """Clip `number` (from 0) of an artist, as notes."""
    player = _Player(artist, number)
    silent = {role for role, u in zip(ROLES, player.draws.many("silent", len(ROLES)), strict=True) if u < SILENT}
    silent |= {artist.missing} if artist.missing else set()
    if silent == set(ROLES):
        silent = set()
    parts = {"bass": player.bass, "chords": player.chords, "lead": player.lead}
    return Arrangement(
        seconds=player.seconds,
        beat=player.beat,
        strokes=() if "drums" in silent else tuple(player.strokes()),
        notes=tuple(note for role, part in parts.items() if role not in silent for note in part()),
    )

"""The artists: who plays a genre, and what all their clips have in common.

An artist's sound (instruments, equalisation, loudness, noise, room, tempo habit, favourite keys and
patterns) varies more from one artist to the next than from one genre to the next. A classifier that has heard
the artist before can lean on it, which is the leak that a split by clips has and one by artists has not.
"""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from genrecls.datasets.synth.draws import Draws
from genrecls.datasets.synth.drums import Kit
from genrecls.datasets.synth.exact import equaliser, gain
from genrecls.datasets.synth.genres import GENRES, Genre
from genrecls.datasets.synth.instruments import FAMILIES, RATE, Voice

ROLES = ("drums", "bass", "chords", "lead")
"""Who plays; the order of Genre.levels."""

USUAL_TIMBRE = 0.5
"""How likely an artist's instrument is one of those usual in the genre."""
SPARSE = 0.3
"""How likely an artist does without one of the roles in every clip."""
BORROWING = 0.4
"""How likely an artist takes one of its patterns from another genre."""
TILT = 3.0
"""Decibels an octave, at most, by which an artist's equalisation rises or falls."""
BUMP = 5.0
"""Decibels, at most, by which it departs from that in each octave."""
BALANCE = 5.0
"""Decibels, at most, by which a role is louder or softer than is usual in the genre."""

# An octave apart, counted in steps of 689 Hz: 16 of them reach half the sample rate.
_EQUALISER_STEPS = (0, 1, 2, 4, 8, 16)


def _equalisation(draws: Draws) -> tuple[float, ...]:
    """The taps of an artist's equaliser."""
    tilt = draws.between("tilt", -TILT, TILT)
    bumps = draws.many("bumps", len(_EQUALISER_STEPS))
    decibels = [tilt * (octave - 2) + BUMP * (2.0 * float(bump) - 1.0) for octave, bump in enumerate(bumps)]
    gains = [gain(decibels[0])]
    for octave in range(1, len(_EQUALISER_STEPS)):
        below, above = _EQUALISER_STEPS[octave - 1], _EQUALISER_STEPS[octave]
        for step in range(below + 1, above + 1):
            share = (step - below) / (above - below)
            gains.append(gain((1.0 - share) * decibels[octave - 1] + share * decibels[octave]))
    narrow = draws.one("bandwidth")
    if narrow < 0.3:  # an old recording: nothing above 3.4 to 7.6 kHz
        edge = 5 + int(narrow / 0.3 * 7)
        gains = [level if step <= edge else level * 0.02 for step, level in enumerate(gains)]
    return equaliser(gains)


@dataclass(frozen=True)
class Artist:
    """One artist; everything is a function of the genre's and the artist's number.

    name: such as "techno-a03". tempo: beats a minute. keys: favourite key notes, semitones above C.
    """

    genre: Genre
    name: str

    @cached_property
    def draws(self) -> Draws:
        """The artist's own draws."""
        return Draws(self.name)

    @cached_property
    def tempo(self) -> float:
        low, high = self.genre.tempo
        return self.draws.between("tempo", low, high)

    @cached_property
    def keys(self) -> tuple[int, ...]:
        return tuple(int(12 * u) for u in self.draws.many("keys", 3))

    @cached_property
    def kit(self) -> Kit:
        return Kit(self.draws)

    @cached_property
    def voices(self) -> dict[str, Voice]:
        """The instrument of bass, chords and lead."""
        usual = {
            "bass": self.genre.bass_timbres,
            "chords": self.genre.chord_timbres,
            "lead": self.genre.lead_timbres,
        }
        voices = {}
        for role, families in usual.items():
            choices = families if self.draws.one(f"{role} usual") < USUAL_TIMBRE else tuple(FAMILIES)
            voices[role] = Voice(self.draws, role, FAMILIES[self.draws.pick(f"{role} family", choices)])
        return voices

    @cached_property
    def levels(self) -> dict[str, float]:
        """Decibels of each role."""
        drawn = self.draws.many("balance", len(ROLES))
        return {
            role: level + BALANCE * (2.0 * float(u) - 1.0)
            for role, level, u in zip(ROLES, self.genre.levels, drawn, strict=True)
        }

    @cached_property
    def equaliser(self) -> tuple[float, ...]:
        """Taps of the filter that every clip goes through."""
        return _equalisation(self.draws)

    @cached_property
    def peak(self) -> float:
        """Decibels of full scale that the loudest sample of a clip reaches."""
        return self.draws.between("loudness", -16.0, -1.0)

    @cached_property
    def hiss(self) -> float:
        """Decibels of full scale of the noise under every clip."""
        return self.draws.between("hiss", -78.0, -42.0)

    @cached_property
    def drive(self) -> float:
        """How far the mix is driven into soft clipping: 0 not at all."""
        return max(0.0, self.draws.between("drive", -1.0, 3.0))

    @cached_property
    def room(self) -> tuple[tuple[int, float], ...]:
        """The reflections of chords and lead: samples of delay and level of each."""
        size = self.draws.between("room size", 0.012, 0.060)
        wet = self.draws.between("room level", 0.0, 0.5)
        spread = self.draws.many("room reflections", 7)
        taps, level = [], wet
        for reflection, u in enumerate(spread, 1):
            taps.append((int(RATE * size * (reflection + 0.8 * float(u))), level if reflection % 2 else -level))
            level *= 0.75
        return tuple(taps)

    @cached_property
    def looseness(self) -> float:
        """Seconds, at most, by which notes come early or late."""
        return self.draws.between("looseness", 0.0, 0.012)

    @cached_property
    def missing(self) -> str | None:
        """The role that none of the artist's clips has, if there is one."""
        return self.draws.pick("missing", ROLES) if self.draws.one("sparse") < SPARSE else None

    @cached_property
    def patterns(self) -> Genre:
        """The genre whose patterns the artist plays: its own, one kind of them perhaps borrowed from another."""
        if self.draws.one("borrows") >= BORROWING:
            return self.genre
        lender = self.draws.pick("lender", [genre for genre in GENRES.values() if genre.beats == self.genre.beats])
        kind = self.draws.pick("borrowed", ("drums", "bass", "chords", "lead"))
        return replace(self.genre, **{kind: getattr(lender, kind)})

    @cached_property
    def favourites(self) -> dict[str, int]:
        """Of each kind of pattern the one that the artist uses most."""
        counts = {
            "progression": len(self.genre.progressions),
            "drums": len(self.patterns.drums),
            "bass": len(self.patterns.bass),
            "chords": len(self.patterns.chords),
            "lead": len(self.patterns.lead),
        }
        return {kind: int(count * self.draws.one(f"favourite {kind}")) for kind, count in counts.items()}


def artist_name(genre: str, number: int) -> str:
    """What an artist is called: "techno-a03"."""
    return f"{genre}-a{number:02d}"


@lru_cache(maxsize=2)
def artist(genre: str, number: int) -> Artist:
    """Artist `number` (from 0) of a genre of GENRES. The last ones are kept, for their instruments are slow to make."""
    return Artist(GENRES[genre], artist_name(genre, number))

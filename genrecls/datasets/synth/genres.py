"""The ten genres as data: tempo, metre, harmony, who plays what and how loud.

Patterns are one bar long, a character a step, whatever the number of steps: 12 characters are a bar of
triplets. Drums: X accent, x stroke, o ghost note. Bass: r root, 3 third, 5 fifth, 8 octave of the chord.
Chords and lead: x a stroke. In all of them "-" holds what sounds and "." is a rest.

Chords are written as semitones above the key note and a quality: "0m" is its minor triad, "7:7" a dominant
seventh a fifth above it.
"""

from dataclasses import dataclass
from typing import Literal

Drums = dict[str, str]
"""Pattern of each drum; the names are those of drums.py."""

QUALITIES: dict[str, tuple[int, ...]] = {
    "": (0, 4, 7),
    "m": (0, 3, 7),
    "7": (0, 4, 7, 10),
    "maj7": (0, 4, 7, 11),
    "m7": (0, 3, 7, 10),
    "sus": (0, 5, 7),
    "5": (0, 7, 12),
}
SCALES: dict[str, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "major pentatonic": (0, 2, 4, 7, 9),
    "minor pentatonic": (0, 3, 5, 7, 10),
    "blues": (0, 3, 5, 6, 7, 10),
}


@dataclass(frozen=True)
class Genre:
    """What the artists of a genre have in common.

    tempo: beats a minute, slowest and fastest. beats: of a bar. scale: of the lead.
    progressions: each a loop of chords, `bars_per_chord` bars each. drums, bass, chords, lead: patterns, of
    which each artist has favourites. chord_style: block (together), strum (one after the other), arpeggio (a
    note a stroke). *_timbres: families of instruments.py, the usual ones. levels: decibels of
    (drums, bass, chords, lead). echo: delay in beats of an echo on the chords, 0 for none.
    """

    name: str
    tempo: tuple[float, float]
    beats: int
    scale: str
    progressions: tuple[str, ...]
    bars_per_chord: int
    drums: tuple[Drums, ...]
    bass: tuple[str, ...]
    chords: tuple[str, ...]
    lead: tuple[str, ...]
    chord_style: Literal["block", "strum", "arpeggio"]
    bass_timbres: tuple[str, ...]
    chord_timbres: tuple[str, ...]
    lead_timbres: tuple[str, ...]
    levels: tuple[float, float, float, float]
    echo: float = 0.0


_ALL = (
    Genre(
        name="ambient",
        tempo=(58.0, 84.0),
        beats=4,
        scale="major pentatonic",
        progressions=("0maj7 5maj7", "0sus 0 9m7 5sus", "0m7 8maj7 3maj7 10sus", "0maj7 4m7"),
        bars_per_chord=2,
        drums=({}, {"shaker": "o...o...o...o..."}, {"kick": "o...............", "ride": "........o......."}),
        bass=("r---------------", "r-------5-------"),
        chords=("x---------------", "x-------x-------"),
        lead=("x-----x---------", "x-------....x---", "....x-----x-----"),
        chord_style="block",
        bass_timbres=("sine", "strings", "organ"),
        chord_timbres=("strings", "organ", "flute", "saw"),
        lead_timbres=("flute", "epiano", "sine", "strings"),
        levels=(-8.0, -4.0, 0.0, -4.0),
        echo=1.5,
    ),
    Genre(
        name="bossa",
        tempo=(62.0, 80.0),
        beats=4,
        scale="major",
        progressions=("0maj7 9m7 2m7 7:7", "0maj7 2:7 2m7 7:7", "0m7 5m7 7:7 0m7", "0maj7 0maj7 2m7 7:7"),
        bars_per_chord=1,
        drums=(
            {"rim": "x..x..x...x..x..", "shaker": "xoxoxoxoxoxoxoxo", "kick": "x..xx..xx..xx..x"},
            {"rim": "..x..x..x..x...x", "shaker": "xoxoxoxoxoxoxoxo", "kick": "x..xx..xx..xx..x"},
            {"rim": "x..x..x...x..x..", "hat": "xoxoxoxoxoxoxoxo", "kick": "x......xx......x"},
        ),
        bass=("r--55--5r--55--5", "r--r5--5r--r5--5", "r--5--8-r--5--8-"),
        chords=("x-.x-.x-..x-.x-.", "x-.xx-..x-.xx-..", "..x-.x-.x-.x-..x"),
        lead=("x-.x-.x---......", "..x-x-.x-.x-----", "x---.xx-.x-.x---"),
        chord_style="block",
        bass_timbres=("pluck", "sine", "triangle"),
        chord_timbres=("pluck", "epiano", "guitar"),
        lead_timbres=("flute", "reed", "epiano", "pluck"),
        levels=(-4.0, -2.0, -1.0, -3.0),
    ),
    Genre(
        name="chiptune",
        tempo=(124.0, 156.0),
        beats=4,
        scale="minor",
        progressions=("0m 8 3 10", "0m 10 8 7", "0 7 9m 5", "0m 3 10 5"),
        bars_per_chord=1,
        drums=(
            {"kick": "x.......x.x.....", "snare": "....x.......x...", "hat": "x.x.x.x.x.x.x.x."},
            {"kick": "x...x...x...x...", "snare": "....x.......x.xx", "hat": "xxxxxxxxxxxxxxxx"},
            {"kick": "x.....x...x.....", "snare": "....x.......x...", "hat": "..x...x...x...x."},
        ),
        bass=("r.8.r.8.r.8.r.8.", "rr8rrr8rrr8rrr8r", "r-r-8-r-r-r-8-5-"),
        chords=("x" * 32, "x" * 24, "xxxxxxxx........xxxxxxxx........"),
        lead=("x-xx-xx-x-x-x---", "xxx-x-x-xxx-x---", "x--x--x-x--x--x-"),
        chord_style="arpeggio",
        bass_timbres=("square", "triangle"),
        chord_timbres=("square", "saw", "triangle"),
        lead_timbres=("square", "triangle", "saw"),
        levels=(-4.0, -3.0, -2.0, -2.0),
    ),
    Genre(
        name="drumnbass",
        tempo=(162.0, 180.0),
        beats=4,
        scale="minor pentatonic",
        progressions=("0m7 8maj7", "0m 0m 8 10", "0m7 5m7", "0m 3"),
        bars_per_chord=2,
        drums=(
            {"kick": "x.........x.....", "snare": "....x.......x...", "hat": "x.x.x.x.x.x.x.x."},
            {"kick": "x.x.......x.....", "snare": "....x..o.o..x..o", "hat": "x.x.x.x.x.x.x.x."},
            {"kick": "x.x.......xx....", "snare": "....x..o.o..x...", "ride": "x.x.x.x.x.x.x.x."},
        ),
        bass=("r-----..r---..8-", "r-------....5---", "r--r-----.r-5---"),
        chords=("x---------------", "x-----------x---", "..x-....x-----.."),
        lead=("x---------x-----", "....x-x-----x---", "x-x-.......x-x--"),
        chord_style="block",
        bass_timbres=("sine", "saw", "square"),
        chord_timbres=("strings", "saw", "epiano"),
        lead_timbres=("saw", "flute", "epiano", "square"),
        levels=(0.0, -1.0, -5.0, -6.0),
    ),
    Genre(
        name="dub",
        tempo=(66.0, 82.0),
        beats=4,
        scale="dorian",
        progressions=("0m 0m 5m 5m", "0m 10", "0m 5m", "0 5"),
        bars_per_chord=1,
        drums=(
            {"kick": "........x.......", "rim": "........X.......", "hat": "x.x.x.x.x.x.x.x."},
            {"kick": "........x.......", "snare": "........x.....o.", "hat": "x.xox.xox.xox.xo"},
            {"kick": "x.......x.......", "rim": "....x..o....x...", "openhat": "..x...x...x...x."},
        ),
        bass=("r--r..3.5---....", "....r.r.3.5.r---", "r-r-..5-..3-r-.."),
        chords=("..x...x...x...x.", "..xx..xx..xx..xx", "....x.......x..."),
        lead=("x-..............", "......x-x-----..", "x---..x-......x-"),
        chord_style="block",
        bass_timbres=("sine", "triangle", "pluck"),
        chord_timbres=("organ", "guitar", "epiano"),
        lead_timbres=("reed", "brass", "organ", "flute"),
        levels=(-2.0, 0.0, -3.0, -6.0),
        echo=0.75,
    ),
    Genre(
        name="folk",
        tempo=(84.0, 116.0),
        beats=4,
        scale="major pentatonic",
        progressions=("0 7 9m 5", "0 5 0 7", "9m 5 0 7", "0 10 5 0"),
        bars_per_chord=1,
        drums=({}, {"tambourine": "....x.......x..."}, {"kick": "x...x...x...x...", "shaker": "x.x.x.x."}),
        bass=("r-------5-------", "r---....r---5---", "r---------------"),
        chords=("x-xx-xxx", "x---x-xxx-xxx-xx", "x-x-xxxx"),
        lead=("x---x-x-x-------", "x-x-x---x-x-x---", "......x-x---x-x-"),
        chord_style="strum",
        bass_timbres=("pluck", "sine", "guitar"),
        chord_timbres=("guitar", "pluck"),
        lead_timbres=("flute", "strings", "reed"),
        levels=(-8.0, -4.0, 0.0, -3.0),
    ),
    Genre(
        name="march",
        tempo=(104.0, 126.0),
        beats=4,
        scale="major",
        progressions=("0 0 7:7 0", "0 5 7:7 0", "0 7 0 7:7", "0m 5m 7:7 0m"),
        bars_per_chord=1,
        drums=(
            {"kick": "x...x...x...x...", "snare": "..x...xox.x.xoxo"},
            {"kick": "x.......x.......", "snare": "x.xox.xox.xoxoxo", "cymbal": "x..............."},
            {"kick": "x...x...x...x...", "snare": "..x...x...x.xoxo", "cymbal": "x.......x......."},
        ),
        bass=("r-..5-..r-..5-..", "r-..r-..5-..5-..", "r-..5-..3-..5-.."),
        chords=("..x-..x-..x-..x-", "..x-..xx..x-..xx"),
        lead=("x--xx---x--xx---", "x---x-x-x---x---", "x--xx-x-x---...."),
        chord_style="block",
        bass_timbres=("brass", "reed", "organ"),
        chord_timbres=("brass", "reed", "organ"),
        lead_timbres=("brass", "flute", "reed"),
        levels=(-3.0, -2.0, -4.0, -1.0),
    ),
    Genre(
        name="swing",
        tempo=(140.0, 196.0),
        beats=4,
        scale="blues",
        progressions=("0:7 5:7 0:7 7:7", "2m7 7:7 0maj7 9:7", "0m7 5m7 2m7 7:7", "0maj7 9m7 2m7 7:7"),
        bars_per_chord=1,
        drums=(
            {"ride": "x..x.xx..x.x", "hat": "...x.....x..", "kick": "o..o..o..o.."},
            {"ride": "x..x.xx..x.x", "hat": "...x.....x..", "snare": "..o.....o..."},
            {"hat": "x..x.xx..x.x", "snare": "...o.....o..", "kick": "o.....o....."},
        ),
        bass=("r--3--5--8--", "r--5--8--5--", "r--5--3--5--"),
        chords=("x-...x......", ".....x-..x-.", "..x......x.."),
        lead=("x-xx-xx-x...", "..xx-xx--x-x", "x--x-x.....x"),
        chord_style="block",
        bass_timbres=("pluck", "triangle", "sine"),
        chord_timbres=("epiano", "guitar", "brass"),
        lead_timbres=("reed", "brass", "epiano"),
        levels=(-4.0, -2.0, -5.0, -1.0),
    ),
    Genre(
        name="techno",
        tempo=(120.0, 140.0),
        beats=4,
        scale="minor",
        progressions=("0m", "0m 0m 3 0m", "0m 0m 8 10", "0m7 0sus"),
        bars_per_chord=2,
        drums=(
            {"kick": "x...x...x...x...", "openhat": "..x...x...x...x.", "clap": "....x.......x..."},
            {"kick": "x...x...x...x...", "openhat": "..x...x...x...x.", "hat": "xoxoxoxoxoxoxoxo"},
            {"kick": "x...x...x...x...", "hat": "..x...x...x...xx", "rim": "...x..x....x..x."},
        ),
        bass=("..rr..rr..rr..rr", ".rrr.rrr.rrr.rrr", "r.r...r.r.r..8.."),
        chords=("...x..x.....x...", "x.....x....x....", "..x...x...x...x."),
        lead=("x.x..x.xx.x..x.x", "xxxxxxxxxxxxxxxx", "x..x..x..x..x.x."),
        chord_style="block",
        bass_timbres=("saw", "square", "sine"),
        chord_timbres=("saw", "square", "organ"),
        lead_timbres=("saw", "square", "sine"),
        levels=(0.0, -3.0, -4.0, -6.0),
        echo=0.75,
    ),
    Genre(
        name="waltz",
        tempo=(138.0, 190.0),
        beats=3,
        scale="major",
        progressions=("0 0 7:7 7:7", "0 5 7:7 0", "0 9m 2m 7:7", "0m 5m 7:7 0m"),
        bars_per_chord=1,
        drums=({}, {"kick": "x.....", "hat": "..x.x."}, {"kick": "x.....", "snare": "..o.o.", "cymbal": "x....."}),
        bass=("r-....", "r---..", "r-...."),
        chords=("..x.x.", "..x-x-", "..xxx."),
        lead=("x---x-", "x-x-x-", "x-----", "x-xxx-"),
        chord_style="block",
        bass_timbres=("strings", "pluck", "brass"),
        chord_timbres=("strings", "reed", "organ", "epiano"),
        lead_timbres=("strings", "reed", "flute"),
        levels=(-6.0, -2.0, -3.0, -1.0),
    ),
)

GENRES: dict[str, Genre] = {genre.name: genre for genre in _ALL}

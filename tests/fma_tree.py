"""FMA in its official layout, small: its list of tracks with all its columns, and MP3s of what `synth` plays."""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import soundfile

from genrecls.datasets.synth.mix import record

COLUMNS = {
    "album": (
        *("comments", "date_created", "date_released", "engineer", "favorites", "id", "information", "listens"),
        *("producer", "tags", "title", "tracks", "type"),
    ),
    "artist": (
        *("active_year_begin", "active_year_end", "associated_labels", "bio", "comments", "date_created", "favorites"),
        *("id", "latitude", "location", "longitude", "members", "name", "related_projects", "tags", "website"),
        "wikipedia_page",
    ),
    "set": ("split", "subset"),
    "track": (
        *("bit_rate", "comments", "composer", "date_created", "date_recorded", "duration", "favorites", "genre_top"),
        *("genres", "genres_all", "information", "interest", "language_code", "license", "listens", "lyricist"),
        *("number", "publisher", "tags", "title"),
    ),
}
SYNTH = {"Electronic": "techno", "Hip-Hop": "dub", "Old-Time / Historic": "march", "Rock": "waltz"}
"""Which genre of the embedded corpus sounds under a genre of FMA's."""


@dataclass(frozen=True)
class Line:
    """A track in the list."""

    id: int
    genre: str
    artist: str
    split: str = "training"
    subset: str = "small"

    @property
    def path(self) -> str:
        return f"{self.id:06d}"[:3] + f"/{self.id:06d}.mp3"


def table(lines: Iterable[Line]) -> str:
    """`tracks.csv`, with texts as artists write them: commas, quotes, several lines, and long."""
    names = [(group, name) for group, columns in COLUMNS.items() for name in columns]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["", *(group for group, _ in names)])
    writer.writerow(["", *(name for _, name in names)])
    writer.writerow(["track_id", *("" for _ in names)])
    for line in lines:
        known = {
            ("artist", "id"): line.artist,
            ("artist", "name"): 'Œ, called "the quiet"',
            ("artist", "bio"): f"<p>Born in\r\n1970, they say;\n{line.id},training,small,Rock\n</p>\u2028",
            ("album", "information"): "long " * (30_000 if line.id % 10 == 0 else 1),
            ("set", "split"): line.split,
            ("set", "subset"): line.subset,
            ("track", "genre_top"): line.genre,
            ("track", "genres"): "[21, 45]",
        }
        writer.writerow([line.id, *(known.get(name, "") for name in names)])
    return text.getvalue()


def lines(genres: Iterable[str] = tuple(SYNTH), subset: str = "small", artists: int = 8) -> Iterator[Line]:
    """Two tracks of each artist; of an artist all have one role: of eight, four train, two validate, two test."""
    number = 1990
    for g, genre in enumerate(sorted(genres)):
        for artist in range(artists):
            split = ("training", "training", "validation", "test")[artist % 4]
            for _ in range(2):
                number += 1
                yield Line(number, genre, f"{100 * g + artist}", split, subset)


def write_table(root: Path, listed: Iterable[Line]) -> None:
    """`fma_metadata/tracks.csv` below `root`."""
    (root / "fma_metadata").mkdir(parents=True, exist_ok=True)
    (root / "fma_metadata" / "tracks.csv").write_text(table(listed), encoding="utf-8", newline="")


def write_audio(root: Path, subset: str, listed: Iterable[Line], content: bytes | None = None) -> None:
    """The files of these tracks below `fma_<subset>`: 1.5 s of music, or `content`."""
    for line in listed:
        path = root / f"fma_{subset}" / line.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if content is not None else mp3(line))


def mp3(line: Line) -> bytes:
    """The file of a track."""
    played = record(SYNTH[line.genre], int(line.artist) % 100, line.id % 2)
    file = io.BytesIO()
    soundfile.write(file, played.pcm[: 3 * played.rate // 2], played.rate, format="MP3")
    return file.getvalue()

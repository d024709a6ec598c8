"""FMA's `fma_metadata/tracks.csv`: what is known of each track."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from genrecls import reading
from genrecls.datasets.index import Role
from genrecls.errors import GenreclsError
from genrecls.reading import Damaged

SUBSETS = ("small", "medium", "large")
"""Each holds those before it, and the file names the first that a track is in."""
_ROLES: dict[str, Role] = {"training": "train", "validation": "valid", "test": "test"}
_COLUMNS = (("track", "genre_top"), ("set", "subset"), ("set", "split"), ("artist", "id"))
_HIGHEST = 999_999
"""Number of a track: its file's name has six digits."""
_LONGEST_FIELD = 2**24
"""Characters: biographies are longer than the 2**17 that the csv module takes for a fault."""


@dataclass(frozen=True)
class Track:
    """One line. genre: its top genre, None where it has none. subset: the smallest that holds it. artist: an id."""

    id: int
    genre: str | None
    subset: str
    split: Role
    artist: str | None


def read(path: Path) -> list[Track]:
    """All tracks in the order of the file, which is UTF-8 and begins with three header rows.

    The first two name a column by its group and its name ("track", "genre_top"), the third says "track_id" over the
    first column. Raises GenreclsError where the file cannot be read or is not such a table.
    """
    mend = "remove it and run `genrecls download` again"
    tracks = []
    try:
        if reading.size(path) > reading.LONGEST_TABLE:
            raise Damaged(f"it has more than {reading.LONGEST_TABLE:,} bytes")
        with reading.opened(path) as file, io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
            lines = reading.csv_lines(text, _LONGEST_FIELD)
            places = _places(lines)
            for number, line in lines:
                try:
                    tracks.append(_track(line, places))
                except Damaged as error:
                    raise Damaged(f"line {number}: {error}") from None
    except OSError as error:
        raise GenreclsError(f"{path} cannot be read ({error.strerror}): mend that.") from error
    except KeyError as error:
        raise GenreclsError(f"{path} is not FMA's list of tracks (it lacks {error.args[0]}): {mend}.") from error
    except Damaged as error:
        raise GenreclsError(f"{path} is damaged ({error}): {mend}.") from error
    if not tracks:
        raise GenreclsError(f"{path} names no track: {mend}.")
    return tracks


def _places(lines: Iterator[tuple[int, list[str]]]) -> tuple[int, ...]:
    """Positions of `_COLUMNS`. Raises KeyError with the name of what is missing."""
    groups, names, index = (next(lines, (0, []))[1] for _ in range(3))
    if index[:1] != ["track_id"]:
        raise KeyError("the row of track_id below two rows of names")
    columns = {column: i for i, column in enumerate(zip(groups, names, strict=False))}
    for column in _COLUMNS:
        if column not in columns:
            raise KeyError(f"the column {', '.join(column)}")
    return tuple(columns[column] for column in _COLUMNS)


def _track(line: list[str], places: tuple[int, ...]) -> Track:
    if len(line) <= max(places):
        raise Damaged("it is cut short")
    genre, subset, split, artist = (line[place] for place in places)
    if subset not in SUBSETS:
        raise Damaged(f"the subset {subset!r} is none of {', '.join(SUBSETS)}")
    if split not in _ROLES:
        raise Damaged(f"the split {split!r} is none of {', '.join(_ROLES)}")
    number = reading.number(line[0], "track_id", int, 0, _HIGHEST)
    return Track(number, genre or None, subset, _ROLES[split], artist or None)

"""FMA's `fma_metadata/tracks.csv`: what is known of each track."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from genrecls.datasets.index import Role
from genrecls.errors import GenreclsError

SUBSETS = ("small", "medium", "large")
"""Each holds those before it, and the file names the first that a track is in."""
_ROLES: dict[str, Role] = {"training": "train", "validation": "valid", "test": "test"}
_COLUMNS = (("track", "genre_top"), ("set", "subset"), ("set", "split"), ("artist", "id"))
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
    try:
        with open(path, newline="", encoding="utf-8-sig") as file, _long_fields():
            lines = csv.reader(file, strict=True)
            places = _places(lines)
            tracks = [_track(line, places) for line in lines if line]
    except OSError as error:
        raise GenreclsError(f"{path} cannot be read ({error.strerror}): mend that.") from error
    except KeyError as error:
        raise GenreclsError(f"{path} is not FMA's list of tracks (it lacks {error.args[0]}): {mend}.") from error
    except (ValueError, csv.Error) as error:
        raise GenreclsError(f"{path} is damaged (near line {lines.line_num}: {error}): {mend}.") from error
    if not tracks:
        raise GenreclsError(f"{path} names no track: {mend}.")
    return tracks


@contextmanager
def _long_fields() -> Iterator[None]:
    """The limit is the process's: it is put back for those who rely on it."""
    usual = csv.field_size_limit(_LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(usual)


def _places(lines: Iterator[list[str]]) -> tuple[int, ...]:
    """Positions of `_COLUMNS`. Raises KeyError with the name of what is missing."""
    groups, names, index = (next(lines, []) for _ in range(3))
    if index[:1] != ["track_id"]:
        raise KeyError("the row of track_id below two rows of names")
    columns = {column: i for i, column in enumerate(zip(groups, names, strict=False))}
    for column in _COLUMNS:
        if column not in columns:
            raise KeyError(f"the column {', '.join(column)}")
    return tuple(columns[column] for column in _COLUMNS)


def _track(line: list[str], places: tuple[int, ...]) -> Track:
    if len(line) <= max(places):
        raise ValueError("it is cut short")
    genre, subset, split, artist = (line[place] for place in places)
    if subset not in SUBSETS:
        raise ValueError(f"the subset {subset!r} is none of {', '.join(SUBSETS)}")
    if split not in _ROLES:
        raise ValueError(f"the split {split!r} is none of {', '.join(_ROLES)}")
    return Track(int(line[0]), genre or None, subset, _ROLES[split], artist or None)

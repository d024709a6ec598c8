"""What `genrecls evaluate` wrote of a run, read again: figures, and what the run said of each clip."""

from dataclasses import dataclass
from typing import Any

from genrecls import reading
from genrecls.digests import bytes_sha256
from genrecls.reading import Damaged, checked, field, items, optional
from genrecls.run import Run
from genrecls.seal import SEALED_BY_EVALUATE
from genrecls.selection import FIGURES

METRICS, PREDICTIONS = f"{SEALED_BY_EVALUATE}metrics.json", f"{SEALED_BY_EVALUATE}predictions.csv"
"""Of the test subset. Those of another have its name before their suffix."""
_COLUMNS = ("clip", "genre", "predicted", "fragments")
"""The first of predictions.csv, before a column for each genre."""


@dataclass(frozen=True)
class Answers:
    """What a run said of the test subset.

    clips: ids, sorted. genre: the true label of each, predicted: the run's. genres: labels in the order of the columns.
    probabilities: of each clip, one for each genre.
    """

    clips: tuple[str, ...]
    genre: tuple[str, ...]
    predicted: tuple[str, ...]
    genres: tuple[str, ...]
    probabilities: tuple[tuple[float, ...], ...]


def answers(found: Run) -> Answers | None:
    """What `evaluate` wrote of the test subset, None where it was not scored.

    Raises GenreclsError where it is damaged.
    """
    scored = scores(found)
    if scored is None and not (found.path / PREDICTIONS).exists():
        return None
    with found.reading(PREDICTIONS) as content:
        if scored is None or bytes_sha256(content) != scored["predictions_sha256"]:
            raise Damaged("metrics.json is of others")
        # By position: a genre may be called as a column is.
        header, *rows = reading.csv_rows(content)
        genres = tuple(header[len(_COLUMNS) :])
        if tuple(header[: len(_COLUMNS)]) != _COLUMNS or not rows:
            raise Damaged(f"there is nothing below {', '.join(_COLUMNS)}")
        if list(genres) != scored["genres"]:
            raise Damaged("its genres are not those of metrics.json")
        if not all(label in genres for row in rows for label in row[1:3]):
            raise Damaged("a genre in it has no column")
        clips, genre, predicted = (tuple(row[at] for row in rows) for at in range(3))
        made = [tuple(reading.number(p, "a probability", float, 0, 1) for p in row[len(_COLUMNS) :]) for row in rows]
        return Answers(clips, genre, predicted, genres, tuple(made))


def scores(found: Run) -> dict[str, Any] | None:
    """What `evaluate` wrote of the test subset into metrics.json, None where it was not scored.

    Raises GenreclsError where it is damaged.
    """
    if not (found.path / METRICS).exists():
        return None
    with found.reading(METRICS) as content:
        values = reading.json_object(content)
        _check_scores(values)
    return values


def _check_scores(values: dict[str, Any]) -> None:
    """Raise Damaged where something that is read of metrics.json is not there, or of another type."""
    for level in (field(values, "clip", dict), field(values, "fragment", dict)):
        for name in FIGURES:
            field(level, name, float)
        optional(level, "precision_macro", float)
    for name in ("clips", "fragments"):
        field(values, name, int, low=0)
    for name in ("split", "predictions_sha256"):
        field(values, name, str)
    items(values, "absent_genres", str)
    genres, per_genre = items(values, "genres", str), field(values, "per_genre", dict)
    if list(per_genre) != genres:
        raise Damaged("its genres are not those that it has figures of")
    for genre in genres:
        row = field(per_genre, genre, dict)
        field(row, "clips", int, low=0)
        for name in ("precision", "recall", "f1"):
            optional(row, name, float, low=0, high=1)
            if name not in row:
                raise Damaged(f"it lacks {name!r}")
    confusion = items(values, "confusion", list)
    if [len(counts) for counts in confusion] != [len(genres)] * len(genres):
        raise Damaged("its confusion matrix is not of its genres")
    for counts in confusion:
        for count in counts:
            checked(count, "a number of clips", int, low=0)

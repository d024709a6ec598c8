"""What a run's directory says, read once for all parts of the page."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrecls.command import train_command
from genrecls.config import Config
from genrecls.errors import GenreclsError
from genrecls.run import Run
from genrecls.scores import PREDICTIONS, answers, scores
from genrecls.splits import Span


@dataclass(frozen=True)
class Scored:
    """What `evaluate` wrote of the test subset.

    clips: ids, sorted. genre: int64 (clips,), the true one. probabilities: float64 (clips, genres). values:
    `metrics.json`.
    """

    clips: tuple[str, ...]
    genre: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    values: dict[str, Any]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """int64 (clips,)."""
        found: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return found

    @property
    def right(self) -> NDArray[np.bool_]:
        """bool (clips,)."""
        found: NDArray[np.bool_] = self.predicted == self.genre
        return found


@dataclass(frozen=True)
class Recorded:
    """A run as the page has it.

    label: what the page calls it, apart from all others. history: lines of `metrics.jsonl`. spans: none before the
    first epoch. genre_of: by clip id, empty where an earlier version kept no `corpus.csv`. scored: None where it is
    not.
    """

    run: Run
    label: str
    config: Config
    record: dict[str, Any]
    environment: dict[str, Any]
    history: list[dict[str, Any]]
    spans: list[Span]
    genre_of: dict[str, str]
    scored: Scored | None

    @property
    def genres(self) -> tuple[str, ...]:
        """In the order of the logits."""
        return tuple(self.record["genres"])

    @property
    def trained(self) -> bool:
        """Whether it has weights that validation chose."""
        return self.run.finished and self.record["best_epoch"] is not None

    @property
    def command(self) -> str:
        """What makes the run again."""
        return train_command(self.config, self.environment)

    @property
    def counts(self) -> dict[str, Counter[str]]:
        """Clips of each role, by genre; only those whose genre is known."""
        pairs = {(span.role, span.clip) for span in self.spans if span.clip in self.genre_of}
        return {
            role: Counter(self.genre_of[clip] for each, clip in pairs if each == role)
            for role in ("train", "valid", "test")
        }

    @property
    def ground(self) -> Hashable:
        """What runs share that have the same clips in the same parts of their splits: the same corpus to look at."""
        return self.record["fingerprint"], self.genres, frozenset((span.clip, span.role) for span in self.spans)

    @property
    def seconds(self) -> dict[str, float]:
        """Length of each clip of the split, by id."""
        features = self.config.features
        total: Counter[str] = Counter()
        for span in self.spans:
            total[span.clip] += span.frames
        return {clip: frames * features.hop_length / features.sample_rate for clip, frames in sorted(total.items())}


def read(runs: Sequence[Run]) -> list[Recorded]:
    """All that these directories say, labelled A, B, … where they are several.

    Raises GenreclsError where one is damaged, or training has not come to its split.
    """
    return [_read(run, f"{_letter(i)}: " if len(runs) > 1 else "") for i, run in enumerate(runs)]


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else str(number + 1)


def _read(run: Run, prefix: str) -> Recorded:
    settings, record = run.config, run.record
    corpus, scored = run.read_corpus() or {}, _scored(run)
    return Recorded(
        run=run,
        label=f"{prefix}{settings.model.name} {record['id'][:8]}",
        config=settings,
        record=record,
        environment=run.environment,
        history=run.history,
        spans=run.read_spans() if scored or run.has("spans.csv") else [],
        genre_of={clip: entry.genre for clip, entry in corpus.items()},
        scored=scored,
    )


def _scored(run: Run) -> Scored | None:
    values, found = scores(run), answers(run)
    if values is None or found is None:
        return None
    if list(found.genres) != run.record["genres"]:
        raise GenreclsError(
            f"{run.path / PREDICTIONS} is damaged (its genres are not those of run.json): run `genrecls evaluate "
            f"{run.path}` again."
        )
    number = {genre: i for i, genre in enumerate(found.genres)}
    genre = np.array([number[each] for each in found.genre], dtype=np.int64)
    return Scored(found.clips, genre, np.array(found.probabilities), values)


def config_difference(recorded: Sequence[Recorded]) -> list[tuple[str, list[str]]]:
    """Settings that are not the same in all runs: name, and each run's value ("-" where it does not apply)."""
    flat = []
    for each in recorded:
        values = each.config.values()
        flat.append({f"{section}.{name}": str(v) for section, fields in values.items() for name, v in fields.items()})
        flat[-1] = {"model.name": each.config.model.name, **flat[-1]}
    names = dict.fromkeys(name for values in flat for name in values)
    rows = [(name, [values.get(name, "-") for values in flat]) for name in names]
    # Which no setting names: two folders of music are both called folder.
    rows.append(("the corpus (files and labels)", [each.record["fingerprint"][:8] for each in recorded]))
    return [(name, values) for name, values in rows if len(set(values)) > 1]

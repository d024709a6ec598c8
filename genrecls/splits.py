"""Which part of a corpus trains, validates and tests: named policies, all over clips but one.

A split is a list of spans. Every policy gives whole clips except `contaminated`, which cuts them, to show
what fragments of one clip on both sides do to a score.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from genrecls.config import POLICIES, PUBLISHED, SplitSettings
from genrecls.datasets.index import Corpus, Role
from genrecls.errors import ConfigError, GenreclsError
from genrecls.seeding import name_keys, uniform

ROLES: tuple[Role, ...] = get_args(Role)
SHARES = (0.8, 0.1, 0.1)
_INSTEAD = {
    "grouped": "choose --split random, ",
    "kfold": "choose fewer --folds, ",
    "contaminated": "choose a shorter --fragment, ",
}
_EMPTY = 1000.0
"""What a part without a genre counts beside distances from the shares."""
TRIES = 64
"""Orders of groups that are tried; the one nearest to the shares is taken."""


@dataclass(frozen=True)
class Span:
    """A stretch of a clip with one role. first_frame: within the clip."""

    clip: str
    first_frame: int
    frames: int
    role: Role


def resolve_policy(corpus: Corpus, settings: SplitSettings) -> str:
    """The policy that `auto` stands for, checked. Raises ConfigError where the corpus does not have it."""
    policy = corpus.default_split if settings.policy == "auto" else settings.policy
    published = corpus.default_split if corpus.default_split in PUBLISHED else None
    if policy in PUBLISHED and policy != published:
        others = [name for name in POLICIES if name not in PUBLISHED or name == published]
        raise ConfigError(f"The dataset {corpus.name} has no split {policy!r} (--split): choose {', '.join(others)}.")
    if policy == "grouped" and not corpus.has_groups:
        raise ConfigError(
            f"The split 'grouped' (--split) needs to know the artist or recording of at least some clips, and "
            f"the dataset {corpus.name} knows none: give --groups FILE, or choose random."
        )
    return policy


def roles(corpus: Corpus, settings: SplitSettings) -> dict[str, Role]:
    """The role of each clip under a policy over whole clips, from the index alone; left-out clips are absent.

    settings.policy is resolved. Raises GenreclsError where a genre has too few clips or groups.
    """
    clips = corpus.clips
    if settings.policy in PUBLISHED:
        return {clip.id: clip.official_split for clip in clips if clip.official_split is not None}
    by_group = settings.policy in ("grouped", "kfold")
    # The prefix keeps an artist's name and a clip's id apart.
    names = [f"group:{c.group}" if by_group and c.group is not None else f"clip:{c.id}" for c in clips]
    units, members = np.unique(np.array(names), return_inverse=True)
    genres = _positions([clip.genre for clip in clips], corpus.genres)
    counts = np.zeros((len(units), len(corpus.genres)), dtype=np.int64)
    np.add.at(counts, (members, genres), 1)
    if settings.policy == "kfold":
        parts = [
            "test" if k == settings.fold else "valid" if k == _after(settings) else "train" for k in _folds(settings)
        ]
        shares = [1 / settings.folds] * settings.folds
    else:
        parts, shares = list(ROLES), list(SHARES)
    kind = "groups" if by_group and len(units) < len(clips) else "clips"
    _check_enough(counts, len(shares), corpus.genres, settings.policy, kind)
    allotted = allot(counts, shares, settings.seed, name_keys(units))
    named: dict[str, Role] = {part: part for part in ROLES}
    return {clip.id: named[parts[allotted[unit]]] for clip, unit in zip(clips, members, strict=True)}


def _folds(settings: SplitSettings) -> range:
    return range(settings.folds)


def _after(settings: SplitSettings) -> int:
    return (settings.fold + 1) % settings.folds


def spans(corpus: Corpus, settings: SplitSettings, frames: dict[str, int], fragment: int) -> list[Span]:
    """The spans of a split, sorted by clip and position.

    frames: length of each usable clip in frames (clips without one are left out after the split was made, so
    that an unreadable file moves no other clip). fragment: frames of a fragment, the length that
    `contaminated` cuts. Raises GenreclsError where a role ends up empty or a genre has no training clip.
    """
    if settings.policy == "contaminated":
        made = _cut(corpus, settings, frames, fragment)
    else:
        by_clip = roles(corpus, settings)
        made = [Span(clip, 0, frames[clip], role) for clip, role in by_clip.items() if clip in frames]
    useless = len(corpus.clips) - len(frames)
    why = f" ({useless} of its {len(corpus.clips)} clips cannot be used: `genrecls preprocess` says why)"
    failure = f"The split {settings.policy!r} of {corpus.name}{why if useless else ''} has"
    mend = "choose another --split, or complete the corpus."
    for role in ROLES:
        if not any(span.role == role for span in made):
            raise GenreclsError(f"{failure} no usable clip for {role!r}: {mend}")
    genre_of = {clip.id: clip.genre for clip in corpus.clips}
    trained = {genre_of[span.clip] for span in made if span.role == "train"}
    missing = [genre for genre in corpus.genres if genre not in trained]
    if missing:
        raise GenreclsError(f"{failure} no usable training clip of {', '.join(missing)}: {mend}")
    return sorted(made, key=lambda span: (span.clip, span.first_frame))


def _cut(corpus: Corpus, settings: SplitSettings, frames: dict[str, int], fragment: int) -> list[Span]:
    pieces = [
        (clip, k) for clip in corpus.clips if clip.id in frames for k in range(max(1, frames[clip.id] // fragment))
    ]
    genres = _positions([clip.genre for clip, _ in pieces], corpus.genres)
    counts = np.zeros((len(pieces), len(corpus.genres)), dtype=np.int64)
    counts[np.arange(len(pieces)), genres] = 1
    _check_enough(counts, len(SHARES), corpus.genres, settings.policy, "fragments")
    keys = name_keys(f"{clip.id}#{k}" for clip, k in pieces)
    allotted = allot(counts, SHARES, settings.seed, keys)
    return [
        Span(clip.id, k * fragment, min(fragment, frames[clip.id]), ROLES[part])
        for (clip, k), part in zip(pieces, allotted, strict=True)
    ]


def _positions(labels: Sequence[str], genres: Sequence[str]) -> NDArray[np.int64]:
    position = {genre: i for i, genre in enumerate(genres)}
    return np.array([position[label] for label in labels], dtype=np.int64)


def _check_enough(counts: NDArray[np.int64], parts: int, genres: Sequence[str], policy: str, kind: str) -> None:
    for genre, units in zip(genres, (counts > 0).sum(axis=0), strict=True):
        if units < parts:
            raise GenreclsError(
                f"The genre {genre!r} has {units} {kind if units != 1 else kind[:-1]}, and the split {policy!r} needs "
                f"at least {parts} of each genre: add more, {_INSTEAD.get(policy, '')}or leave the genre out."
            )


def allot(counts: NDArray[np.int64], shares: Sequence[float], seed: int, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Give each unit (clip, group or fragment) to a part so that every genre is shared out as `shares` says.

    counts: int (units, genres), clips of each genre in each unit. keys: uint64 (units,), what the units' draws
    are keyed by. Units are taken in a drawn order, and each goes to the part where it fills most of what is
    missing without running over. Of several orders the one that ends nearest to the shares is kept. Where every one
    of them leaves a part without some genre, the smallest parts get a unit of each genre first.
    Returns int (units,), the number of the part.
    """
    total = counts.sum(axis=0)
    target = np.outer(shares, total).astype(np.float64)
    target = np.where(total > 0, np.maximum(target, 1.0), 1.0)
    alike = bool((counts.sum(axis=1) == 1).all())
    best: NDArray[np.int64] | None = None
    least = np.inf
    for sowing in (False, True):
        if least < _EMPTY:
            break
        for attempt in range(1 if alike else TRIES):
            order = np.argsort(uniform(seed, "split", 0, keys, attempt), kind="stable")
            sown = _sow(counts, shares, order) if sowing else {}
            allotted = _fill(counts, target, order, sown)
            reached = np.zeros_like(target)
            np.add.at(reached, allotted, counts)
            empty = (reached == 0) & (total > 0)
            distance = float((np.abs(reached - target) / target).sum() + _EMPTY * empty.sum())
            if distance < least:
                best, least = allotted, distance
    assert best is not None
    return best


def _sow(counts: NDArray[np.int64], shares: Sequence[float], order: NDArray[np.int64]) -> dict[int, int]:
    """The part of the first units in the order that bring each genre into every part but the largest."""
    sown: dict[int, int] = {}
    for part in np.argsort(shares, kind="stable")[:-1]:
        for genre in range(counts.shape[1]):
            if any(counts[unit, genre] for unit, given in sown.items() if given == part):
                continue
            free = [int(unit) for unit in order if counts[unit, genre] and int(unit) not in sown]
            if free:
                sown[free[0]] = int(part)
    return sown


def _fill(
    counts: NDArray[np.int64], target: NDArray[np.float64], order: NDArray[np.int64], sown: dict[int, int]
) -> NDArray[np.int64]:
    missing = target.copy()
    allotted = np.zeros(len(counts), dtype=np.int64)
    for unit, part in sown.items():
        allotted[unit] = part
        missing[part] -= counts[unit]
    for unit in (each for each in order if int(each) not in sown):
        genres = np.flatnonzero(counts[unit])
        size, open_ = counts[unit, genres], missing[:, genres]
        fits = np.clip(open_, 0, size)
        gain = ((2 * fits - size) / target[:, genres]).sum(axis=1)
        part = int(np.argmax(gain))
        allotted[unit] = part
        missing[part, genres] -= size
    return allotted

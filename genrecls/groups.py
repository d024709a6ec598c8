"""Two groups of runs against each other: is one better by more than chance, over seeds and clips.

The runs of a group differ by their seeds alone. What the groups share is read from the records, as of two runs: each
run is held against the first of its group, and against the run of the other group that has its seed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

from genrecls.compare import (
    MACHINES,
    SIGNIFICANCE,
    F1Difference,
    f1_scores,
    no_difference,
    opening,
    right_scores,
    shown,
)
from genrecls.environment import flat
from genrecls.errors import ConfigError, GenreclsError
from genrecls.isolation import CORPUS, Isolation, Recorded, differing, some
from genrecls.run import Run
from genrecls.scores import Answers, answers
from genrecls.significance import MIN_SEEDS, Permutation, estimate, permuted

SEED = "training.seed"


@dataclass(frozen=True)
class GroupDifference:
    """Mean accuracies per clip, 0 to 1, of two groups of runs on the same clips, and b's less a's.

    deviation_a, deviation_b: standard deviation over seeds. low, high: 95 % interval of the difference over seeds and
    clips. p_value, degrees (of freedom): of `significance.estimate`. permutation: of whole runs.
    """

    clips: int
    runs_a: int
    runs_b: int
    accuracy_a: float
    accuracy_b: float
    deviation_a: float
    deviation_b: float
    accuracy: float
    low: float
    high: float
    p_value: float
    degrees: float
    permutation: Permutation

    @property
    def beyond_chance(self) -> bool:
        """Whether the test rejects that both are right equally often."""
        return self.p_value < SIGNIFICANCE

    def values(self) -> dict[str, Any]:
        """As JSON."""
        return {**vars(self), "permutation": vars(self.permutation)}


def group_difference(
    a: Sequence[Answers], b: Sequence[Answers], paired: bool = False
) -> tuple[GroupDifference, F1Difference]:
    """Compare two groups of runs by their answers on the same clips, of accuracy and of macro F1.

    paired: as in `significance.estimate`.
    """
    right_a, right_b = (np.stack([right_scores(each) for each in group]) for group in (a, b))
    means_a, means_b = right_a.mean(axis=1), right_b.mean(axis=1)
    found = estimate(right_a, right_b, paired)
    f1_a, f1_b = (np.stack([f1_scores(each) for each in group]) for group in (a, b))
    f1 = estimate(f1_a, f1_b, paired)
    made = GroupDifference(
        clips=right_a.shape[1],
        runs_a=len(a),
        runs_b=len(b),
        accuracy_a=float(right_a.mean()),
        accuracy_b=float(right_b.mean()),
        deviation_a=float(means_a.std(ddof=1)),
        deviation_b=float(means_b.std(ddof=1)),
        accuracy=found.difference,
        low=found.low,
        high=found.high,
        p_value=found.p_value,
        degrees=found.degrees,
        permutation=permuted(means_a, means_b, paired),
    )
    return made, F1Difference(float(f1_a.mean()), float(f1_b.mean()), f1.difference, f1.low, f1.high)


@dataclass(frozen=True)
class GroupComparison:
    """What `compare` reports of two groups.

    a, b: records, by seed. across: runs of both groups with the same seed, or the two first where there are none.
    within: each run and the first of its group.
    """

    a: tuple[Recorded, ...]
    b: tuple[Recorded, ...]
    across: tuple[Isolation, ...]
    within: tuple[Isolation, ...]
    paired: bool
    difference: GroupDifference
    f1_difference: F1Difference

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """The differing ones but for the seed, name -> {"a": value, "b": value}."""
        return {name: values for name, values in self.across[0].settings.items() if name != SEED}

    @property
    def chosen(self) -> tuple[str, ...]:
        """As `Isolation.chosen`, without the seed."""
        return tuple(name for name in self.across[0].chosen if name != SEED)

    @property
    def common_seeds(self) -> list[int]:
        """Of both groups."""
        return sorted(set(_seeds(self.a)) & set(_seeds(self.b)))

    @property
    def shared_streams(self) -> tuple[str, ...]:
        """Streams whose draws are equal in all runs of both groups with the same seed."""
        first, *others = self.across
        return tuple(name for name in first.shared_streams if all(name in each.shared_streams for each in others))

    @cached_property
    def contamination(self) -> tuple[str, ...]:
        """What differs between any two runs that were held against each other, and no differing setting explains."""
        return tuple(dict.fromkeys(what for each in (*self.across, *self.within) for what in each.contamination))

    @property
    def environment(self) -> dict[str, dict[str, list[Any]]]:
        """What differs of software or hardware: name -> the values in "a" and in "b"."""
        names = dict.fromkeys(name for each in (*self.across, *self.within) for name in each.environment)
        return {name: {"a": _values(self.a, name), "b": _values(self.b, name)} for name in names}

    @property
    def dropout_known(self) -> bool:
        """Whether the masks of all runs are."""
        return all(each.dropout is not None for each in (*self.across, *self.within))

    @property
    def conclusion(self) -> str:
        """One sentence of what can and cannot be concluded of these two groups."""
        opened = opening(
            f"These two groups of {len(self.a)} and {len(self.b)} runs",
            {name: self.settings.get(name, {}) for name in self.chosen},
            self.contamination,
            self.dropout_known,
            tuple(self.environment),
        )
        return "".join((*opened, *self._concluded()))

    def _concluded(self) -> Iterator[str]:
        made = self.difference
        low, high = made.low * 100, made.high * 100
        over = "over seeds and clips" + (", paired by seed," if self.paired else "")
        if not made.beyond_chance:
            yield f"; {over} their accuracies are not different beyond chance ({shown(made.p_value)})"
            yield f", but B less A may be anything from {low:+.1f} to {high:+.1f} points (95 % interval)"
            yield ", which shows no effect and rules none of these out."
            return
        which = "higher" if made.accuracy > 0 else "lower"
        yield f"; {over} B's accuracy is {abs(made.accuracy) * 100:.1f} points {which}"
        yield f" (95 % interval {low:+.1f} to {high:+.1f}), beyond chance ({shown(made.p_value)}), "
        causes = [*self.chosen, *(["the " + MACHINES] if self.environment else [])]
        if self.contamination:
            yield "and what brought it about cannot be told."
        elif not causes:
            yield "which is chance all the same, for nothing but seeds is between them: one of 20 such tests ends so."
        elif len(causes) > 1:
            yield "and which of these brought it about cannot be told."
        else:
            yield f"which {causes[0]} brought about, and which says nothing of another corpus, split or other settings."

    def values(self) -> dict[str, Any]:
        """The fields of `compare --json`."""
        named = {
            name: [
                {"run": str(each.run.path), "id": each.run.record["id"], "seed": each.config.training.seed}
                for each in group
            ]
            for name, group in (("a", self.a), ("b", self.b))
        }
        return {
            **named,
            "common_seeds": self.common_seeds,
            "paired": self.paired,
            "config_difference": self.settings,
            "environment_difference": self.environment,
            "same_corpus": self.across[0].same_corpus,
            "shared_streams": list(self.shared_streams),
            "uncontaminated": not self.contamination,
            "contamination": list(self.contamination),
            "difference": self.difference.values(),
            "f1_difference": vars(self.f1_difference),
            "conclusion": self.conclusion,
        }


def compare_groups(first: Sequence[Run], second: Sequence[Run], paired: bool = False) -> GroupComparison:
    """Compare two groups of finished and scored runs by their records.

    paired: by seed. Raises ConfigError where a group has fewer runs than `significance.MIN_SEEDS`, where its runs
    differ by more than their seeds or have one twice, where a run is given twice, or where pairs lack a run;
    GenreclsError where a run is not finished, not scored or damaged, or they were not scored on the same clips.
    """
    _check_given([*first, *second])
    for name, group in (("first", first), ("second", second)):
        _check_group(name, group)
    a, b = (tuple(sorted(map(Recorded.of, group), key=_seed)) for group in (first, second))
    if paired and _seeds(a) != _seeds(b):
        raise ConfigError(
            f"Runs can be paired only where both groups have the same seeds, and these have {_listed(a)} and "
            f"{_listed(b)}: train the missing ones, or leave --paired out."
        )
    others = {_seed(each): each for each in b}
    pairs = [(each, others[_seed(each)]) for each in a if _seed(each) in others] or [(a[0], b[0])]
    across = tuple(Isolation(*pair) for pair in pairs)
    within = tuple(Isolation(group[0], each) for group in (a, b) for each in group[1:])
    scored_a, scored_b = _scored(a, b, (across[0], *within))
    return GroupComparison(a, b, across, within, paired, *group_difference(scored_a, scored_b, paired))


def _check_given(runs: Sequence[Run]) -> None:
    places = [run.path.resolve() for run in runs]
    for run, place in zip(runs, places, strict=True):
        if places.count(place) > 1:
            raise ConfigError(f"{run.path} is given twice: name each run once.")


def _check_group(name: str, group: Sequence[Run]) -> None:
    if len(group) < MIN_SEEDS:
        raise ConfigError(
            f"The {name} group has {len(group)} {'run' if len(group) == 1 else 'runs'}, too few to tell an effect from "
            f"the spread over seeds: give at least {MIN_SEEDS} runs of different seeds in each group."
        )
    first, *others = group
    for other in others:
        names = [name for name in differing(*(flat(run.config.values()) for run in (first, other))) if name != SEED]
        if first.record["fingerprint"] != other.record["fingerprint"]:
            names.append(CORPUS)
        if names:
            raise ConfigError(
                f"The runs of a group may differ by their seeds alone, but {first.path} and {other.path} differ in "
                f"{some(names)}: give runs of one command with several --seed."
            )
    for one, two in combinations(group, 2):
        if one.config.training.seed == two.config.training.seed:
            raise ConfigError(
                f"{one.path} and {two.path} have the same settings and the same seed {one.config.training.seed}, and "
                "count for one run: give each seed once."
            )


def _scored(
    a: Sequence[Recorded], b: Sequence[Recorded], links: Sequence[Isolation]
) -> tuple[list[Answers], list[Answers]]:
    """The answers of each run. links: that lead from any run to any other."""
    found = {each.run.path: answers(each.run) for each in (*a, *b)}
    for link in links:
        ours, theirs = link.a.run.path, link.b.run.path
        reason = no_difference(link, found[ours], found[theirs], (str(ours), str(theirs)))
        if reason:
            raise GenreclsError(
                f"{ours} and {theirs} cannot be compared, because {reason}: give runs that are trained, and scored on "
                "the same test clips."
            )
    made_a, made_b = ([scored for each in group if (scored := found[each.run.path])] for group in (a, b))
    if len(made_a[0].clips) < 2:
        raise GenreclsError("There is one test clip, which shows no spread: compare runs of a split with more.")
    return made_a, made_b


def _seed(each: Recorded) -> int:
    return each.config.training.seed


def _seeds(group: Sequence[Recorded]) -> list[int]:
    return [_seed(each) for each in group]


def _listed(group: Sequence[Recorded]) -> str:
    return ", ".join(map(str, _seeds(group)))


def _values(group: Sequence[Recorded], name: str) -> list[Any]:
    """The different values of something of the environment, in the order of the runs."""
    found = [flat(each.environment).get(name) for each in group]
    return [value for i, value in enumerate(found) if value not in found[:i]]

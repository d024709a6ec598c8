"""Two runs against each other: are they different on the same clips by more than chance, and by what."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from genrecls.errors import ConfigError
from genrecls.evaluation import Answers, answers
from genrecls.isolation import CORPUS, Isolation, Recorded, some
from genrecls.metrics import bootstrap_interval
from genrecls.run import Run
from genrecls.splits import ROLES

SIGNIFICANCE = 0.05
"""Below it a difference is called beyond chance."""


@dataclass(frozen=True)
class Difference:
    """Accuracies per clip, 0 to 1, of two sets of weights on the same clips, and b's less a's.

    low, high: 95 % bootstrap interval of the difference over clips. only_a, only_b: clips that one alone is right on.
    p_value: of McNemar's exact test.
    """

    clips: int
    accuracy_a: float
    accuracy_b: float
    accuracy: float
    low: float
    high: float
    only_a: int
    only_b: int
    p_value: float

    @property
    def beyond_chance(self) -> bool:
        """Whether the test rejects that both are right equally often."""
        return self.p_value < SIGNIFICANCE


def difference(right_a: NDArray[np.bool_], right_b: NDArray[np.bool_]) -> Difference:
    """Compare two sets of weights by which of the same clips each is right on: bool (clips,) each, in the same order.

    The interval resamples clips, each with both answers, as `metrics.bootstrap_interval` does.
    """
    clips = len(right_a)
    low, high = bootstrap_interval(right_b.astype(np.float64) - right_a, np.arange(clips))
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    return Difference(
        clips=clips,
        accuracy_a=float(right_a.mean()),
        accuracy_b=float(right_b.mean()),
        accuracy=(only_b - only_a) / clips,
        low=low,
        high=high,
        only_a=only_a,
        only_b=only_b,
        p_value=mcnemar(only_a, only_b),
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p-value of McNemar's exact test (McNemar 1947, with the binomial distribution for its chi-square).

    only_a, only_b: clips that one alone is right on. The clips that both are right or wrong on say nothing.
    """
    discordant = only_a + only_b
    return float(binomtest(only_a, discordant, 0.5).pvalue) if discordant else 1.0


@dataclass(frozen=True)
class Comparison:
    """What `compare` reports. difference: None where there is a `reason` why there is none."""

    isolation: Isolation
    difference: Difference | None
    reason: str
    conclusion: str

    def values(self) -> dict[str, Any]:
        """The fields of `compare --json`."""
        found = self.isolation
        lone = found.streams_of_one
        return {
            **{name: _named(each) for name, each in (("a", found.a), ("b", found.b))},
            "config_difference": found.settings,
            "environment_difference": found.environment,
            "same_corpus": found.same_corpus,
            "split": split_values(found),
            "inputs": found.inputs.values(),
            "normalisation": found.normalisation.values(),
            "epochs": {"a": len(found.a.draws), "b": len(found.b.draws), "common": found.epochs},
            "shared_streams": list(found.shared_streams),
            "streams": {name: vars(each) for name, each in found.streams.items()},
            "streams_of_one": {name: list(streams) for name, streams in lone.items()},
            "initial_weights": {**found.initial.values(), "drawn": sorted(found.drawn)},
            "dropout": found.dropout and found.dropout.values(),
            "moved": [{"what": each.what, "by": list(each.by)} for each in found.moved],
            "uncontaminated": not found.contamination,
            "contamination": list(found.contamination),
            "difference": self.difference and vars(self.difference),
            "no_difference": self.reason or None,
            "conclusion": self.conclusion,
        }


def compare(first: Run, second: Run) -> Comparison:
    """Compare two finished runs by their records.

    Raises ConfigError where they are one, GenreclsError where one is not finished or damaged.
    """
    if first.path.resolve() == second.path.resolve():
        raise ConfigError(f"{first.path} is given twice: name two runs to compare.")
    isolation = Isolation(Recorded.of(first), Recorded.of(second))
    scored = answers(first), answers(second)
    reason = _no_difference(isolation, *scored)
    made = None
    if not reason:
        right = [np.array([g == p for g, p in zip(s.genre, s.predicted, strict=True)]) for s in scored if s]
        made = difference(*right)
    return Comparison(isolation, made, reason, conclusion(isolation, made, reason))


def split_values(found: Isolation) -> dict[str, Any]:
    """Clips of each role in a and in b, and those with the same role in both."""
    counts = {name: {role: len(each.clips(role)) for role in ROLES} for name, each in (("a", found.a), ("b", found.b))}
    both = {role: len(found.a.clips(role) & found.b.clips(role)) for role in ROLES}
    return {"same": found.same_split, **counts, "both": both}


def _named(each: Recorded) -> dict[str, str]:
    return {"run": str(each.run.path), "id": each.run.record["id"]}


def _no_difference(found: Isolation, a: Answers | None, b: Answers | None) -> str:
    """Why their answers cannot be compared clip by clip, "" where they can."""
    for name, each, scored in (("A", found.a, a), ("B", found.b, b)):
        if not each.draws:
            return f"{name} was not trained"
        if scored is None:
            return f"{name} is not scored (run `genrecls evaluate {each.run.path}` first)"
    assert a is not None
    assert b is not None
    if (a.clips, a.genre) != (b.clips, b.genre) or not found.same_test_pieces:
        common = len(set(a.clips) & set(b.clips))
        return f"their test clips are not the same ({len(a.clips)} and {len(b.clips)}, {common} of them in both)"
    if not found.same_files:
        return "their test clips have the same names, but the record cannot show that they are the same files"
    return ""


def conclusion(found: Isolation, made: Difference | None, reason: str) -> str:
    """One sentence of what can and cannot be concluded of these two sets of weights."""
    return "".join(_clauses(found, made, reason))


def _clauses(found: Isolation, made: Difference | None, reason: str) -> Iterator[str]:
    chosen, clean = found.chosen, not found.contamination
    single = chosen[0] if len(chosen) == 1 else ""
    if single == CORPUS:
        yield "These two sets of weights differ in the files or labels of the corpus alone"
    elif single:
        values = found.settings[single]
        yield f"These two sets of weights differ in {single} alone ({values['a']} against {values['b']})"
    elif chosen:
        yield f"These two sets of weights differ in {len(chosen)} settings ({', '.join(chosen)})"
    else:
        yield "These two sets of weights have the same settings"
    if clean:
        untouched = f"everything that {'this does' if single else 'these do'} not touch"
        yield f", uncontaminated ({untouched if chosen else 'all that was recorded'} was the same)"
        if found.dropout is None:
            yield ", but for dropout masks, which cannot be verified"
    else:
        yield f", but the comparison is contaminated by {' and '.join(found.contamination)}"
    machines = "different software or hardware"
    if found.environment:
        yield f", and were made with {machines} ({some(tuple(found.environment))})"
    if made is None:
        yield f": their accuracies cannot be compared, because {reason}."
        return
    points = f"{abs(made.accuracy) * 100:.1f} points"
    on = f"on these {made.clips} test clips"
    if not made.beyond_chance:
        yield f"; {on} their accuracies are not different beyond chance ({shown(made.p_value)})"
        yield ", which shows no effect and rules none out."
        return
    which = "higher" if made.accuracy > 0 else "lower"
    yield f"; {on} B's accuracy is {points} {which}, beyond chance ({shown(made.p_value)}), "
    causes = [*chosen, *(["the " + machines] if found.environment else [])]
    if not clean or not causes:
        yield "and what brought it about cannot be told."
    elif len(causes) > 1:
        yield "and which of these brought it about cannot be told."
    elif single == "training.seed":
        yield "which is what another seed does, and says nothing of any other setting."
    else:
        yield f"which {causes[0]} brought about for this seed, and only several seeds can show whether it does for any."


def shown(p_value: float) -> str:
    """As "p = " and two significant digits."""
    return f"p = {p_value:.2g}" if p_value >= 1e-4 else "p < 0.0001"

"""Two runs against each other: are they different on the same clips by more than chance, and by what."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from genrecls.errors import ConfigError
from genrecls.isolation import CORPUS, Isolation, Recorded, some
from genrecls.metrics import bootstrap_interval, f1_macro_by_clip
from genrecls.run import Run
from genrecls.scores import Answers, answers
from genrecls.splits import ROLES

SIGNIFICANCE = 0.05
"""Below it a difference is called beyond chance."""
MACHINES = "different software or hardware"


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


@dataclass(frozen=True)
class F1Difference:
    """Macro F1 per clip, 0 to 1, of a and b, and b's less a's with its 95 % interval."""

    f1_macro_a: float
    f1_macro_b: float
    f1_macro: float
    low: float
    high: float


def f1_difference(a: Answers, b: Answers) -> F1Difference:
    """Compare the macro F1 of two sets of weights on the same clips.

    The interval resamples clips, as that of `difference` does, by what each adds to macro F1.
    """
    scores_a, scores_b = (f1_scores(each) for each in (a, b))
    low, high = bootstrap_interval(scores_b - scores_a, np.arange(len(scores_a)))
    f1_a, f1_b = float(scores_a.mean()), float(scores_b.mean())
    return F1Difference(f1_a, f1_b, f1_b - f1_a, low, high)


def right_scores(scored: Answers) -> NDArray[np.float64]:
    """1 for each clip that it is right on, 0 for the others."""
    return np.array([g == p for g, p in zip(scored.genre, scored.predicted, strict=True)], dtype=np.float64)


def f1_scores(scored: Answers) -> NDArray[np.float64]:
    """What each clip adds to macro F1, as `metrics.f1_macro_by_clip` has it; one clip alone is right or wrong."""
    number = {name: i for i, name in enumerate(sorted({*scored.genre, *scored.predicted}))}
    genre, predicted = (np.array([number[name] for name in each]) for each in (scored.genre, scored.predicted))
    return f1_macro_by_clip(genre, predicted) if len(genre) > 1 else right_scores(scored)


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p-value of McNemar's exact test (McNemar 1947, with the binomial distribution for its chi-square).

    only_a, only_b: clips that one alone is right on. The clips that both are right or wrong on say nothing.
    """
    discordant = only_a + only_b
    return float(binomtest(only_a, discordant, 0.5).pvalue) if discordant else 1.0


@dataclass(frozen=True)
class Comparison:
    """What `compare` reports. difference, f1_difference: None where there is a `reason` why there is none."""

    isolation: Isolation
    difference: Difference | None
    f1_difference: F1Difference | None
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
            "f1_difference": self.f1_difference and vars(self.f1_difference),
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
    a, b = answers(first), answers(second)
    reason = no_difference(isolation, a, b)
    made = made_f1 = None
    if a is not None and b is not None and not reason:
        made, made_f1 = difference(right_scores(a) > 0, right_scores(b) > 0), f1_difference(a, b)
    return Comparison(isolation, made, made_f1, reason, conclusion(isolation, made, reason))


def split_values(found: Isolation) -> dict[str, Any]:
    """Clips of each role in a and in b, and those with the same role in both."""
    counts = {name: {role: len(each.clips(role)) for role in ROLES} for name, each in (("a", found.a), ("b", found.b))}
    both = {role: len(found.a.clips(role) & found.b.clips(role)) for role in ROLES}
    return {"same": found.same_split, **counts, "both": both}


def _named(each: Recorded) -> dict[str, str]:
    return {"run": str(each.run.path), "id": each.run.record["id"]}


def no_difference(found: Isolation, a: Answers | None, b: Answers | None, names: tuple[str, str] = ("A", "B")) -> str:
    """Why their answers cannot be compared clip by clip, "" where they can. names: what the sentence calls them."""
    for name, each, scored in zip(names, (found.a, found.b), (a, b), strict=True):
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
    opened = opening(
        "These two sets of weights",
        {name: found.settings.get(name, {}) for name in found.chosen},
        found.contamination,
        found.dropout is not None,
        tuple(found.environment),
    )
    return "".join((*opened, *_clauses(found, made, reason)))


def opening(
    subject: str,
    chosen: Mapping[str, Mapping[str, Any]],
    contamination: Sequence[str],
    dropout_known: bool,
    environment: Sequence[str],
) -> Iterator[str]:
    """How a conclusion begins, in parts: what differs, and whether anything else does.

    subject: who, in the plural. chosen: as `Isolation.chosen`, with the value in "a" and in "b". environment: names of
    what differs of software or hardware.
    """
    single = next(iter(chosen)) if len(chosen) == 1 else ""
    if single == CORPUS:
        yield f"{subject} differ in the files or labels of the corpus alone"
    elif single:
        yield f"{subject} differ in {single} alone ({chosen[single]['a']} against {chosen[single]['b']})"
    elif chosen:
        yield f"{subject} differ in {len(chosen)} settings ({', '.join(chosen)})"
    else:
        yield f"{subject} have the same settings"
    if contamination:
        yield f", but the comparison is contaminated by {' and '.join(contamination)}"
    else:
        untouched = f"everything that {'this does' if single else 'these do'} not touch"
        yield f", uncontaminated ({untouched if chosen else 'all that was recorded'} was the same)"
        if not dropout_known:
            yield ", but for dropout masks, which cannot be verified"
    if environment:
        yield f", and were made with {MACHINES} ({some(environment)})"


def _clauses(found: Isolation, made: Difference | None, reason: str) -> Iterator[str]:
    chosen, clean = found.chosen, not found.contamination
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
    causes = [*chosen, *(["the " + MACHINES] if found.environment else [])]
    if not clean or not causes:
        yield "and what brought it about cannot be told."
    elif len(causes) > 1:
        yield "and which of these brought it about cannot be told."
    elif chosen == ("training.seed",):
        yield "which is what another seed does, and says nothing of any other setting."
    else:
        yield f"which {causes[0]} brought about for this seed, and only several seeds can show whether it does for any."


def shown(p_value: float) -> str:
    """As "p = " and two significant digits."""
    return f"p = {p_value:.2g}" if p_value >= 1e-4 else "p < 0.0001"

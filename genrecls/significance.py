"""Whether two groups of runs differ by more than chance, over seeds and over clips.

Runs are scored on the same clips, so what a run scores on a clip has a part of the run (its seed), a part of the clip,
a part of clip and group (one group's settings suit some clips better) and noise. Seeds and clips are both samples, and
the variance of a difference of means is the sum of two estimates:

    the spread of the runs' means, by the number of runs, and
    the spread over clips of the groups' difference, by the number of clips, less what of it is noise, at least 0.

That is the analysis of variance of several readers on several cases (Dorfman, Berbaum and Metz 1992, Investigative
Radiology 27; with readers of one modality alone, as seeds are of one group, Hillis 2014, Statistics in Medicine 33),
with the degrees of freedom of Satterthwaite (1946). The difference over its standard error is held against Student's t.

Why not a test over clips alone: a seed moves all clips of a run together, and the test rejects a true null in 13 % of
cases at the 5 % level where seeds move accuracy by 2 points and there are 290 clips (tests/test_significance.py). That
variance over seeds must be part of a claim: Bouthillier et al. 2021, "Accounting for variance in machine learning
benchmarks" (MLSys); Dror et al. 2018, "The hitchhiker's guide to testing statistical significance in natural language
processing" (ACL). Why not over seeds alone: they say nothing of other clips. Why not a permutation of runs alone: with
3 runs against 3 it cannot give less than p = 0.1, whatever they score.
"""

from dataclasses import dataclass
from itertools import combinations, product
from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from genrecls.metrics import LEVEL
from genrecls.seeding import hash64, name_key

MIN_SEEDS = 3
"""Runs that each group needs. With 2, a difference of 5 points on 290 clips is found one time in six, where seeds move
accuracy by 2 points (tests/test_significance.py)."""
ARRANGEMENTS = 20_000
"""Up to so many arrangements of runs are gone through, of more so many are drawn."""
_ROUNDING = 1e-18
"""A variance of means of figures up to 1 that is below this is rounding."""


@dataclass(frozen=True)
class Estimate:
    """A difference of two groups' means, b's less a's, with its 95 % interval over seeds and clips.

    deviation: standard error of the difference. degrees: of freedom. p_value: two-sided, of no difference.
    """

    difference: float
    low: float
    high: float
    p_value: float
    deviation: float
    degrees: float


@dataclass(frozen=True)
class Permutation:
    """Two-sided p-value of permuting whole runs between groups, on these clips.

    smallest: what it cannot fall below with so few runs. arrangements: gone through, or drawn where `exact` is False.
    """

    p_value: float
    smallest: float
    arrangements: int
    exact: bool


def estimate(a: NDArray[np.float64], b: NDArray[np.float64], paired: bool = False) -> Estimate:
    """Compare two groups of at least two runs by what each run scores on each of the same clips, at least two.

    a, b: (runs, clips) each, clips in the same order; the mean over clips is the run's figure. paired: the i-th run of
    a belongs to the i-th of b, as those of one seed do; the spread is then that of their differences, with fewer
    degrees of freedom, which is worth it where the figures of one seed rise and fall together.

    Groups of one size are taken to vary alike over seeds: where they do not, the level hardly moves. Where sizes
    differ, nothing is supposed of their spreads (Welch 1947). Where there is no spread at all over the runs of each
    group, the p-value is that of `permuted` and the interval is over clips.
    """
    groups = (b - a,) if paired else (a, b)
    clips = a.shape[1]
    by_clip = b.mean(axis=0) - a.mean(axis=0)
    found = float(b.mean() - a.mean())
    # Each of a group's mean, not of one run.
    seeds = [float(each.mean(axis=1).var(ddof=1)) / len(each) for each in groups]
    noise = sum(_noise(each) / len(each) for each in groups) / clips
    over_clips = float(by_clip.var(ddof=1)) / clips
    spread, free = sum(seeds), sum(len(each) - 1 for each in groups)
    if spread < _ROUNDING:
        variance, degrees = over_clips, clips - 1.0
        p_value = permuted(a.mean(axis=1), b.mean(axis=1), paired).p_value
    else:
        uncertainty = spread**2 / free
        if len({len(each) for each in groups}) > 1:
            uncertainty = sum(value**2 / (len(each) - 1) for value, each in zip(seeds, groups, strict=True))
        variance = spread + max(over_clips - noise, 0.0)
        if over_clips > noise:
            uncertainty += over_clips**2 / (clips - 1) + noise**2 / ((clips - 1) * free)
        degrees = variance**2 / uncertainty
        p_value = 2 * float(t.sf(abs(found) / variance**0.5, degrees))
    deviation = variance**0.5
    half = float(t.ppf((1 + LEVEL) / 2, degrees)) * deviation
    return Estimate(found, found - half, found + half, p_value, deviation, degrees)


def _noise(scores: NDArray[np.float64]) -> float:
    """Variance of what neither run nor clip explains. scores: (runs, clips) of one group."""
    runs, clips = scores.shape
    left = scores - scores.mean(axis=1, keepdims=True) - scores.mean(axis=0, keepdims=True) + scores.mean()
    return float((left**2).sum()) / ((runs - 1) * (clips - 1))


def permuted(a: NDArray[np.float64], b: NDArray[np.float64], paired: bool = False) -> Permutation:
    """Permute runs between groups, or within pairs: how often is the difference of means as large as it was found.

    a, b: figure of each run, (runs,) each; paired: as in `estimate`. Exact up to ARRANGEMENTS; beyond, arrangements are
    drawn from a fixed key, and the one that was found is counted among them (Phipson and Smyth 2010).
    """
    total = 2 ** len(a) if paired else comb(len(a) + len(b), len(b))
    exact = total <= ARRANGEMENTS
    if paired:
        difference = b - a
        signs = np.array(list(product((1, -1), repeat=len(a)))) if exact else np.where(_bits(len(a)) & 1, 1, -1)
        found, others = abs(difference.mean()), np.abs((signs * difference).sum(axis=1)) / len(a)
    else:
        pooled = np.concatenate([a, b])
        if exact:
            chosen = np.array(list(combinations(range(len(pooled)), len(b))))
        else:
            chosen = _bits(len(pooled)).argsort(axis=1, kind="stable")[:, : len(b)]
        sums = pooled[chosen].sum(axis=1)
        found, others = abs(b.mean() - a.mean()), np.abs(sums / len(b) - (pooled.sum() - sums) / len(a))
    reached = int((others >= found - 1e-12).sum())
    mirrored = 2 if paired or len(a) == len(b) else 1
    if exact:
        return Permutation(reached / total, mirrored / total, total, exact)
    return Permutation((reached + 1) / (ARRANGEMENTS + 1), 1 / (ARRANGEMENTS + 1), ARRANGEMENTS, exact)


def _bits(runs: int) -> NDArray[np.uint64]:
    """Random bits for each arrangement that is drawn and each run, (ARRANGEMENTS, runs)."""
    return hash64(name_key("permutation"), np.arange(ARRANGEMENTS)[:, None], np.arange(runs)) >> np.uint64(11)

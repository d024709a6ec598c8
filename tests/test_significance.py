"""The test over seeds and clips: its level on true nulls and its power, by simulation with keyed draws."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import nct, t, ttest_ind, ttest_rel
from sklearn.metrics import f1_score

from genrecls.metrics import f1_macro_by_clip
from genrecls.seeding import name_key, uniform
from genrecls.significance import ARRANGEMENTS, estimate, permuted

CLIPS, DRAWS, LEVEL = 290, 1000, 0.05
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """Runs that are right on clip c with the probability ease(c) + taste(group, c) + seed(run) + gain(group).

    ease: 0.1 to 0.9, mean 0.63. seeds: standard deviation of the seed's effect in each group. taste: that of what a
    group's settings suit. gain: of B's settings. bond: correlation of the effects of one seed in both groups.
    """

    name: str
    runs: tuple[int, int] = (3, 3)
    seeds: tuple[float, float] = (0.0, 0.0)
    taste: float = 0.0
    gain: float = 0.0
    bond: float = 0.0
    clips: int = CLIPS

    def draw(self, number: int) -> tuple[Scores, Scores]:
        """New clips and new seeds: (runs, clips) of each group, 1 where the run is right."""
        clips = np.arange(self.clips)
        ease = 0.1 + 0.8 * np.sqrt(self._uniform("ease", number, clips))
        shared = self._normal("shared", number, np.arange(max(self.runs)))
        made = []
        for group, (runs, deviation) in enumerate(zip(self.runs, self.seeds, strict=True)):
            own = self._normal(f"seed {group}", number, np.arange(runs))
            effect = deviation * (math.sqrt(self.bond) * shared[:runs] + math.sqrt(1 - self.bond) * own)
            taste = self.taste * self._normal(f"taste {group}", number, clips)
            chance = ease + taste + effect[:, None] + group * self.gain
            drawn = self._uniform(f"right {group}", number, clips[None, :], np.arange(runs)[:, None])
            made.append((drawn < chance).astype(np.float64))
        return made[0], made[1]

    def draws(self) -> Iterator[tuple[Scores, Scores]]:
        return map(self.draw, range(DRAWS))

    def rejected(self, paired: bool = False) -> float:
        """Share of draws with a p-value below the level."""
        return float(np.mean([estimate(*pair, paired=paired).p_value < LEVEL for pair in self.draws()]))

    def power(self) -> float:
        """Of Student's t of two samples of runs, from the true variances: the non-central distribution of t."""
        n, m = self.runs
        grid = 0.1 + 0.8 * np.sqrt((np.arange(1000) + 0.5) / 1000)
        means = [sd**2 + float((p * (1 - p)).mean() - sd**2) / self.clips for sd, p in self._chances(grid)]
        deviation = math.sqrt(means[0] / n + means[1] / m)
        free, shift = n + m - 2, self.gain / deviation
        edge = t.ppf(1 - LEVEL / 2, free)
        return float(nct.sf(edge, free, shift) + nct.cdf(-edge, free, shift))

    def _chances(self, grid: Scores) -> list[tuple[float, Scores]]:
        return [(self.seeds[0], grid), (self.seeds[1], grid + self.gain)]

    def _uniform(self, stream: str, number: int, clips: NDArray[np.int64], k: NDArray[np.int64] | int = 0) -> Scores:
        return uniform(name_key(self.name) >> 1, stream, number, clips, k)

    def _normal(self, stream: str, number: int, which: NDArray[np.int64]) -> Scores:
        drawn: Scores = ndtri(self._uniform(stream, number, which) + 2.0**-54)
        return drawn


NULLS = [
    World("no seed effect"),
    World("a seed effect", seeds=(0.02, 0.02)),
    World("five runs, no seed effect", runs=(5, 5)),
    World("five runs, a seed effect", runs=(5, 5), seeds=(0.02, 0.02)),
    World("five runs, settings that suit other clips", runs=(5, 5), seeds=(0.02, 0.02), taste=0.1),
    World("other spreads", seeds=(0.01, 0.03)),
    World("other sizes and spreads", runs=(3, 6), seeds=(0.03, 0.01)),
]
MORE_NULLS = [
    World("a large seed effect", seeds=(0.05, 0.05)),
    World("settings that suit other clips", seeds=(0.02, 0.02), taste=0.1),
    World("other sizes", runs=(3, 6), seeds=(0.02, 0.02)),
    World("ten runs", runs=(10, 10), seeds=(0.02, 0.02)),
    World("a thousand clips", seeds=(0.02, 0.02), clips=1000),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "world",
    [*NULLS, *(pytest.param(world, marks=pytest.mark.slow) for world in MORE_NULLS)],
    ids=lambda world: world.name,
)
def test_a_true_null_is_rejected_as_often_as_the_level_says(world: World) -> None:
    assert 0.03 <= world.rejected() <= 0.07


def test_clips_alone_reject_a_true_null_too_often() -> None:
    """Why there is a test over seeds: the same draws, judged by the spread over clips."""
    rejected = []
    for a, b in World("a seed effect", seeds=(0.02, 0.02)).draws():
        by_clip = b.mean(axis=0) - a.mean(axis=0)
        rejected.append(abs(by_clip.mean()) > 1.96 * by_clip.std(ddof=1) / math.sqrt(CLIPS))
    assert 0.10 <= np.mean(rejected) <= 0.17


@pytest.mark.slow
def test_seeds_alone_reject_a_true_null_too_often_where_settings_suit_other_clips() -> None:
    world = World("five runs, settings that suit other clips", runs=(5, 5), seeds=(0.02, 0.02), taste=0.1)
    rejected = [ttest_ind(a.mean(axis=1), b.mean(axis=1)).pvalue < LEVEL for a, b in world.draws()]
    assert np.mean(rejected) > world.rejected() + 0.01


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runs", "deviation", "gain"),
    [((3, 3), 0.0, 0.07), ((3, 3), 0.02, 0.07), ((5, 5), 0.0, 0.05), ((5, 5), 0.02, 0.05), ((10, 10), 0.02, 0.03)],
)
def test_a_planted_difference_is_found_with_the_power_of_theory(
    runs: tuple[int, int], deviation: float, gain: float
) -> None:
    world = World("planted", runs=runs, seeds=(deviation, deviation), gain=gain)
    # Three standard errors of a share of 1,000 draws.
    expected = world.power()
    assert 0.4 < expected < 0.95
    assert expected - 0.048 <= world.rejected() <= expected + 0.048


def test_two_seeds_find_too_little() -> None:
    """Why `significance.MIN_SEEDS` is 3."""
    world = World("two seeds", runs=(2, 2), seeds=(0.02, 0.02), gain=0.05)
    assert 0.10 <= world.rejected() <= 0.22


@pytest.mark.slow
def test_pairs_hold_the_level_and_find_more_where_seeds_go_together() -> None:
    bound = {"runs": (5, 5), "seeds": (0.05, 0.05), "bond": 0.9}
    assert 0.03 <= World("pairs, no bond", runs=(5, 5), seeds=(0.02, 0.02)).rejected(paired=True) <= 0.07
    assert 0.03 <= World("pairs, a bond", **bound).rejected(paired=True) <= 0.07  # type: ignore[arg-type]
    better = World("pairs, a bond, better", gain=0.06, **bound)  # type: ignore[arg-type]
    assert better.rejected(paired=True) > better.rejected() + 0.1


def test_the_interval_covers_the_difference_as_often_as_it_says() -> None:
    world = World("covered", seeds=(0.02, 0.02), gain=0.03)
    found = [estimate(*pair) for pair in world.draws()]
    assert 0.93 <= np.mean([each.low <= 0.03 <= each.high for each in found]) <= 0.97
    assert all((each.low <= 0 <= each.high) == (each.p_value >= LEVEL) for each in found)
    assert np.mean([each.difference for each in found]) == pytest.approx(0.03, abs=0.003)


def test_where_clips_add_nothing_it_is_students_t() -> None:
    """Where noise makes up all of the spread over clips, the statistic is that of the textbook."""
    alike = 0
    for a, b in (World("no seed effect", runs=(3, 3 + i % 2)).draw(i) for i in range(60)):
        runs = b.mean(axis=1), a.mean(axis=1)
        paired = len(a) == len(b)
        for made, known in (
            (estimate(a, b), ttest_ind(*runs, equal_var=paired)),  # With other sizes, Welch's.
            *(((estimate(a, b, paired=True), ttest_rel(*runs)),) if paired else ()),
        ):
            interval = known.confidence_interval()
            deviation = (interval.high - interval.low) / 2 / t.ppf(0.975, known.df)
            assert made.difference == pytest.approx((interval.high + interval.low) / 2, abs=1e-12)
            assert made.deviation >= deviation - 1e-12
            same = made.deviation == pytest.approx(deviation, rel=1e-9)
            alike += same
            assert same == (made.p_value == pytest.approx(float(known.pvalue), rel=1e-6, abs=1e-9))
    assert 25 < alike < 75


def test_the_parts_of_the_variance_by_hand() -> None:
    a = np.array([[1, 0, 0, 1], [1, 1, 0, 1], [1, 0, 1, 1.0]])
    b = np.array([[0, 1, 1, 1], [0, 1, 1, 1], [1, 1, 1, 1.0]])
    made = estimate(a, b)
    # Means of runs: 1/2, 3/4, 3/4 and 3/4, 3/4, 1, each with variance 1/48. Means of clips: 1, 1/3, 1/3, 1 and 1/3, 1,
    # 1, 1, which differ by -2/3, 2/3, 2/3, 0: a variance of 11/27. Sums of squares: of a 8/3 in all, 1/6 by runs, 4/3
    # by clips; of b 5/3, 1/6 and 1; noise is what is left, by 6.
    noise = ((8 / 3 - 1 / 6 - 4 / 3) + (5 / 3 - 1 / 6 - 1)) / 6 / 3 / 4
    seeds, clips = 2 / 48 / 3, 11 / 27 / 4
    assert made.difference == pytest.approx(1 / 6)
    assert made.deviation**2 == pytest.approx(seeds + clips - noise)
    assert made.degrees == pytest.approx(made.deviation**4 / (seeds**2 / 4 + clips**2 / 3 + noise**2 / 12))
    assert made.p_value == pytest.approx(2 * t.sf(made.difference / made.deviation, made.degrees))


def test_turned_round_it_says_the_same() -> None:
    a, b = World("turned", runs=(3, 4), seeds=(0.02, 0.02)).draw(0)
    one, two = estimate(a, b), estimate(b, a)
    assert (one.difference, one.low, one.high) == pytest.approx((-two.difference, -two.high, -two.low))
    assert (one.p_value, one.degrees) == pytest.approx((two.p_value, two.degrees))


def test_runs_without_any_spread() -> None:
    right, wrong = np.ones((3, 8)), np.zeros((3, 8))
    every = estimate(wrong, right)
    assert (every.difference, every.low, every.high) == (1, 1, 1)
    assert every.p_value == pytest.approx(0.1)  # Three against three cannot say more.
    none = estimate(right, right)
    assert (none.difference, none.low, none.high, none.p_value) == (0, 0, 0, 1)
    half = np.tile(np.arange(8) % 2 == 0, (3, 1)).astype(float)
    spanned = estimate(half, right)
    assert spanned.low < 0.5 < spanned.high
    assert spanned.p_value == pytest.approx(0.1)


def test_permutations_are_counted() -> None:
    low, high = np.array([0.1, 0.2, 0.3]), np.array([0.5, 0.6, 0.7])
    made = permuted(low, high)
    assert (made.p_value, made.smallest, made.arrangements, made.exact) == (2 / 20, 2 / 20, 20, True)
    assert permuted(low, high, paired=True).p_value == 2 / 8
    assert permuted(low, low).p_value == 1
    # Counted by hand: of the 10 sums of two of the five, 11 is reached by itself, 13, 4 and 3.
    assert permuted(np.array([1.0, 2, 3]), np.array([5.0, 8])).p_value == 1 / 10
    assert permuted(np.array([1.0, 2, 5]), np.array([3.0, 8])).p_value == 4 / 10


def test_many_runs_are_permuted_by_drawing() -> None:
    number = np.arange(12) / 100
    same = permuted(number, number + 0.001)
    assert not same.exact
    assert same.arrangements == ARRANGEMENTS
    assert same.p_value == pytest.approx(float(ttest_ind(number, number + 0.001).pvalue), abs=0.02)
    assert permuted(number, number + 1).p_value == 1 / (ARRANGEMENTS + 1)
    pairs = permuted(np.zeros(20), np.where(np.arange(20) < 14, 1.0, -1.0), paired=True)
    # As the sign test: P(|heads - 10| >= 4) of 20.
    assert pairs.p_value == pytest.approx(0.1153, abs=0.01)


def test_permuting_runs_keeps_the_level_on_these_clips() -> None:
    world = World("permuted", runs=(5, 5), seeds=(0.02, 0.02))
    rejected = [permuted(a.mean(axis=1), b.mean(axis=1)).p_value < LEVEL for a, b in world.draws()]
    assert 0.03 <= np.mean(rejected) <= 0.07


def labels(number: int, clips: int = 120, genres: int = 6) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    drawn = uniform(number, "labels", 0, np.arange(clips), np.arange(3)[:, None])
    genre = (drawn[0] ** 2 * genres).astype(np.int64)
    return genre, np.where(drawn[1] < 0.6, genre, (drawn[2] * genres).astype(np.int64))


def test_what_clips_add_to_macro_f1() -> None:
    genre, predicted = labels(1)
    made = f1_macro_by_clip(genre, predicted)
    assert made.mean() == pytest.approx(f1_score(genre, predicted, labels=np.unique(genre), average="macro"))
    # Against leaving each out by hand.
    left = np.array(
        [
            f1_score(g, p, labels=np.unique(g), average="macro")
            for g, p in ((np.delete(genre, i), np.delete(predicted, i)) for i in range(len(genre)))
        ]
    )
    expected = -(len(genre) - 1) * left
    assert made - made.mean() == pytest.approx(expected - expected.mean())
    assert f1_macro_by_clip(np.zeros(4, dtype=int), np.zeros(4, dtype=int)) == pytest.approx(np.ones(4))


def test_a_true_null_of_macro_f1_keeps_the_level() -> None:
    outside = 0
    for number in range(300):
        drawn = uniform(number, "f1", 0, np.arange(200), np.arange(13)[:, None])
        genre = (drawn[12] * 5).astype(np.int64)
        scores = [
            f1_macro_by_clip(genre, np.where(drawn[i] < 0.6, genre, (drawn[6 + i] * 5).astype(np.int64)))
            for i in range(6)
        ]
        outside += estimate(np.stack(scores[:3]), np.stack(scores[3:])).p_value < LEVEL
    assert 0.02 <= outside / 300 <= 0.08

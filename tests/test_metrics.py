"""Figures against numbers worked out by hand, and an interval that covers what it says."""

import numpy as np
import pytest

from genrecls import metrics

GENRES = ("a", "b", "c")


def test_figures_by_hand() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
    genre = np.array([0, 0, 1, 1])
    made = metrics.figures(probabilities, genre, np.arange(4), GENRES)
    assert made.accuracy == 0.5
    # a: precision 1, recall 1/2, F1 2/3; b: precision 1/2, recall 1/2, F1 1/2; c is absent.
    assert made.precision_macro == pytest.approx((1 + 1 / 2) / 2)
    assert made.f1_macro == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert made.f1_weighted == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert made.absent == ("c",)
    assert made.cross_entropy == pytest.approx(-np.log([0.7, 0.4, 0.8, 0.3]).mean())
    assert metrics.confusion(probabilities, genre, 3) == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]
    table = metrics.per_genre(probabilities, genre, GENRES)
    assert table["a"] == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "clips": 2}
    assert table["c"] == {"precision": 0.0, "recall": None, "f1": None, "clips": 0}


def test_weighted_f1_weighs_by_clips() -> None:
    probabilities = np.eye(3)[[0, 0, 0, 1]]
    made = metrics.figures(probabilities, np.array([0, 0, 0, 2]), np.arange(4), GENRES)
    assert made.f1_weighted == pytest.approx(0.75)
    # The second genre is absent, and the third never predicted.
    assert made.precision_macro == pytest.approx(0.5)
    assert made.f1_macro == pytest.approx(0.5)


def test_a_certain_mistake_has_a_finite_cross_entropy() -> None:
    made = metrics.figures(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 1]), np.arange(2), ("a", "b"))
    assert np.isfinite(made.cross_entropy)
    assert made.cross_entropy > 300


def test_softmax_is_stable_and_sums_to_one() -> None:
    made = metrics.softmax(np.array([[1e4, 0, -1e4], [0, 0, 0]], dtype=np.float32))
    assert made.tolist()[0] == [1.0, 0.0, 0.0]
    assert made.sum(axis=1).tolist() == pytest.approx([1, 1])


def test_clips_are_the_mean_of_their_fragments() -> None:
    fragments = np.array([[1.0, 0.0], [0.0, 1.0], [0.2, 0.8]])
    assert metrics.mean_by_clip(fragments, np.array([0, 0, 1]), 2).tolist() == [[0.5, 0.5], [0.2, 0.8]]


def test_the_interval_covers_a_binomial_proportion() -> None:
    """95 % of intervals of 200 clips must hold the true 0.7: of 300, 285 +- 3.8."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        right = (rng.random(200) < 0.7).astype(np.float64)
        low, high = metrics.bootstrap_interval(right, np.arange(200))
        covered += low <= 0.7 <= high
    assert 270 <= covered <= 297


def test_fragments_of_one_clip_are_no_independent_evidence() -> None:
    rng = np.random.default_rng(2)
    right = (rng.random(100) < 0.6).astype(np.float64)
    low, high = metrics.bootstrap_interval(right, np.arange(100))
    assert metrics.bootstrap_interval(np.repeat(right, 9), np.repeat(np.arange(100), 9)) == pytest.approx((low, high))


def test_the_interval_is_the_same_every_time() -> None:
    right = np.array([1.0, 0, 1, 1, 0])
    assert metrics.bootstrap_interval(right, np.arange(5)) == metrics.bootstrap_interval(right, np.arange(5))

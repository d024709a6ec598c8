"""Figures from probabilities: accuracy with its interval, F1, cross-entropy, confusion.

scikit-learn is imported where it counts: that takes a fifth of the start of `predict`, which needs no figures.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrecls import exact
from genrecls.seeding import hash64, name_key

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Figures:
    """Figures over fragments or over clips.

    accuracy and its 95 % interval (accuracy_low, accuracy_high), precision_macro, f1_macro, f1_weighted: 0 to 1. The
    precision of a genre that was never predicted is 0.
    cross_entropy: mean of -ln p(genre), in nats. absent: genres with no clip, left out of the macro means.
    """

    accuracy: float
    accuracy_low: float
    accuracy_high: float
    precision_macro: float
    f1_macro: float
    f1_weighted: float
    cross_entropy: float
    absent: tuple[str, ...]

    def values(self) -> dict[str, float]:
        """The numbers alone, by name."""
        return {name: value for name, value in vars(self).items() if name != "absent"}


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities (n, genres) in float64."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    raised = exact.exp(shifted)
    return raised / raised.sum(axis=1, keepdims=True)


def mean_by_clip(probabilities: NDArray[np.float64], clip: NDArray[np.int64], clips: int) -> NDArray[np.float64]:
    """Mean probabilities of each clip's fragments. clip: (fragments,), number of the clip. -> (clips, genres)."""
    total = np.zeros((clips, probabilities.shape[1]))
    np.add.at(total, clip, probabilities)
    return total / np.bincount(clip, minlength=clips)[:, None]


def figures(
    probabilities: NDArray[np.float64], genre: NDArray[np.int64], clip: NDArray[np.int64], genres: tuple[str, ...]
) -> Figures:
    """Figures of n predictions.

    probabilities: (n, genres). genre: (n,), the true one. clip: (n,), from 0 and without gaps, which clip each is
    of: the interval resamples clips, because fragments of one clip are no independent evidence.
    """
    from sklearn.metrics import precision_recall_fscore_support

    predicted = probabilities.argmax(axis=1)
    right = (predicted == genre).astype(np.float64)
    low, high = bootstrap_interval(right, clip)
    present = np.unique(genre)
    precision, _, f1, support = precision_recall_fscore_support(genre, predicted, labels=present, zero_division=0)
    true = probabilities[np.arange(len(genre)), genre]
    return Figures(
        accuracy=float(right.mean()),
        accuracy_low=low,
        accuracy_high=high,
        precision_macro=float(precision.mean()),
        f1_macro=float(f1.mean()),
        f1_weighted=float((f1 * support).sum() / support.sum()),
        cross_entropy=float(-exact.log(np.maximum(true, np.finfo(np.float64).tiny)).mean()),
        absent=tuple(name for i, name in enumerate(genres) if i not in present),
    )


def bootstrap_interval(right: NDArray[np.float64], clip: NDArray[np.int64]) -> tuple[float, float]:
    """95 % percentile interval of the mean of `right`, resampling clips (Efron and Tibshirani 1993, chapter 13).

    The same clips give the same interval: the resamples are drawn from a fixed key.
    """
    clips = int(clip.max()) + 1
    sums = np.bincount(clip, weights=right, minlength=clips)
    sizes = np.bincount(clip, minlength=clips)
    bits = hash64(name_key("bootstrap"), np.arange(RESAMPLES)[:, None], np.arange(clips)[None, :])
    drawn = ((bits >> np.uint64(32)) * np.uint64(clips) >> np.uint64(32)).astype(np.int64)
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def f1_macro_by_clip(genre: NDArray[np.int64], predicted: NDArray[np.int64]) -> NDArray[np.float64]:
    """What each of at least two clips adds to macro F1, as pseudo-values of the jackknife, whose mean is macro F1.

    genre, predicted: (clips,), numbers of genres from 0. Macro F1 is no mean over clips; these make it one, to first
    order, so that what holds for means over clips can be applied (Efron and Tibshirani 1993, chapter 11). Each is n
    times macro F1 less n - 1 times that of the other clips, all moved by the constant that makes their mean macro F1.
    """
    clips, genres = len(genre), int(max(genre.max(), predicted.max())) + 1
    counts = np.bincount(genre * genres + predicted, minlength=genres * genres).reshape(genres, genres)
    whole, without = _f1_macro(counts), np.zeros(counts.shape)
    for cell in zip(*counts.nonzero(), strict=True):  # Clips of one cell are alike.
        counts[cell] -= 1
        without[cell] = _f1_macro(counts)
        counts[cell] += 1
    made = clips * whole - (clips - 1) * without[genre, predicted]
    return made + (whole - made.mean())


def _f1_macro(counts: NDArray[np.int64]) -> float:
    """Of a confusion matrix: mean over the genres that have clips."""
    support = counts.sum(axis=1)
    f1 = 2 * np.diag(counts) / np.maximum(support + counts.sum(axis=0), 1)
    return float(f1[support > 0].mean())


def per_genre(
    probabilities: NDArray[np.float64], genre: NDArray[np.int64], genres: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    """Precision, recall, F1 (0 to 1) and number of clips of each genre; None where a figure is undefined."""
    from sklearn.metrics import precision_recall_fscore_support

    predicted = probabilities.argmax(axis=1)
    table = precision_recall_fscore_support(genre, predicted, labels=np.arange(len(genres)), zero_division=0)
    made: dict[str, dict[str, Any]] = {}
    for i, name in enumerate(genres):
        precision, recall, f1, support = (float(column[i]) for column in table)
        made[name] = {
            "precision": precision if (predicted == i).any() else None,
            "recall": recall if support else None,
            "f1": f1 if support else None,
            "clips": int(support),
        }
    return made


def confusion(probabilities: NDArray[np.float64], genre: NDArray[np.int64], genres: int) -> list[list[int]]:
    """Counts: row is the true genre, column the predicted one."""
    from sklearn.metrics import confusion_matrix

    counts: list[list[int]] = confusion_matrix(genre, probabilities.argmax(axis=1), labels=np.arange(genres)).tolist()
    return counts

"""What the validation figures of the epochs say: which epoch is best, and how long nothing has improved.

A cost is the figure that `training.select` names, its sign such that lower is better.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

FIGURES = ("accuracy", "accuracy_low", "accuracy_high", "f1_macro", "f1_weighted", "cross_entropy")
"""What every version wrote of each level, clip and fragment, of `metrics.json`."""
RANKED_BY = ("accuracy", "f1_macro", "cross_entropy")
"""The figures of a validation or test subset that runs are put in order by."""


def cost(select: str, figures: Mapping[str, float]) -> float:
    """The cost of an epoch. select: a name in `figures`: cross_entropy, or one of which more is better."""
    return figures[select] if select == "cross_entropy" else -figures[select]


def stale(costs: Sequence[float], change: float) -> Iterator[int]:
    """For each epoch, how many epochs ago the cost last fell by more than `change` below the lowest that counted."""
    lowest, since = math.inf, 0
    for each in costs:
        if each < lowest - change:
            lowest, since = each, 0
        else:
            since += 1
        yield since


def exhausted(costs: Sequence[float], patience: int, change: float) -> bool:
    """Whether training stops early: the last `patience` epochs improved nothing. patience: 0 is never."""
    return patience > 0 and any(since >= patience for since in stale(costs, change))


def plateaus(costs: Sequence[float], patience: int, change: float) -> int:
    """How often more than `patience` epochs in a row improved nothing, counted anew after each such row."""
    return sum(since > 0 and since % (patience + 1) == 0 for since in stale(costs, change))

"""Draws that belong to a named thing of the corpus: an artist, a clip."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from genrecls.datasets.synth.exact import Signal
from genrecls.seeding import name_key, uniform

CORPUS_SEED = 20_250_117
Item = TypeVar("Item")


class Draws:
    """Keyed draws of one thing: each a function of the thing's name and of what the draw is for."""

    def __init__(self, name: str) -> None:
        self._key = name_key(name)

    def many(self, purpose: str, count: int) -> Signal:
        """`count` draws in [0, 1): float64 (count,)."""
        return uniform(CORPUS_SEED, f"synth/{purpose}", 0, self._key, np.arange(count))

    def one(self, purpose: str) -> float:
        """A draw in [0, 1)."""
        return float(self.many(purpose, 1)[0])

    def between(self, purpose: str, low: float, high: float) -> float:
        """A draw in [low, high)."""
        return low + (high - low) * self.one(purpose)

    def pick(self, purpose: str, choices: Sequence[Item]) -> Item:
        """One of `choices`, all equally likely."""
        return choices[int(self.one(purpose) * len(choices))]

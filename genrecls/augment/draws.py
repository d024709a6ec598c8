"""Drawn numbers by name, and what they come to."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrecls.seeding import hash64

Draw = Callable[[str], NDArray[np.float64]]
"""Gives float64 (crops,) in [0, 1) for a stream's name."""
Draws = Mapping[str, NDArray[np.float64]]
"""Drawn numbers, (crops,) each, by the stream's name without "augment."."""
Amounts = Mapping[str, NDArray[Any]]
"""What is done to each crop, (crops,) each: nothing of what is switched off, a neutral value where not chosen."""


def asked(draw: Draw, name: str, *numbers: str) -> dict[str, NDArray[np.float64]]:
    """The draws `name.apply` and `name.number` for each of `numbers`."""
    return {f"{name}.{number}": draw(f"augment.{name}.{number}") for number in ("apply", *numbers)}


def chosen(draws: Draws, name: str, probability: float, amount: NDArray[Any], neutral: float) -> NDArray[Any]:
    """`amount` where the draw `name.apply` is below the probability, elsewhere the neutral value."""
    return np.where(draws[f"{name}.apply"] < probability, amount, neutral)


def either_way(u: NDArray[np.float64], largest: int) -> NDArray[np.int64]:
    """Whole numbers from -largest to largest, each as likely as any other."""
    return np.floor(u * (2 * largest + 1)).astype(np.int64) - largest


def noise_keys(u: NDArray[np.float64]) -> NDArray[np.uint64]:
    """A well mixed key of 64 bits for each draw."""
    return hash64((u * 2.0**53).astype(np.uint64))

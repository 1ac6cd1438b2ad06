"""How often something should happen in independent draws, and what a count says of its probability; exact."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HALVINGS: Final = 60
"""Of an interval of probabilities, until nothing of it is left in a float."""


def expected(probabilities: Sequence[float], confidence: float = 0.95) -> tuple[int, int]:
    """Returns the counts that such draws give with at least this confidence, as the first and the last.

    Below and above lies at most half of what is left. If all draws have one probability, the distribution of
    the count is the binomial one.

    Args:
        probabilities: Of each draw; they are independent.
        confidence: As a share of one.
    """
    chances = np.ones(1)
    for probability in probabilities:
        chances = np.convolve(chances, [1 - probability, probability])
    tail = (1 - confidence) / 2
    below = list(itertools.accumulate(chances))
    above = list(itertools.accumulate(chances[::-1]))
    first = next(count for count, chance in enumerate(below) if chance > tail)
    last = len(probabilities) - next(count for count, chance in enumerate(above) if chance > tail)
    return first, last


def together(intervals: int, confidence: float = 0.95) -> float:
    """Returns the confidence of each of some independent intervals that all hold with this one (Šidák)."""
    return float(confidence ** (1 / intervals))


def interval(count: int, draws: int, confidence: float = 0.95) -> tuple[float, float]:
    """Returns the probabilities that do not make such a count unlikely (Clopper and Pearson).

    Args:
        count: How often it happened.
        draws: In how many.
        confidence: As a share of one.
    """
    tail = (1 - confidence) / 2
    low = _root(lambda p: _between(draws, p, count, draws) - tail) if count else 0.0
    high = _root(lambda p: tail - _between(draws, p, 0, count)) if count < draws else 1.0
    return low, high


def _root(rising: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2


def _between(draws: int, probability: float, first: int, last: int) -> float:
    """Returns the probability of a count from the first to the last; 0 < probability < 1."""
    return math.fsum(
        math.exp(
            math.lgamma(draws + 1)
            - math.lgamma(count + 1)
            - math.lgamma(draws - count + 1)
            + count * math.log(probability)
            + (draws - count) * math.log1p(-probability)
        )
        for count in range(first, last + 1)
    )

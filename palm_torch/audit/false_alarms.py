"""How often a threshold that came from honest runs is exceeded by another honest run.

Of n independent scores that any one distribution gave, let the threshold be the one that r of them exceed.
A further score of that distribution exceeds it with a probability that is itself random, Beta(r + 1, n - r);
whatever the distribution, its quantile is the bound of Clopper and Pearson for r events in n trials.
"""

from __future__ import annotations

import math
from typing import Final

from palm_torch.errors import DataError

_HALVINGS: Final = 60


def rate_bound(exceeding: int, runs: int, confidence: float) -> float:
    """Returns what the rate of false alarms is at most, with this confidence.

    Args:
        exceeding: r, how many of the runs exceed the threshold, below `runs`.
        runs: n.
        confidence: In (0, 1).

    Raises:
        DataError: If a number is out of range.
    """
    if not 0 <= exceeding < runs or not 0 < confidence < 1:
        raise DataError(
            f"false alarms: expected 0 to {runs - 1} of {runs} runs and a confidence in (0, 1), got "
            f"{exceeding} and {confidence!r}"
        )
    low, high = exceeding / runs, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if middle == high:  # no number lies between them
            break
        if at_most(exceeding, runs, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def expected_rate(exceeding: int, runs: int) -> float:
    """Returns the mean of that probability over all sets of runs: ``(r + 1) / (n + 1)``."""
    return (exceeding + 1) / (runs + 1)


def most_exceeding(runs: int, rate: float, confidence: float) -> int:
    """Returns how many runs may exceed a threshold so that the rate of false alarms is within a bound.

    Args:
        runs: n, at least 1.
        rate: The bound, in (0, 1).
        confidence: In (0, 1).

    Returns:
        r; 0 also where these are too few runs for the bound, which `rate_bound` then says.

    Raises:
        DataError: If a number is out of range.
    """
    if not 0 < rate < 1:
        raise DataError(f"false alarms: expected a rate in (0, 1), got {rate!r}")
    found = 0
    while found + 1 < runs and rate_bound(found + 1, runs, confidence) <= rate:
        found += 1
    return found


def runs_for(rate: float, confidence: float) -> int:
    """Returns how many runs the bound needs at least: ``⌈ln(1 - confidence) / ln(1 - rate)⌉``.

    Raises:
        DataError: If a number is out of range.
    """
    if not 0 < rate < 1 or not 0 < confidence < 1:
        raise DataError(f"false alarms: expected two numbers in (0, 1), got {rate!r} and {confidence!r}")
    return max(1, math.ceil(math.log1p(-confidence) / math.log1p(-rate)))


def at_most(events: int, trials: int, probability: float) -> float:
    """Returns the probability of so many events or fewer in independent trials.

    Args:
        events: From 0 to below `trials`.
        trials: How many.
        probability: Of an event, in (0, 1).
    """
    logarithms = (
        math.lgamma(trials + 1)
        - math.lgamma(count + 1)
        - math.lgamma(trials - count + 1)
        + count * math.log(probability)
        + (trials - count) * math.log1p(-probability)
        for count in range(events + 1)
    )
    return min(1.0, math.fsum(map(math.exp, logarithms)))

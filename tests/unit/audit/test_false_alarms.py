"""The bound on false alarms: known values, and against what honest runs do."""

from __future__ import annotations

import math
import random

import pytest

from palm_torch.audit import false_alarms
from palm_torch.errors import DataError


@pytest.mark.parametrize(
    ("exceeding", "runs", "bound"),
    [
        (0, 59, 1 - 0.05 ** (1 / 59)),
        (0, 1, 0.95),
        (1, 10, 0.3941633),  # tables of Clopper and Pearson
        (5, 100, 0.1022533),
    ],
)
def test_known_bounds(exceeding: int, runs: int, bound: float) -> None:
    assert false_alarms.rate_bound(exceeding, runs, 0.95) == pytest.approx(bound, abs=1e-6)


def test_the_bound_is_where_so_few_events_become_unlikely() -> None:
    bound = false_alarms.rate_bound(3, 40, 0.9)
    counted = sum(math.comb(40, k) * bound**k * (1 - bound) ** (40 - k) for k in range(4))
    assert counted == pytest.approx(0.1, abs=1e-9)


def test_enough_runs_for_a_rate() -> None:
    needed = false_alarms.runs_for(0.05, 0.95)
    assert needed == 59
    assert false_alarms.rate_bound(0, needed, 0.95) <= 0.05 < false_alarms.rate_bound(0, needed - 1, 0.95)
    assert false_alarms.runs_for(0.99, 0.01) == 1


@pytest.mark.parametrize(("runs", "expected"), [(1, 0), (58, 0), (59, 0), (93, 1), (124, 2)])
def test_how_many_may_exceed(runs: int, expected: int) -> None:
    assert false_alarms.most_exceeding(runs, 0.05, 0.95) == expected


def test_thresholds_of_honest_runs_keep_to_the_bound_as_often_as_it_says() -> None:
    source = random.Random(1)  # scores uniform in [0, 1]: above a threshold s lies 1 - s
    runs, exceeding = 30, 2
    bound = false_alarms.rate_bound(exceeding, runs, 0.9)
    kept, mean = 0, 0.0
    for _ in range(4000):
        threshold = sorted(source.random() for _ in range(runs))[-1 - exceeding]
        kept += 1 - threshold <= bound
        mean += (1 - threshold) / 4000
    assert kept / 4000 == pytest.approx(0.9, abs=0.015)
    assert mean == pytest.approx(false_alarms.expected_rate(exceeding, runs), abs=0.003)


@pytest.mark.parametrize(
    ("exceeding", "runs", "confidence"), [(-1, 9, 0.9), (9, 9, 0.9), (0, 9, 1.0), (0, 9, 0.0)]
)
def test_no_bound(exceeding: int, runs: int, confidence: float) -> None:
    with pytest.raises(DataError, match="false alarms: expected"):
        false_alarms.rate_bound(exceeding, runs, confidence)


def test_no_rate() -> None:
    with pytest.raises(DataError, match="expected a rate"):
        false_alarms.most_exceeding(9, 0, 0.9)
    for rate, confidence in ((0, 0.5), (0.5, 1)):
        with pytest.raises(DataError, match="expected two numbers"):
            false_alarms.runs_for(rate, confidence)


@pytest.mark.parametrize(("exceeding", "runs"), [(0, 1), (1, 2), (9, 10)])
def test_a_confidence_next_to_one_promises_nothing(exceeding: int, runs: int) -> None:
    assert false_alarms.rate_bound(exceeding, runs, 1 - 2**-53) == pytest.approx(1.0)

"""What counts on some traces say of others: `benchmarks/support/noticing.py`."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from palm_torch.commit import selection

sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))

from support import noticing, odds


@pytest.mark.parametrize("share", [0.0, 1e-6, 0.1, 0.8, 1.0])
def test_many_chances_are_those_of_one(share: float) -> None:
    for queries in (1, 16, 300):
        expected = selection.detection(share, 1, queries)
        assert noticing.noticed(np.array([share]), queries) == pytest.approx(expected)


def test_delta_is_a_share_of_all_places() -> None:
    assert noticing.Counted((10, 30), (10, 10)).delta == 0.5
    assert math.isnan(noticing.Counted().delta)


def test_one_place_in_each_trace_is_one_draw() -> None:
    """Alone, they say nothing of how alike the places of a trace are: Jeffreys' interval is left."""
    low, high = noticing.Noticing(noticing.Counted((1,) * 8, (1,) * 8)).mean()
    assert low == pytest.approx(0.7452, abs=0.01)  # beta(8.5, 0.5) at 2.5 %
    assert high > 0.999


def test_traces_that_are_alike_say_more_than_traces_that_are_not() -> None:
    alike = noticing.Noticing(noticing.Counted((100,) * 8, (30,) * 8)).mean()
    apart = noticing.Noticing(noticing.Counted((100,) * 8, (5, 55) * 4)).mean()
    for low, high in (alike, apart):
        assert low < 0.3 < high
    assert 2 * (alike[1] - alike[0]) < apart[1] - apart[0]


def test_a_known_share_leaves_binomial_counts() -> None:
    known = noticing.Noticing(noticing.Counted((4000,) * 30, (4000,) * 30))
    chances = known.predicted([0.1] * 4, [1000] * 4, 16)
    assert chances.shape == (noticing.SAMPLES, 4)
    assert chances.mean() == pytest.approx(selection.detection(0.1, 1, 16), abs=1e-3)
    exact = odds.expected([selection.detection(0.1, 1, 16)] * 120)
    found = noticing.within(known.counts(chances, 120))
    assert all(abs(ours - theirs) <= 1 for ours, theirs in zip(found, exact, strict=True))


def test_traces_that_differ_spread_the_counts() -> None:
    apart = noticing.Noticing(noticing.Counted((100,) * 8, (5, 55) * 4))
    chances = apart.predicted([0.5] * 8, [500] * 8, 16)
    low, high = noticing.within(apart.counts(chances, 120))
    alone = odds.expected([float(chances.mean())] * 120)
    assert low < alone[0]
    assert high > alone[1]
    assert noticing.within(apart.counts(chances, 120), 0.999)[0] < low


def test_one_broken_place_is_noticed_or_not() -> None:
    half = noticing.Noticing(noticing.Counted((1,) * 40, (1, 0) * 20))
    chances = half.predicted([0.25], [1], 4)
    assert list(np.unique(chances)) == [0.0, pytest.approx(selection.detection(0.25, 1, 4))]
    assert chances.mean() == pytest.approx(0.5 * selection.detection(0.25, 1, 4), abs=0.01)


def test_audits_take_traces_in_turn() -> None:
    known = noticing.Noticing(noticing.Counted())
    chances = np.tile([1.0, 0.0, 1.0], (50, 1))
    assert set(known.counts(chances, 7)) == {3 + 2}


def test_nothing_broken_is_never_noticed() -> None:
    nothing = noticing.Noticing(noticing.Counted())
    chances = nothing.predicted([0.0, 0.0], [0, 0], 16)
    assert noticing.within(nothing.counts(chances, 9)) == (0, 0)


def test_the_rarest_counts_are_left_out() -> None:
    counts = np.arange(100)
    assert noticing.within(counts, 0.75) == (12, 87)
    assert noticing.within(counts, 1.0) == (0, 99)


def test_intervals_that_hold_together_are_wider() -> None:
    assert odds.together(1) == 0.95
    assert odds.together(15) ** 15 == pytest.approx(0.95)

"""The verifier is told a time at which expired collateral, or a revoked platform, still looked well."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from workshop import NEVER, NOW

from palm_torch.errors import FreshnessError, InputError, RejectedError

if TYPE_CHECKING:
    from workshop import GoodRun

FAR = (timedelta(days=-36_500), timedelta(days=-400), timedelta(days=40), timedelta(days=36_500))


@pytest.mark.parametrize("shift", FAR)
def test_attack_50_a_time_far_from_the_collateral_is_refused(good: GoodRun, shift: timedelta) -> None:
    with pytest.raises(RejectedError):
        good.verify(at=NOW + shift)
    with pytest.raises(RejectedError):
        good.verify(at=NOW + shift, challenge=NEVER, freshness_rule="not_checked")


def test_the_edges_of_the_window(good: GoodRun) -> None:
    options = {"challenge": NEVER, "freshness_rule": "not_checked"}
    first, last = NOW - timedelta(hours=1), NOW + timedelta(days=30)
    for inside in (first, last - timedelta(seconds=1)):
        assert good.verify(at=inside, **options).checks
    for outside in (first - timedelta(seconds=1), last):
        with pytest.raises(RejectedError):
            good.verify(at=outside, **options)


def test_the_request_has_a_window_of_its_own(good: GoodRun) -> None:
    with pytest.raises(FreshnessError, match="the request expired at 2026-11-22T00:00:00Z"):
        good.verify(at=NOW + timedelta(hours=13))


def test_no_clock_is_asked(good: GoodRun) -> None:
    with pytest.raises(InputError, match="time zone"):
        good.verify(at=datetime(2026, 11, 21, 12))  # noqa: DTZ001 (a naive time is the point)
    assert good.verify(at=NOW).time.startswith("2026-11-21T12:00:00+00:00")

"""Waiting that ends."""

from __future__ import annotations

import threading

import pytest

from palm_torch.deadlines import Deadline, within


def test_what_is_done_in_time_is_handed_over() -> None:
    assert within(Deadline.after(60), lambda: 7) == 7


def test_what_is_raised_is_raised_here() -> None:
    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError, match="x"):
        within(Deadline.after(60), fail)


def test_waiting_ends_at_the_deadline() -> None:
    left = threading.Event()
    try:
        with pytest.raises(TimeoutError, match=r"not done after 0\.01 seconds"):
            within(Deadline.after(0.01), left.wait)
    finally:
        left.set()


def test_time_runs_out() -> None:
    assert 0 < Deadline.after(60).remaining() <= 60
    with pytest.raises(TimeoutError, match="not done after 0 seconds"):
        Deadline.after(0).remaining()

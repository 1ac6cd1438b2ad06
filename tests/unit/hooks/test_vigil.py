"""The thread that measures held weights: what breaks a measurement off, and what ends them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from palm_torch.errors import CoverageError
from palm_torch.hooks import vigil

if TYPE_CHECKING:
    from collections.abc import Iterator


class Stumbling:
    """Weights whose first measurements find that somebody writes the tables that they read."""

    def __init__(self, times: int) -> None:
        self._left = times

    def slices(self) -> Iterator[str | None]:
        if self._left:
            self._left -= 1
            raise RuntimeError("dictionary changed size during iteration")
        yield None


def watch(held: Any) -> list[vigil.Looked]:
    """Has two answers given and returns what the measurements found."""
    with vigil.Vigil(held, every_answers=1, every_s=60) as watching:
        for answers in itertools.count(1):
            watching.answered(answers)
            if found := watching.collect():
                return found
            watching._stopping.wait(0.01)
    raise AssertionError("unreachable")


@pytest.mark.parametrize("times", range(vigil.ATTEMPTS))
def test_a_measurement_that_breaks_off_is_made_again(times: int) -> None:
    assert watch(Stumbling(times))[0].changed is None


def test_one_that_breaks_off_each_time_is_told() -> None:
    with pytest.raises(CoverageError, match="could not be measured again: dictionary changed size"):
        watch(Stumbling(vigil.ATTEMPTS))

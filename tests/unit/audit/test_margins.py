"""Comparing committed numbers with bounded ones."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from palm_torch.audit import bounded, margins
from palm_torch.audit.bounded import Bounded
from palm_torch.audit.margins import Margin
from palm_torch.errors import DataError


def expected(*pairs: tuple[float, float]) -> Bounded:
    value, error = np.array(pairs).T
    return Bounded(value.copy(), error.copy())


def test_the_margin_is_that_of_the_worst_number() -> None:
    found = margins.compare(np.array([1.0, 2.25, 3.0], np.float32), expected((1, 1), (2, 0.5), (3, 0)))
    assert found == Margin(ratio=0.5, index=(1,), difference=0.25, bound=0.5, compared=3, unbounded=0)
    assert found.consistent


def test_a_number_outside_its_bound_is_inconsistent() -> None:
    found = margins.compare(np.array([[1.0, 2.0]], np.float16), expected((1, 0.1), (2.5, 0.25)).reshape(1, 2))
    assert (found.ratio, found.index, found.consistent) == (2.0, (0, 1), False)


def test_where_nothing_may_differ_nothing_does() -> None:
    table = np.array([1.0, -0.0], ml_dtypes.bfloat16)
    assert margins.compare(table, bounded.exact(table)).ratio == 0.0
    found = margins.compare(np.array([1.0, 2.0**-130], ml_dtypes.bfloat16), bounded.exact(table))
    assert (found.ratio, found.index) == (math.inf, (1,))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_missing_is_inconsistent_wherever_one_is_expected(bad: float) -> None:
    found = margins.compare(np.array([0.0, bad], np.float32), expected((0, 1), (1, 1e30)))
    assert found.index == (1,)
    assert not found.consistent


def test_an_infinity_is_consistent_where_the_bound_reaches_it() -> None:
    committed = np.array([np.inf, -np.inf, np.inf], np.float16)
    found = margins.compare(committed, expected((70000, 1), (-66000, 1), (65500, 8)))
    assert (found.ratio, found.index, found.difference) == (0.5, (2,), 4.0)
    assert not margins.compare(committed[:1], expected((65400, 8))).consistent
    assert not margins.compare(committed[:1], expected((-70000, 1))).consistent
    assert not margins.compare(np.array([65504.0], np.float16), expected((70000, 1))).consistent


def test_what_nothing_is_known_of_is_counted_and_not_compared() -> None:
    found = margins.compare(np.array([np.nan, 1.0], np.float32), expected((0, math.inf), (1, 0.5)))
    assert (found.ratio, found.compared, found.unbounded) == (0.0, 1, 1)
    found = margins.compare(np.array([np.nan], np.float32), expected((0, math.inf)))
    assert found == Margin(ratio=0.0, index=(), difference=0.0, bound=0.0, compared=0, unbounded=1)


def test_two_comparisons_count_together() -> None:
    one = margins.compare(np.array([1.0], np.float32), expected((2, 2)))
    two = margins.compare(np.array([1.0, 1.0], np.float32), expected((1, 1), (0, math.inf)))
    none = margins.compare(np.array([1.0], np.float32), expected((0, math.inf)))
    both = margins.worse(two, one)
    assert (both.ratio, both.index, both.compared, both.unbounded) == (0.5, (0,), 2, 1)
    assert margins.worse(none, two).index == (0,)


def test_another_shape_or_format_is_an_error() -> None:
    with pytest.raises(DataError, match=r"expected shape \(1,\), got \(2,\)"):
        margins.compare(np.zeros(2, np.float32), expected((0, 1)))
    with pytest.raises(DataError, match="expected one of float32, bfloat16, float16, got float64"):
        margins.compare(np.zeros(1), expected((0, 1)))

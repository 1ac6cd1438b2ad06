"""Bounded numbers: what they do with infinities, roundings and their own error. Enclosure is a property."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from palm_torch.audit import bounded
from palm_torch.audit.arithmetic import BFLOAT16, FLOAT16, FLOAT32
from palm_torch.audit.bounded import Bounded

X = bounded.exact(np.array([[1.5, -2.0], [0.0, 3.0]], np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_committed_numbers_are_exact_and_those_not_finite_are_not_known(dtype: type) -> None:
    found = bounded.exact(np.array([1.5, np.inf, -np.inf, np.nan, -0.0], dtype))
    assert found.value.tolist() == [1.5, 0.0, 0.0, 0.0, 0.0]
    assert found.error.tolist() == [0.0, np.inf, np.inf, np.inf, 0.0]
    assert bounded.exact(np.array([2.0], dtype)).error.tolist() == [0.0]


def test_what_became_infinite_or_no_number_is_not_known() -> None:
    found = bounded.bounded(
        np.array([1.0, np.inf, np.nan, 1.0, 1.0]), np.array([0.5, 0.0, 0.0, np.inf, np.nan])
    )
    assert found.value.tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert np.isfinite(found.error).tolist() == [True, False, False, False, False]
    assert found.error[0] > 0.5  # and that of float64


def test_what_is_not_known_stays_so_through_every_operation() -> None:
    unknown = Bounded(np.zeros(1), np.array([np.inf]))
    zero, one = bounded.exact(np.zeros(1, np.float32)), bounded.exact(np.ones(1, np.float32))
    results = [unknown + one, one - unknown, unknown * zero, zero * unknown, -unknown, unknown.times(0.0)]
    results += [unknown.plus(1.0), unknown.widened(relative=0.0), unknown.rounded(FLOAT32)]
    results += [unknown.through(np.tanh, slope=0.0), unknown.delivered(BFLOAT16)]
    assert all(np.isinf(result.error).all() for result in results)
    assert all(np.isfinite(result.value).all() for result in results)


def test_shapes_and_indices_are_those_of_arrays() -> None:
    assert X.shape == (2, 2)
    assert X[1].value.tolist() == [0.0, 3.0]
    assert X[:, 0].shape == (2,)
    assert X.reshape(4, 1).shape == (4, 1)
    assert X.magnitude.tolist() == [[1.5, 2.0], [0.0, 3.0]]
    assert (-X).value.tolist() == [[-1.5, 2.0], [-0.0, -3.0]]
    assert (X + X[1]).value.tolist() == [[1.5, 1.0], [0.0, 6.0]]


def test_a_rounding_errs_by_half_the_distance_of_neighbours() -> None:
    numbers = bounded.exact(np.array([1.0, 1.99, 2.0, 3.0, 0.0], np.float32))
    found = numbers.rounded(BFLOAT16).error
    assert found[:4] == pytest.approx(np.array([1, 1, 2, 2]) * 2.0**-8, rel=1e-9)
    assert 0.0 < found[4] < 2.0**-125  # what is flushed to zero
    assert numbers.rounded(BFLOAT16, times=2).error[0] == pytest.approx(2 * 2.0**-8, rel=1e-9)
    assert numbers.rounded(FLOAT16, times=0).error == pytest.approx(np.zeros(5), abs=1e-14)


def test_a_number_near_the_end_of_a_binade_rounds_like_the_next_one() -> None:
    near = Bounded(np.array([1.999]), np.array([0.01]))
    assert near.rounded(BFLOAT16).error[0] == pytest.approx(0.01 + 2.0**-7, rel=1e-6)


def test_only_what_goes_on_is_lost_beyond_the_largest_number() -> None:
    large = bounded.exact(np.array([70000.0, 65503.9, 60000.0], np.float32))
    assert np.isinf(large.rounded(FLOAT16).error).tolist() == [True, True, False]
    assert np.isinf(large.delivered(FLOAT16).error).tolist() == [False, False, False]
    assert not np.isinf(large.rounded(FLOAT32).error).any()


def test_the_binade_is_the_power_of_two_below() -> None:
    found = bounded.binade(np.array([0.0, 0.75, 1.0, 1.5, 4.0, np.inf, 2.0**-1074]))
    assert found.tolist() == [0.0, 0.5, 1.0, 1.0, 4.0, np.inf, 2.0**-1074]


def test_a_function_moves_errors_by_its_slope() -> None:
    x = Bounded(np.array([0.5]), np.array([0.1]))
    found = x.through(np.tanh, slope=1.0)
    assert found.value[0] == np.tanh(0.5)
    assert found.error[0] == pytest.approx(0.1)

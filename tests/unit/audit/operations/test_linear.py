"""Linear layers of torch lie within the bounds; other weights, and other numbers, do not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from operated import DTYPES, assert_consistent, assert_tight, exact, margin, of, quantised, stored
from torch.nn import functional

from palm_torch.audit import bounded
from palm_torch.audit.bounded import Bounded
from palm_torch.audit.operations import linear
from palm_torch.errors import DataError

SHAPES = [(1, 1, 1), (1, 64, 48), (7, 257, 33), (3, 2048, 129), (33, 96, 96)]


def made(rows: int, terms: int, out: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(rows * terms)
    x, w = torch.randn(rows, terms), torch.randn(out, terms) / math.sqrt(terms)
    return x.to(dtype), w.to(dtype), torch.randn(out).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_what_torch_computes_is_consistent(dtype: str, shape: tuple[int, int, int]) -> None:
    x, w, b = made(*shape, DTYPES[dtype])
    arithmetic = of(dtype)
    plain = linear.applied(exact(x), stored(w), None, arithmetic)
    biased = linear.applied(exact(x), stored(w), stored(b), arithmetic)
    turned = w.t().contiguous()
    other = linear.applied(exact(x), stored(turned), stored(b), arithmetic, transposed=True)
    assert_consistent(functional.linear(x, w), plain)
    assert_consistent(functional.linear(x, w, b), biased)
    assert_consistent(functional.linear(x, w) + b, biased)  # rounded before the bias too
    assert_consistent(torch.addmm(b, x, turned), other)
    for row in range(shape[0]):  # one token at a time, as with a cache
        assert_consistent(functional.linear(x[row : row + 1], w, b), biased[row : row + 1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_cancellation_is_within_the_bounds(dtype: str) -> None:
    x, w, _ = made(4, 512, 16, DTYPES[dtype])
    x, w = torch.cat([x * 50, -x * 50], 1), torch.cat([w, w], 1)
    expected = linear.applied(exact(x), stored(w), None, of(dtype))
    assert abs(expected.value).max() < 1e-9
    assert_consistent(functional.linear(x, w), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_subnormal_numbers_and_zeros_are_within_the_bounds(dtype: str) -> None:
    x, w, _ = made(4, 64, 16, DTYPES[dtype])
    least = torch.finfo(DTYPES[dtype]).smallest_normal
    for scale in (0.0, least / 8, least, least * 50):
        small = (x.double() * scale).to(DTYPES[dtype])
        assert_consistent(
            functional.linear(small, w), linear.applied(exact(small), stored(w), None, of(dtype))
        )


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_change_of_two_bounds_is_found(dtype: str) -> None:
    x, w, b = made(2, 128, 24, DTYPES[dtype])
    expected = linear.applied(exact(x), stored(w), stored(b), of(dtype))
    assert_tight(functional.linear(x, w, b), expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("terms", [256, 768])
def test_weights_of_8_bits_are_found(dtype: str, terms: int) -> None:
    x, w, b = made(4, terms, 256, DTYPES[dtype])
    expected = linear.applied(exact(x), stored(w), stored(b), of(dtype))
    found = margin(functional.linear(x, quantised(w), b), expected)
    assert found.ratio > 3.0


def test_coordinates_by_themselves_have_the_bounds_they_have_in_the_layer() -> None:
    x, w, b = made(3, 300, 700, torch.bfloat16)
    arithmetic, some = of("bfloat16"), [3, 699, 128]
    whole = linear.applied(exact(x), stored(w), stored(b), arithmetic)
    part = linear.applied(exact(x), stored(w)[some], stored(b)[some], arithmetic)
    assert part.value == pytest.approx(whole.value[:, some], rel=1e-12, abs=1e-12)
    assert part.error == pytest.approx(whole.error[:, some], rel=1e-9)


def test_inputs_with_errors_widen_the_bounds_by_what_they_may_change() -> None:
    x, w, _ = made(2, 40, 9, torch.float32)
    exactly = linear.applied(exact(x), stored(w), None, of("float32"))
    error = np.full((2, 40), 1e-3)
    found = linear.applied(Bounded(exact(x).value, error), stored(w), None, of("float32"))
    assert found.error - exactly.error == pytest.approx(error @ np.abs(stored(w).astype(float)).T, rel=1e-4)
    moved = x + 1e-3 * torch.randn(2, 40).sign()
    assert_consistent(functional.linear(moved, w), Bounded(found.value, found.error * 1.001))


def test_an_input_that_is_not_known_makes_its_row_unknown() -> None:
    x, w, b = made(3, 40, 9, torch.float32)
    x[1, 7] = torch.inf
    found = linear.applied(exact(x), stored(w), stored(b), of("float32"))
    assert np.isinf(found.error).all(axis=1).tolist() == [False, True, False]
    assert margin(functional.linear(x, w, b), found).unbounded == 9


def test_a_sum_that_may_leave_float32_on_the_way_is_not_known() -> None:
    x = torch.tensor([[3e38, 3e38, -3e38, 1.0]])
    w = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1e-3, 0.0, 0.0, 1.0]])
    found = linear.applied(exact(x), stored(w), None, of("float32"))
    assert np.isinf(found.error).tolist() == [[True, False]]


def test_float16_outputs_that_are_too_large_are_infinite() -> None:
    x, w = torch.full((1, 64), 300.0).half(), torch.full((2, 64), 300.0).half()
    w[1] *= -1
    given = functional.linear(x, w)
    assert torch.isinf(given).all()
    found = linear.applied(exact(x), stored(w), None, of("float16"))
    assert_consistent(given, found)
    assert not margin(-given, found).consistent


def test_a_wide_matrix_is_passed_in_pieces() -> None:
    w = torch.randn(5, 200_000, dtype=torch.float64).to(torch.bfloat16)
    sizes = [(start, end, piece.shape) for start, end, piece in linear.pieces(stored(w))]
    assert sizes == [(row, row + 1, (1, 200_000)) for row in range(5)]
    joined = np.concatenate([piece.copy() for _, _, piece in linear.pieces(stored(w[:, :50_001]))])
    assert (joined == stored(w[:, :50_001]).astype(float)).all()


@pytest.mark.parametrize(
    ("x", "w", "b", "transposed"),
    [
        ((2, 3), (4, 5), None, False),
        ((2, 3), (3, 4), None, False),
        ((2, 3), (4, 3), None, True),
        ((3,), (4, 3), None, False),
        ((2, 3), (4, 3), (3,), False),
        ((2, 3), (3, 4), (3,), True),
        ((2, 0), (4, 0), None, False),
        ((2, 3), (4, 3, 1), None, False),
    ],
)
def test_shapes_that_do_not_fit_are_an_error(
    x: tuple[int, ...], w: tuple[int, ...], b: tuple[int, ...] | None, *, transposed: bool
) -> None:
    bias = None if b is None else np.zeros(b, np.float32)
    with pytest.raises(DataError, match="linear layer: expected inputs"):
        linear.applied(
            bounded.exact(np.zeros(x, np.float32)),
            np.zeros(w, np.float32),
            bias,
            of("float32"),
            transposed=transposed,
        )

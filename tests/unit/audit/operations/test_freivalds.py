"""Sums with drawn signs: honest rows pass, a coordinate that is off escapes a draw with probability 1/2."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from operated import DTYPES, exact, of, quantised, stored
from torch.nn import functional

from palm_torch.audit import bounded
from palm_torch.audit.operations import freivalds
from palm_torch.errors import DataError


def made(rows: int, terms: int, out: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(rows + out)
    x, w = torch.randn(rows, terms), torch.randn(out, terms) / math.sqrt(terms)
    return x.to(dtype), w.to(dtype), torch.randn(out).to(dtype)


def signs(draws: int, out: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array([-1, 1], np.int8), (draws, out))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 8, 3), (9, 100, 64), (30, 257, 201)])
def test_what_torch_computes_is_consistent(dtype: str, shape: tuple[int, int, int]) -> None:
    x, w, b = made(*shape, DTYPES[dtype])
    drawn, turned = signs(4, shape[2]), w.t().contiguous()
    arithmetic = of(dtype)
    groups = -(-shape[2] // freivalds.GROUP)
    for bias in (None, b):
        held = None if bias is None else stored(bias)
        y = stored(functional.linear(x, w, bias))
        found = freivalds.checked(exact(x), y, stored(w), held, drawn, arithmetic)
        again = freivalds.checked(exact(x), y, stored(turned), held, drawn, arithmetic, transposed=True)
        assert found.consistent
        assert again.ratio == pytest.approx(found.ratio, rel=1e-3)
        assert (found.compared, found.unbounded) == (4 * shape[0] * groups, 0)


@pytest.mark.parametrize("seed", range(8))
def test_an_error_above_the_bound_of_its_group_is_found_by_one_of_two_signs(seed: int) -> None:
    x, w, _ = made(5, 64, 128, torch.bfloat16)
    y = functional.linear(x, w)
    drawn = signs(1, 128, seed)
    honest = freivalds.checked(exact(x), stored(y), stored(w), None, drawn, of("bfloat16"))
    y[3, 70] += 1.1 * honest.bound * 2
    flipped = drawn.copy()
    flipped[0, 70] *= -1
    found = [
        freivalds.checked(exact(x), stored(y), stored(w), None, one, of("bfloat16"))
        for one in (drawn, flipped)
    ]
    caught = [one for one in found if not one.consistent]
    assert caught
    assert {one.index for one in caught} == {(0, 3, 1)}


def test_weights_of_8_bits_are_found_in_small_groups() -> None:
    x, w, b = made(64, 768, 256, torch.float32)
    y = stored(functional.linear(x, quantised(w), b))
    found = freivalds.checked(exact(x), y, stored(w), stored(b), signs(4, 256), of("float32"), group=8)
    assert found.ratio > 3.0


def test_swapped_rows_and_swapped_coordinates_are_found() -> None:
    x, w, b = made(20, 96, 64, torch.bfloat16)
    y = functional.linear(x, w, b)
    for wrong in (y.flip(0), y.flip(1)):
        found = freivalds.checked(exact(x), stored(wrong), stored(w), stored(b), signs(2, 64), of("bfloat16"))
        assert not found.consistent


def test_infinite_outputs_are_compared_by_themselves() -> None:
    x, w, _ = made(4, 64, 130, torch.float16)
    x[2] *= 2000
    w[100] *= 3000 / w[100].abs().max()
    y = functional.linear(x, w)
    assert torch.isinf(y[2]).any()
    assert not torch.isinf(y[[0, 1, 3]]).any()
    found = freivalds.checked(exact(x), stored(y), stored(w), None, signs(2, 130), of("float16"))
    assert found.consistent
    assert found.compared == 2 * 3 * 3 + 130
    y[1, 129] = torch.inf
    found = freivalds.checked(exact(x), stored(y), stored(w), None, signs(2, 130), of("float16"))
    assert (found.consistent, found.index) == (False, (0, 1, 2))


def test_rows_whose_inputs_are_not_known_are_counted() -> None:
    x, w, _ = made(4, 64, 130, torch.float32)
    y = functional.linear(x, w)
    x[2, 5] = torch.nan
    found = freivalds.checked(exact(x), stored(y), stored(w), None, signs(2, 130), of("float32"))
    assert (found.compared, found.unbounded, found.consistent) == (2 * 3 * 3, 2 * 3, True)
    y = functional.linear(x, w)
    found = freivalds.checked(exact(x), stored(y), stored(w), None, signs(2, 130), of("float32"))
    assert (found.compared, found.unbounded, found.consistent) == (2 * 3 * 3, 130, True)
    found = freivalds.checked(exact(x)[2:3], stored(y)[2:3], stored(w), None, signs(2, 130), of("float32"))
    assert (found.compared, found.unbounded, found.index) == (0, 130, ())


@pytest.mark.parametrize(
    ("y", "drawn", "group", "message"),
    [
        ((2, 5), signs(1, 4), 64, r"expected outputs of shape \(2, 4\), got \(2, 5\)"),
        ((2, 4), signs(1, 5), 64, "signs: expected draws of 4"),
        ((2, 4), signs(0, 4), 64, "signs: expected draws of 4"),
        ((2, 4), signs(1, 4)[0], 64, "signs: expected draws of 4"),
        ((2, 4), signs(1, 4) * 2, 64, "signs: expected draws of 4"),
        ((2, 4), signs(1, 4), 0, "group: expected 1 or more coordinates, got 0"),
    ],
)
def test_what_does_not_fit_is_an_error(
    y: tuple[int, int], drawn: np.ndarray, group: int, message: str
) -> None:
    x, w = bounded.exact(np.zeros((2, 3), np.float32)), np.zeros((4, 3), np.float32)
    with pytest.raises(DataError, match=message):
        freivalds.checked(x, np.zeros(y, np.float32), w, None, drawn, of("float32"), group=group)

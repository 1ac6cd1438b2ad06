"""Rotary positions as transformers compute them lie within the bounds; those of other positions do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from operated import DTYPES, assert_consistent, assert_tight, exact, margin, of

from palm_torch.audit.operations import rotary
from palm_torch.errors import DataError

POSITIONS = torch.tensor([0, 1, 2, 17, 255, 4000, 131_071, 5_000_000])


def angles(positions: torch.Tensor, theta: float, width: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    frequency = 1.0 / (theta ** (torch.arange(0, width, 2, dtype=torch.float) / width))
    angle = positions[:, None].float() * frequency
    whole = torch.cat((angle, angle), -1)
    return whole.cos().to(dtype), whole.sin().to(dtype)


def turned(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    half = x.shape[-1] // 2
    rotated = torch.cat((-x[..., half:], x[..., :half]), -1)
    return x * cosine[:, None] + rotated * sine[:, None]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("theta", "width"), [(1e4, 64), (5e5, 128), (1e6, 6), (1e4, 2)])
def test_what_transformers_compute_is_consistent(dtype: str, theta: float, width: int) -> None:
    torch.manual_seed(width)
    x = (torch.randn(len(POSITIONS), 3, width) * 4).to(DTYPES[dtype])
    cosine, sine = angles(POSITIONS, theta, width, DTYPES[dtype])
    known = rotary.turns(POSITIONS.numpy(), theta, width, of(dtype))
    assert_consistent(cosine[:, : width // 2], known.cosine)
    assert_consistent(sine[:, : width // 2], known.sine)
    assert_consistent(turned(x, cosine, sine), rotary.turned(exact(x), known, of(dtype)))


def test_the_error_grows_with_the_position_and_is_small_where_models_are_used() -> None:
    known = rotary.turns(np.array([0, 1, 1000, 100_000]), 1e4, 64, of("float32"))
    error = known.cosine.error.max(axis=1)
    assert error[0] < 1e-6
    assert error[2] < 6e-4
    assert error[1] < error[2] < error[3]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_change_of_two_bounds_is_found(dtype: str) -> None:
    torch.manual_seed(3)
    positions = torch.tensor([5, 100])
    x = torch.randn(2, 2, 16).to(DTYPES[dtype])
    given = turned(x, *angles(positions, 1e4, 16, DTYPES[dtype]))
    assert_tight(
        given, rotary.turned(exact(x), rotary.turns(positions.numpy(), 1e4, 16, of(dtype)), of(dtype))
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_another_position_another_base_and_no_turn_at_all_are_found(dtype: str) -> None:
    torch.manual_seed(4)
    positions = torch.tensor([900, 901])
    x = torch.randn(2, 2, 64).to(DTYPES[dtype])
    expected = rotary.turned(exact(x), rotary.turns(positions.numpy(), 1e4, 64, of(dtype)), of(dtype))
    for wrong in (
        turned(x, *angles(positions + 1, 1e4, 64, DTYPES[dtype])),
        turned(x, *angles(positions, 1.1e4, 64, DTYPES[dtype])),
        x,
    ):
        assert not margin(wrong, expected).consistent


def test_what_float32_cannot_count_or_does_not_fit_is_an_error() -> None:
    with pytest.raises(DataError, match="expected an even width of a head, got 7"):
        rotary.turns(np.array([1]), 1e4, 7, of("float32"))
    with pytest.raises(DataError, match="expected an even width of a head, got 0"):
        rotary.turns(np.array([1]), 1e4, 0, of("float32"))
    for bad in (-1, 1 << 24):
        with pytest.raises(DataError, match="expected 0 to 16777215, got "):
            rotary.turns(np.array([1, bad]), 1e4, 8, of("float32"))
    known = rotary.turns(np.array([1, 2]), 1e4, 8, of("float32"))
    for shape in ((2, 8), (3, 1, 8), (2, 1, 10)):
        with pytest.raises(DataError, match=r"expected heads of shape \(2, heads, 8\), got"):
            rotary.turned(exact(torch.zeros(shape)), known, of("float32"))
    assert rotary.turns(np.array([], np.int64), 1e4, 8, of("float32")).cosine.shape == (0, 4)

"""Norms of torch and of transformers lie within the bounds; other norms do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from operated import DTYPES, assert_consistent, assert_tight, exact, margin, of, stored
from torch.nn import functional

from palm_torch.audit import bounded
from palm_torch.audit.bounded import Bounded
from palm_torch.audit.operations import norms
from palm_torch.errors import DataError

WIDTHS = [1, 16, 257, 2048]


def made(
    width: int, dtype: torch.dtype, *, shift: float = 0.0, scale: float = 3.0
) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(width)
    x = torch.randn(6, width) * scale + shift
    return x.to(dtype), (1 + torch.randn(width) / 10).to(dtype), torch.randn(width).to(dtype)


def rms(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """As transformers compute it."""
    wide = x.to(torch.float32)
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)
    return weight * wide.to(x.dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_root_mean_square_norms_are_consistent(dtype: str, width: int) -> None:
    for scale in (3.0, 1e-4, 200.0):
        x, w, _ = made(width, DTYPES[dtype], scale=scale)
        expected = norms.rms(exact(x), stored(w), 1e-6, of(dtype))
        assert_consistent(rms(x, w, 1e-6), expected)
        assert_consistent(functional.rms_norm(x, (width,), w, 1e-6), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_heads_have_norms_of_their_own(dtype: str) -> None:
    torch.manual_seed(1)
    x, w = torch.randn(3, 4, 64).to(DTYPES[dtype]), torch.randn(64).to(DTYPES[dtype])
    expected = norms.rms(exact(x), stored(w), 1e-6, of(dtype))
    assert expected.shape == (3, 4, 64)
    assert_consistent(rms(x, w, 1e-6), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("shift", [0.0, 2.0, -20.0])
def test_layer_norms_are_consistent(dtype: str, width: int, shift: float) -> None:
    x, w, b = made(width, DTYPES[dtype], shift=shift)
    expected = norms.layer(exact(x), stored(w), stored(b), 1e-5, of(dtype))
    given = functional.layer_norm(x, (width,), w, b, 1e-5)
    if np.isfinite(expected.error).all():
        assert_consistent(given, expected)
    else:  # one channel has no variance
        assert width == 1
    if width > 1:
        bare = norms.layer(exact(x), stored(w), None, 1e-5, of(dtype))
        assert_consistent(functional.layer_norm(x, (width,), w, None, 1e-5), bare)


@pytest.mark.parametrize("way", ["two passes", "one pass", "running"])
def test_every_way_to_a_variance_is_consistent(way: str) -> None:
    x, w, b = made(700, torch.float32, shift=3.0)
    mean = x.mean(-1, keepdim=True)
    if way == "two passes":
        variance = (x - mean).pow(2).mean(-1, keepdim=True)
    elif way == "one pass":
        variance = x.pow(2).mean(-1, keepdim=True) - mean.pow(2)
    else:
        mean, variance = torch.zeros(6, 1), torch.zeros(6, 1)
        for count in range(1, 701):  # Welford's
            step = x[:, count - 1 : count] - mean
            mean = mean + step / count
            variance = variance + step * (x[:, count - 1 : count] - mean)
        variance = variance / 700
    root = torch.rsqrt(variance + 1e-5)
    expected = norms.layer(exact(x), stored(w), stored(b), 1e-5, of("float32"))
    assert_consistent((x - mean) * root * w + b, expected)
    assert_consistent((x * root - mean * root) * w + b, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_change_of_two_bounds_is_found(dtype: str) -> None:
    x, w, b = made(48, DTYPES[dtype])
    assert_tight(rms(x, w, 1e-6), norms.rms(exact(x), stored(w), 1e-6, of(dtype)))
    given = functional.layer_norm(x, (48,), w, b, 1e-5)
    assert_tight(given, norms.layer(exact(x), stored(w), stored(b), 1e-5, of(dtype)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_another_epsilon_another_norm_and_other_weights_are_found(dtype: str) -> None:
    x, w, b = made(512, DTYPES[dtype], shift=1.0, scale=0.5)
    expected = norms.rms(exact(x), stored(w), 1e-6, of(dtype))
    assert not margin(rms(x, w, 0.05), expected).consistent
    assert not margin(functional.layer_norm(x, (512,), w, None, 1e-6), expected).consistent
    assert not margin(rms(x, w * 1.02, 1e-6), expected).consistent
    layered = norms.layer(exact(x), stored(w), stored(b), 1e-5, of(dtype))
    assert not margin(functional.layer_norm(x, (512,), w, b * 1.05, 1e-5), layered).consistent


@pytest.mark.parametrize("dtype", DTYPES)
def test_inputs_with_errors_widen_the_bounds_enough(dtype: str) -> None:
    x, w, b = made(64, DTYPES[dtype])
    loose = Bounded(exact(x).value, np.full((6, 64), 0.02))
    torch.manual_seed(5)
    for _ in range(20):
        moved = (x.double() + 0.019 * torch.randn(6, 64).sign()).to(torch.float32)
        near = rms(moved, w.float(), 1e-6)
        found = norms.rms(loose, stored(w), 1e-6, of(dtype))
        assert (np.abs(stored(near) - found.value) <= found.error).all()
        near = functional.layer_norm(moved, (64,), w.float(), b.float(), 1e-5)
        found = norms.layer(loose, stored(w), stored(b), 1e-5, of(dtype))
        assert (np.abs(stored(near) - found.value) <= found.error).all()


def test_a_row_of_zeros_is_consistent() -> None:
    x, w, b = torch.zeros(2, 32), torch.ones(32), torch.randn(32)
    assert_consistent(rms(x, w, 1e-6), norms.rms(exact(x), stored(w), 1e-6, of("float32")))
    given = functional.layer_norm(x, (32,), w, b, 1e-5)
    assert_consistent(given, norms.layer(exact(x), stored(w), stored(b), 1e-5, of("float32")))


def test_where_nothing_is_known_nothing_is_said() -> None:
    flat = torch.full((1, 64), 100.0)  # a variance of 0, less than its error
    found = norms.layer(exact(flat), np.ones(64, np.float32), None, 1e-12, of("float32"))
    assert np.isinf(found.error).all()
    large = torch.full((1, 64), 1e30)  # squares beyond float32
    found = norms.rms(exact(large), np.ones(64, np.float32), 1e-6, of("float32"))
    assert np.isinf(found.error).all()
    large[0, 3] = torch.nan
    assert np.isinf(norms.rms(exact(large), np.ones(64, np.float32), 1e-6, of("float32")).error).all()


def test_parameters_of_another_shape_are_an_error() -> None:
    x, four, five = bounded.exact(np.ones((2, 4), np.float32)), np.ones(4, np.float32), np.ones(5, np.float32)
    with pytest.raises(DataError, match=r"norm: expected a weight of 4 channels, got shape \(5,\)"):
        norms.rms(x, five, 1e-6, of("float32"))
    with pytest.raises(DataError, match="norm: expected a bias of 4 channels"):
        norms.layer(x, four, five, 1e-6, of("float32"))
    with pytest.raises(DataError, match="norm: expected a weight of 0 channels"):
        norms.rms(x[:, :0], four[:0], 1e-6, of("float32"))
